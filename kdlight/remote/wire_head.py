"""The output head of a served teacher, as bytes; `kdlight.remote.wire` describes them."""

from __future__ import annotations

from math import inf

from torch import Tensor, nn

from kdlight.models.output_head import Rescale
from kdlight.remote.sealed import open_sealed, seal
from kdlight.remote.wire_request import PROTOCOL, check_protocol


def encode_head(weight: Tensor, bias: Tensor | None, transform: Rescale | None) -> bytes:
    """Return the bytes of an output head.

    Args:
        weight: ``(V, D)``.
        bias: ``(V,)``, or None.
        transform: what the model does to each logit after the head; None for nothing.

    Example:
        >>> import torch
        >>> content = encode_head(torch.ones(3, 2), None, Rescale(cap=30.0))
        >>> decode_head(content)
        (Linear(in_features=2, out_features=3, bias=False), Rescale(scale=1.0, cap=30.0))
    """
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    scale, cap = ("none", "none") if transform is None else (transform.scale, transform.cap)
    fields = {"scale": str(scale), "cap": str(cap).lower()}
    return seal(on_cpu, {"protocol": PROTOCOL, "kind": "head", **fields})


def decode_head(content: bytes) -> tuple[nn.Linear, Rescale | None]:
    """Return the output head in ``content``, which takes no gradients, and its transform.

    Raises:
        ValueError: it is no output head, or was changed on the way.
    """
    opened = open_sealed(content)
    check_protocol(opened)
    fields, tensors = opened.fields, opened.tensors
    if fields.get("kind") != "head" or "weight" not in tensors or tensors["weight"].dim() != 2:
        raise ValueError(f"expected an output head, got {fields} and {sorted(tensors)}")
    weight, bias = tensors["weight"], tensors.get("bias")
    size, width = weight.shape
    if bias is not None and bias.shape != (size,):
        raise ValueError(f"a bias of shape {tuple(bias.shape)} for {size} tokens")
    head = nn.Linear(width, size, bias is not None, device="meta")
    for name, tensor in tensors.items():
        setattr(head, name, nn.Parameter(tensor, requires_grad=False))
    return head, _transform(fields.get("scale", ""), fields.get("cap", ""))


def _transform(scale: str, cap: str) -> Rescale | None:
    if scale == "none":
        return None
    transform = Rescale(float(scale), None if cap == "none" else float(cap))
    if not -inf < transform.scale < inf or not 0 < (transform.cap or 1.0) < inf:
        raise ValueError(f"an output head with {transform}")
    return transform
