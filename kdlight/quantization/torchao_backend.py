"""Fake quantization of torchao's quantization-aware training, as a parametrization."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kdlight.checks import check_choice, check_integer
from kdlight.quantization.parametrizations import Quantization

BITS = (4, 8)


class TorchAOQuantization(Quantization):
    """Rounds the weight of a linear layer as torchao's quantization-aware training does.

    With 8 bits each output channel has a scale, with 4 bits each group of ``bucket`` inputs of a
    channel. Scales are symmetric around 0. The gradient passes straight through where a weight is
    within the range of its scale, and is 0 where it is clipped.

    torchao stores the weight that is trained as integers, with the values that it has here, by its
    ``IntxWeightOnlyConfig`` of the same dtype and granularity.

    Args:
        bits: 4 or 8.
        bucket: with 4 bits the size of a group, at least 2, which divides the inputs of the layer;
            with 8 bits None.

    Raises:
        ImportError: If torchao is not installed.
        TypeError: If a number is no integer.
        ValueError: If ``bits`` is neither 4 nor 8, or ``bucket`` does not fit it.

    Example:
        >>> TorchAOQuantization(bits=4)
        Traceback (most recent call last):
        ValueError: bucket must be the size of a group for 4 bits of torchao, such as 32, got None
    """

    def __init__(self, *, bits: int, bucket: int | None = None) -> None:
        super().__init__()
        check_torchao(bits, bucket)
        # imported here, as it takes seconds
        library: Any = import_module("torchao.quantization.qat")
        self.bits, self.bucket = bits, bucket
        # an attribute of torch that type checkers do not know
        dtype = vars(torch)[f"int{bits}"]
        groups = {"granularity": "per_channel"} if bucket is None else {"group_size": bucket}
        config = library.IntxFakeQuantizeConfig(dtype, **groups)
        self.fake_quantizer = library.IntxFakeQuantizer(config)

    def forward(self, weight: Tensor) -> Tensor:
        """Round a weight, (outputs, inputs) -> (outputs, inputs)."""
        return self.fake_quantizer(weight)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"bits={self.bits}, bucket={self.bucket}"


def check_torchao(bits: int, bucket: int | None) -> None:
    """Raise an error where torchao is missing, or does not offer these numbers.

    Raises:
        ImportError: If torchao is not installed.
        TypeError: If a number is no integer.
        ValueError: If ``bits`` is neither 4 nor 8, or ``bucket`` does not fit it.

    Example:
        >>> check_torchao(3, None)
        Traceback (most recent call last):
        ValueError: bits must be one of 4, 8, got 3
    """
    check_integer("bits", bits)
    check_choice("bits", bits, BITS)
    if bits == 8 and bucket is not None:
        raise ValueError(
            "bucket must be None for 8 bits of torchao, where each output channel has a scale, got"
            f" {bucket}"
        )
    if bits == 4:
        if bucket is None:
            raise ValueError(
                "bucket must be the size of a group for 4 bits of torchao, such as 32, got None"
            )
        check_integer("bucket", bucket, 2)
    if find_spec("torchao") is None:
        raise ImportError("backend='torchao' needs the package: pip install 'kdlight[torchao]'")


def check_group(name: str, weight: Tensor, bucket: int | None) -> None:
    """Raise a ValueError for a weight that torchao cannot quantize in groups of ``bucket`` inputs.

    Args:
        name: the path of its layer, for the message.
        weight: the weight of a linear layer.
        bucket: the size of a group; None for one group a channel.

    Example:
        >>> check_group("head", torch.zeros(3, 10), 4)
        Traceback (most recent call last):
        ValueError: bucket=4 does not divide the 10 inputs of 'head'; choose a size that divides ...
    """
    if weight.dtype == torch.float64:
        raise ValueError(
            f"torchao quantizes no float64 weights, such as that of {name!r}; use float32, or"
            " backend='kdlight'"
        )
    if bucket is not None and weight.shape[1] % bucket:
        raise ValueError(
            f"bucket={bucket} does not divide the {weight.shape[1]} inputs of {name!r}; choose a"
            " size that divides those of every layer, or skip that layer"
        )
