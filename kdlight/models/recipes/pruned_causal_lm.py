"""A student that is its teacher with fewer layers."""

from __future__ import annotations

from typing import Any

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pretrained import parse_dtype
from kdlight.models.pruning.layer_pruning import prune_layers
from kdlight.models.recipes.student_recipe import StudentRecipe, load_base


class PrunedCausalLM(StudentRecipe):
    """The recipe of a student with some layers of its teacher, see `prune_layers`.

    Args:
        layers: the layers of the teacher that the student keeps, or their number (evenly spaced,
            with the first and the last), see `choose_layers`.
        source: the model to prune instead of the teacher, spelled as for `CausalLM`.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: dtype of the student. The default is float32 whatever the teacher's dtype, because
            small updates are lost in half-precision weights.

    Raises:
        ValueError: If ``dtype`` is no floating-point dtype.

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
        parse_dtype(dtype)
        self.layers = layers
        self.source = source
        self.gguf_file = gguf_file
        self.dtype = dtype

    def __repr__(self) -> str:
        source = "" if self.source is None else f", source={self.source!r}"
        return f"{type(self).__name__}(layers={self.layers}{source})"

    def build(self, teacher: Any = None) -> CausalLM:
        """Prune ``teacher``, or the model at ``source`` if there is one.

        Args:
            teacher: a `CausalLM` or a Hugging Face model; it is not changed.

        Raises:
            TypeError: If there is no ``source``, and the teacher is not a causal language model.
            ValueError: If ``layers`` does not fit the model.
        """
        return CausalLM.wrap(prune_layers(load_base(self, teacher), self.layers, dtype=self.dtype))
