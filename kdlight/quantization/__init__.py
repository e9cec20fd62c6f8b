"""Weights on a few values: functions, and parametrizations that train through them."""

from __future__ import annotations

from kdlight.quantization.allocation import allocate_points
from kdlight.quantization.parametrizations import (
    LearnedPoints,
    Quantization,
    UniformQuantization,
    is_quantized,
)
from kdlight.quantization.points import NearestPoints, initial_points, nearest_points
from kdlight.quantization.torchao_backend import TorchAOQuantization
from kdlight.quantization.uniform import uniform_quantize

__all__ = [
    "LearnedPoints",
    "NearestPoints",
    "Quantization",
    "TorchAOQuantization",
    "UniformQuantization",
    "allocate_points",
    "initial_points",
    "is_quantized",
    "nearest_points",
    "uniform_quantize",
]
