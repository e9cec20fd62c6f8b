"""A student of which only low-rank adapters are trained (LoRA)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import nn

from kdlight.checks import check_integer, check_positive, check_range, check_type
from kdlight.models.causal_lm import CausalLM
from kdlight.models.new_copy import copy_in_dtype
from kdlight.models.pretrained import parse_dtype
from kdlight.models.recipes.adapted_causal_lm import AdaptedCausalLM
from kdlight.models.recipes.pruned_causal_lm import PrunedCausalLM
from kdlight.models.recipes.student_recipe import StudentRecipe, load_base

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule


class LoRACausalLM(StudentRecipe):
    r"""The recipe of a student with frozen weights and trainable low-rank adapters.

    .. math:: W' = W + \frac{alpha}{r} B A, \qquad A \in R^{r \times in}, B \in R^{out \times r}

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, eq. (3); implemented by
    the package peft. Choose it if the optimizer states of a whole student do not fit in memory, or
    if many students share one base model. The outputs of a new student equal those of its base
    model, since B is initialized to zero. Without ``source`` and ``layers``, the base model is a
    copy of the whole teacher, so the student starts equal to its teacher.

    Checkpoints of a run contain the frozen weights too, so an export needs nothing else.

    Args:
        source: the base model if it is not the teacher, spelled as for `kdlight.CausalLM`.
        layers: prune the base model to these layers, to this number of layers, or to the most
            important ones, see `kdlight.PrunedCausalLM`; None keeps all.
        data: what the importance of layers is measured on, see `kdlight.PrunedCausalLM`.
        batches: number of batches to measure on; None for 4.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: dtype of the frozen weights. The adapters are always float32.
        r: rank of an adapter.
        alpha: strength of an adapter; its output is multiplied by ``alpha / r``.
        dropout: dropout rate on the inputs of the adapters, in training.
        target_modules: names of the layers to adapt, such as ``["q_proj", "v_proj"]``, or a regular
            expression; by default every linear layer except the output head.

    Raises:
        ImportError: If peft is not installed.
        TypeError: If an argument is of another type.
        ValueError: If a number is outside its range, ``layers`` are measured without ``data``, or
            there are ``data`` without ``layers``.

    Example:
        >>> LoRACausalLM("some/model", r=4)
        LoRACausalLM(source='some/model', r=4)
    """

    shown = ("source", "layers", "r")

    def __init__(
        self,
        source: str | None = None,
        *,
        layers: int | list[int] | dict | None = None,
        data: LightningDataModule | list | None = None,
        batches: int | None = None,
        gguf_file: str | None = None,
        dtype: str = "float32",
        r: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        target_modules: str | list[str] = "all-linear",
    ) -> None:
        if find_spec("peft") is None:
            raise ImportError("LoRACausalLM needs the package peft: pip install 'kdlight[peft]'")
        check_integer("r", r, 1)
        check_type("alpha", alpha, (int, float), "a number")
        check_positive("alpha", alpha)
        check_type("dropout", dropout, (int, float), "a number")
        check_range("dropout", dropout, 0, 1, open_high=True)
        parse_dtype(dtype)
        check_target_modules(target_modules)
        if layers is None and (data is not None or batches is not None):
            given = "batches" if data is None else "data"
            raise ValueError(
                f"{given} says what the importance of layers is measured on, but layers is None,"
                " which keeps all; set layers, such as {'keep': 10, 'by': 'importance'}, or leave"
                f" {given} out"
            )
        base = {"source": source, "gguf_file": gguf_file, "dtype": dtype}
        self.pruned = (
            None if layers is None else PrunedCausalLM(layers, data=data, batches=batches, **base)  # type: ignore[arg-type]
        )
        self.source = source
        self.layers = layers
        self.gguf_file = gguf_file
        self.dtype = dtype
        self.r, self.alpha, self.dropout = r, alpha, dropout
        self.target_modules = target_modules

    def build(self, teacher: Any = None) -> AdaptedCausalLM:
        """Add adapters to a copy of ``teacher``, or to the model at ``source`` if there is one.

        Args:
            teacher: a `CausalLM` or a Hugging Face model; it is not changed.

        Raises:
            TypeError: If there is no ``source``, and the teacher is not a causal language model.
            ValueError: If ``layers`` or ``target_modules`` do not fit the model.
        """
        from peft import LoraConfig, TaskType, get_peft_model

        if self.pruned is not None:
            base = self.pruned.build(teacher).model
        else:
            base = load_base(self, teacher)
            if self.source is None:
                base = copy_in_dtype(base, self.dtype)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
        )
        try:
            adapted = get_peft_model(base, config)
        except ValueError as error:
            kinds = sorted({n.rpartition(".")[2] for n in linear_names(base)})
            raise ValueError(
                f"target_modules={self.target_modules!r} does not fit {type(base).__name__}, whose"
                f" linear layers are called {', '.join(kinds)}: {error}"
            ) from error
        student = AdaptedCausalLM.wrap(adapted)
        assert isinstance(student, AdaptedCausalLM)
        student.has_own_base = self.pruned is not None
        return student

    def export(self, student: nn.Module) -> CausalLM:
        """Return a copy of a trained student with the adapters merged, in evaluation mode.

        Args:
            student: what `build` returned, after training; it is not changed.

        Raises:
            TypeError: If the student has no adapters.
        """
        check_type("student", student, AdaptedCausalLM, "a student with adapters")
        assert isinstance(student, AdaptedCausalLM)
        return student.merged()

    def rebuild_arguments(self) -> dict[str, Any]:
        """Return the arguments that build a student of the same shape without data."""
        return {} if self.pruned is None else self.pruned.rebuild_arguments()


def check_target_modules(value: Any) -> None:
    """Raise an error for what cannot name the layers to adapt.

    Raises:
        TypeError: If it is neither a text nor a list of texts.
        ValueError: If it is empty.

    Example:
        >>> check_target_modules([])
        Traceback (most recent call last):
        ValueError: target_modules must name at least one layer, got []
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set)) or not all(isinstance(n, str) for n in names):
        raise TypeError(
            f"target_modules must be a text or a list of names of layers, got {value!r}"
        )
    if not names or not all(names):
        raise ValueError(f"target_modules must name at least one layer, got {value!r}")


def linear_names(model: nn.Module) -> list[str]:
    """Return the names of the linear layers of a model, those of GPT-2 among them.

    Example:
        >>> linear_names(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        ['0']
    """
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"
    ]
