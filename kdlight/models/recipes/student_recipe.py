"""Students that are built from their teacher."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from kdlight.models.baking import bake
from kdlight.models.causal_lm import CausalLM
from kdlight.models.pretrained import load_model


class StudentRecipe(ABC):
    """How to build a student from its teacher's network.

    `kdlight.DistillationModule` accepts a recipe in place of a student. Write a subclass for your
    own students that are derived from their teacher: pruned, narrowed, quantized.

    Attributes:
        shown: arguments that its text shows, where they are not None.

    Example:
        >>> class Smaller(StudentRecipe):
        ...     def build(self, teacher):
        ...         return nn.Linear(teacher.in_features, teacher.out_features, bias=False)
        >>> Smaller().build(nn.Linear(4, 3))
        Linear(in_features=4, out_features=3, bias=False)
    """

    shown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.shown}
        inner = ", ".join(f"{name}={each!r}" for name, each in values.items() if each is not None)
        return f"{type(self).__name__}({inner})"

    @abstractmethod
    def build(self, teacher: nn.Module | None) -> nn.Module:
        """Return the student; ``teacher`` is not changed."""

    def export(self, student: nn.Module) -> nn.Module:
        """Return a copy of a trained student without what only its training needs.

        It is in evaluation mode, and its outputs are those of the student. Parametrized weights,
        such as those of `kdlight.models.Quantized`, become plain weights. Files are written by
        `kdlight.callbacks.ExportStudent` and ``kdlight export``, with the same weights.

        Args:
            student: what `build` returned, after training; it is not changed.

        Raises:
            ValueError: If the student is sharded over ranks.
        """
        return bake(student)

    def rebuild_arguments(self) -> dict[str, Any]:
        """Return arguments to change, so that a student of the same shape is built without data.

        A recipe that measures something on data returns what was chosen, after `build`; others, as
        here, what the recipes that they start from return. They are saved in checkpoints, from
        which ``kdlight export`` rebuilds the student before it loads the weights.
        """
        changed = {name: rebuild_config(value) for name, value in vars(self).items()}
        return {name: each for name, each in changed.items() if each}


def rebuild_config(network: Any) -> dict[str, Any]:
    """Return what to change in the config of a network, see `StudentRecipe.rebuild_arguments`.

    Example:
        >>> rebuild_config(nn.Linear(4, 3))  # no recipe
        {}
    """
    changed = network.rebuild_arguments() if isinstance(network, StudentRecipe) else {}
    return {"init_args": changed} if changed else {}


def load_base(recipe: Any, teacher: Any) -> Any:
    """Return the Hugging Face model that a recipe starts from.

    It is loaded from ``recipe.source``, or it is the teacher's if ``source`` is None.

    Raises:
        TypeError: If there is no ``source``, and the teacher is not a causal language model.
        ValueError: If the teacher has adapters.
    """
    if recipe.source is not None:
        return load_model(recipe.source, gguf_file=recipe.gguf_file, dtype=recipe.dtype)
    model = teacher.model if isinstance(teacher, CausalLM) else teacher
    if not hasattr(model, "get_output_embeddings"):
        raise TypeError(
            f"{recipe!r} starts from a Hugging Face causal language model, but the teacher is a"
            f" {type(teacher).__name__}; set `source` to the model to start from"
        )
    if hasattr(model, "peft_config"):
        raise ValueError(
            f"{recipe!r} starts from a model without adapters, but the {type(teacher).__name__} has"
            " some; merge them first (LoRACausalLM().export(student), or an export without"
            " adapter_only=True)"
        )
    return model


def build_base(base: StudentRecipe | nn.Module | None, teacher: nn.Module | None) -> nn.Module:
    """Return the student that another recipe changes further, in training mode.

    Args:
        base: a recipe, which builds it from ``teacher``; a network, which is returned; None for a
            copy of ``teacher``, whose half-precision weights become float32, because small updates
            are lost in them.
        teacher: the teacher's network; it is not changed.

    Raises:
        ValueError: If there is neither a ``base`` nor a ``teacher``.

    Example:
        >>> build_base(None, nn.Linear(4, 3).bfloat16().eval()).weight.dtype
        torch.float32
    """
    if isinstance(base, StudentRecipe):
        return base.build(teacher)
    if isinstance(base, nn.Module):
        return base
    if teacher is None:
        raise ValueError(
            "base is None, which starts from a copy of the teacher, but there is no live teacher;"
            " set base to a network or to a recipe with a source"
        )
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    for part in (*student.parameters(), *student.buffers()):
        if part.dtype in (torch.float16, torch.bfloat16):
            part.data = part.data.float()
    return student
