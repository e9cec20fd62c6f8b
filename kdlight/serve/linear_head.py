"""The weights of an output head, if it is a linear map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.output_head import Rescale
from kdlight.sources import Projected
from kdlight.teachers.cropping import CroppedHead
from kdlight.teachers.precision import FLOATS

TOLERANCE = 1e-3
"""Largest difference from the head itself, relative to the largest logit."""


@torch.no_grad()
def head_weights(source: Projected) -> tuple[Tensor, Tensor | None, Rescale | None]:
    """Return weight ``(V, D)``, bias ``(V,)`` or None, and transform of the head of ``source``.

    Raises:
        ValueError: the head, or what follows it, is more than that, such as a quantized one.

    Example:
        >>> weight, bias, transform = head_weights(Projected(torch.ones(2, 4), nn.Linear(4, 5)))
        >>> weight.shape, bias.shape, transform
        (torch.Size([5, 4]), torch.Size([5]), None)
    """
    head, transform = source.head, source.transform
    if transform is not None and not isinstance(transform, Rescale):
        raise ValueError(
            f"{_refused(head)}: its logits are changed by a {type(transform).__name__}"
        )
    weight, bias = _read(head)
    hidden = source.hidden.reshape(-1, source.hidden.shape[-1])[:1]
    numbers = torch.linspace(-1, 1, hidden.shape[-1], dtype=torch.float32).to(hidden)
    try:
        expected = head(numbers).float()
        found = nn.functional.linear(numbers, weight, bias).float()
        difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{_refused(head)}: {error}") from error
    if not difference <= TOLERANCE:
        raise ValueError(f"{_refused(head)}: its weights give other logits")
    return weight, bias, transform


def _read(head: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(head, CroppedHead):
        weight, bias = _read(head.head)
        size = head.out_features
        return weight[:size], None if bias is None else bias[:size]
    weight: Any = getattr(head, "weight", None)
    # a subclass of tensors is a quantized or a sharded one
    is_plain = type(weight) in (Tensor, nn.Parameter) and weight.dtype in FLOATS
    if not is_plain or weight.dim() != 2:
        raise ValueError(f"{_refused(head)}: it has no weight (V, D)")
    return weight, getattr(head, "bias", None)


def _refused(head: Any) -> str:
    return (
        f"the output head {type(head).__name__} is no linear map that a client can have, so that"
        " hidden states cannot be served; leave out --states to serve the top k"
    )
