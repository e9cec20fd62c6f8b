"""A student that does not exist before its teacher does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pruned import prune_layers
from kdlight.models.pretrained import load_model


class StudentRecipe(ABC):
    """How to build a student from its teacher's network.

    `kdlight.DistillationModule` takes one in place of a student. Subclass it for students of your
    own that begin from their teacher: pruned, narrowed, quantised.

    Example:
        >>> class Smaller(StudentRecipe):
        ...     def build(self, teacher):
        ...         return nn.Linear(teacher.in_features, teacher.out_features, bias=False)
        >>> Smaller().build(nn.Linear(4, 3))
        Linear(in_features=4, out_features=3, bias=False)
    """

    @abstractmethod
    def build(self, teacher: nn.Module | None) -> nn.Module:
        """The student; ``teacher`` is left as it is."""


class PrunedCausalLM(StudentRecipe):
    """The recipe of a student that is cut from its teacher; it builds when it meets the teacher.

    Args:
        layers: which layers of the teacher the student keeps, or how many (evenly spaced, with the
            first and the last), see `choose_layers`.
        source: the model to cut, when it is not the teacher, spelled as for `CausalLM`.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: of the student. float32, whatever the teacher's, because small updates are lost in a
            half-precision weight.

    Example:
        >>> PrunedCausalLM(10)
        PrunedCausalLM(layers=10)
    """

    def __init__(
        self,
        layers: int | list[int],
        *,
        source: str | None = None,
        gguf_file: str | None = None,
        dtype: str = "float32",
    ) -> None:
        self.layers = layers
        self.source = source
        self.gguf_file = gguf_file
        self.dtype = dtype

    def __repr__(self) -> str:
        source = "" if self.source is None else f", source={self.source!r}"
        return f"{type(self).__name__}(layers={self.layers}{source})"

    def build(self, teacher: Any = None) -> CausalLM:
        """Cut the student out of ``teacher``, or out of ``source`` if there is one.

        Args:
            teacher: a `CausalLM` or the Hugging Face model in it; it is left as it is.

        Raises:
            TypeError: there is no ``source``, and the teacher is not a causal language model.
            ValueError: ``layers`` does not fit.
        """
        return CausalLM.wrap(prune_layers(find_base(self, teacher), self.layers, dtype=self.dtype))


def find_base(recipe: Any, teacher: Any) -> Any:
    """The Hugging Face model that a recipe begins from: that of its ``source``, or the teacher's.

    Raises:
        TypeError: there is no ``source``, and the teacher is not a causal language model.
    """
    if recipe.source is not None:
        return load_model(recipe.source, gguf_file=recipe.gguf_file, dtype=recipe.dtype)
    model = teacher.model if isinstance(teacher, CausalLM) else teacher
    if not hasattr(model, "get_output_embeddings"):
        raise TypeError(
            f"{recipe!r} begins from a Hugging Face causal language model, and the teacher is"
            f" {type(teacher).__name__}; name the model to begin from by `source`"
        )
    return model
