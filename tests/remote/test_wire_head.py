"""An output head comes back with its transform."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models.output_head import Rescale
from kdlight.remote.sealed import seal
from kdlight.remote.wire_head import decode_head, encode_head


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transform", [None, Rescale(0.25), Rescale(cap=30.0)], ids=str)
def test_a_head_comes_back(dtype: torch.dtype, bias: bool, transform: Rescale | None) -> None:
    before = nn.Linear(4, 9, bias).to(dtype)
    after, found = decode_head(encode_head(before.weight, before.bias, transform))
    hidden = torch.randn(3, 4, dtype=dtype)
    assert torch.equal(before(hidden), after(hidden))
    assert found == transform
    assert not any(each.requires_grad for each in after.parameters())


FIELDS = {"protocol": "1", "kind": "head", "scale": "none", "cap": "none"}
WEIGHT = torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("tensors", "fields", "message"),
    [
        ({}, {}, "expected an output head"),
        ({"weight": torch.zeros(5)}, {}, "expected an output head"),
        ({"weight": WEIGHT}, {"kind": "states"}, "expected an output head"),
        ({"weight": WEIGHT, "bias": torch.zeros(4)}, {}, r"a bias of shape \(4,\) for 5 tokens"),
        ({"weight": WEIGHT}, {"protocol": "7"}, "protocol '7'"),
        ({"weight": WEIGHT}, {"scale": "nan"}, "an output head with"),
        ({"weight": WEIGHT}, {"scale": "1.0", "cap": "-3"}, "an output head with"),
        ({"weight": WEIGHT}, {"scale": "much"}, "much"),
    ],
)
def test_what_is_no_head_is_refused(
    tensors: dict[str, torch.Tensor], fields: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode_head(seal(tensors, {**FIELDS, **fields}))
