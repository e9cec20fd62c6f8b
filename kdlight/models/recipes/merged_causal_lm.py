"""A student whose weights are the weighted mean of those of several models."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.checks import check_type
from kdlight.models.causal_lm import CausalLM
from kdlight.models.model_source import resolve_source
from kdlight.models.new_copy import copy_in_dtype
from kdlight.models.pretrained import load_model, parse_dtype
from kdlight.models.recipes.student_recipe import StudentRecipe
from kdlight.models.same_architecture import first_difference

TOLERANCE = 1e-6
"""How far from 1 the sum of weights may be."""


class MergedCausalLM(StudentRecipe):
    r"""The recipe of a student whose weights are the weighted mean of several models' weights.

    .. math:: \theta = \sum_i w_i \theta_i, \qquad \sum_i w_i = 1

    Luo, He et al., "Ada-R1: Hybrid CoT via Bi-Level Adaptive Reasoning Optimization", 2025, start
    from the mean of a model with long (0.8) and one with short chains of thought (0.2). The models
    must be of one architecture and fine-tuned from one base model, with the same tokens: only then
    their weights mean the same. A negative weight is valid and extrapolates, as in Ilharco, Ribeiro
    et al., "Editing Models with Task Arithmetic", 2023: ``{base: -0.5, tuned: 1.5}``.

    The recipe needs no teacher. One model after the other is loaded, so that no more than two are
    in memory. The mean is computed in float32, or in float64 if that is ``dtype``. Tied weights
    stay tied. Config and generation config are those of the first model.

    A teacher is a network, and not a recipe: use ``MergedCausalLM({...}).build()``.

    Args:
        sources: the weight of each model by its source, spelled as for `kdlight.CausalLM`: an id, a
            folder, a ``.gguf`` file or ``package:NAME/FILE``.
        dtype: dtype of the student.

    Raises:
        TypeError: If ``sources`` is no mapping from text to numbers.
        ValueError: If there is no model, a path does not exist, a weight is not finite, or they do
            not sum to 1; if ``dtype`` is no floating-point dtype.

    Example:
        >>> MergedCausalLM({"models/long": 0.8, "models/short": 0.2})
        MergedCausalLM({'models/long': 0.8, 'models/short': 0.2})
        >>> MergedCausalLM({"models/long": 0.8, "models/short": 0.3})
        Traceback (most recent call last):
        ValueError: the weights of sources must sum to 1, got 0.8 + 0.3 = 1.1; divide each by ...
    """

    def __init__(self, sources: dict[str, float], *, dtype: str = "float32") -> None:
        check_type("sources", sources, Mapping, "a mapping from sources to weights")
        for source, weight in sources.items():
            if not isinstance(source, str):
                raise TypeError(f"sources must be texts, got {source!r}")
            check_type(f"the weight of {source!r}", weight, (int, float), "a number")
            resolve_source(source)  # a path that does not exist is told before anything is loaded
            if not isfinite(weight):
                raise ValueError(f"the weight of {source!r} must be finite, got {weight}")
        total = sum(sources.values())
        if abs(total - 1) > TOLERANCE:
            shown = " + ".join(f"{weight:g}" for weight in sources.values()) or "none"
            raise ValueError(
                f"the weights of sources must sum to 1, got {shown} = {total:g}; divide each by the"
                " sum"
            )
        if parse_dtype(dtype) == "auto":
            raise ValueError("dtype must be a dtype such as 'bfloat16', got 'auto'")
        self.sources, self.dtype = dict(sources), dtype

    def __repr__(self) -> str:
        dtype = "" if self.dtype == "float32" else f", dtype={self.dtype!r}"
        return f"{type(self).__name__}({self.sources}{dtype})"

    def build(self, teacher: Any = None) -> CausalLM:
        """Load the models, one after the other, and merge them.

        Args:
            teacher: is not used.

        Raises:
            ValueError: If a model cannot be loaded, or differs from the first one in its
                architecture.
        """
        dtype = parse_dtype(self.dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        (first, weight), *others = self.sources.items()
        merged: Any = load_model(first, dtype=wide)
        _scale(merged, weight)
        for source, weight in others:
            model = load_model(source, dtype=wide)
            if difference := first_difference(merged, model):
                raise ValueError(
                    f"the models {first!r} and {source!r} cannot be merged: they differ in"
                    f" {difference}; a mean needs models of one architecture, such as two that"
                    " were fine-tuned from one base model"
                )
            _add(merged, model, weight, f"{first!r} and {source!r}")
            del model
        return CausalLM.wrap(merged if dtype == wide else copy_in_dtype(merged, dtype))


@torch.no_grad()
def _scale(model: nn.Module, weight: float) -> None:
    for value in _values(model).values():
        if value.is_floating_point():
            value.mul_(weight)


@torch.no_grad()
def _add(merged: nn.Module, model: nn.Module, weight: float, names: str) -> None:
    """Add the weights of a model; what is no floating-point number must be equal."""
    values = _values(model)
    for name, value in _values(merged).items():
        if value.is_floating_point():
            value.add_(values[name], alpha=weight)
        elif not torch.equal(value, values[name]):
            raise ValueError(
                f"the models {names} cannot be merged: {name} ({value.dtype}) has no mean, and is"
                " not equal"
            )


def _values(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and saved buffers by name; tied ones are listed once."""
    values: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        values.setdefault(id(value), (name, value))
    return dict(values.values())
