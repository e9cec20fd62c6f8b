"""Parametrizations that quantize a weight wherever its module reads it."""

from __future__ import annotations

from torch import Tensor, nn

from kdlight.quantization.buckets import check_bits, check_bucket
from kdlight.quantization.points import check_points, initial_points, set_to_points
from kdlight.quantization.uniform import round_to_grid, straight_through


class Quantization(nn.Module):
    """The base of parametrizations that quantize a weight.

    The weight that is trained keeps its precision, and no forward pass changes it.

    Attributes:
        trains_weight: whether the weight is trained, or a constant.

    Example:
        >>> isinstance(UniformQuantization(bits=4), Quantization)
        True
    """

    trains_weight = True


class UniformQuantization(Quantization):
    """Rounds a weight to evenly spaced values, `kdlight.quantization.uniform_quantize`.

    The gradient at the rounded weight is that of the weight (straight through). A weight that is
    NaN or infinite makes its bucket NaN.

    Args:
        bits: the values of a bucket are ``2 ** bits``.
        bucket: entries of a bucket; None for one bucket.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If a number is outside its range.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018,
    algorithm 1.

    Example:
        >>> from torch.nn.utils.parametrize import register_parametrization
        >>> layer = nn.Linear(8, 2)
        >>> _ = register_parametrization(layer, "weight", UniformQuantization(bits=1, bucket=8))
        >>> [len(row.unique()) for row in layer.weight]
        [2, 2]
    """

    def __init__(self, *, bits: int, bucket: int | None = 256) -> None:
        super().__init__()
        check_bits(bits)
        check_bucket(bucket)
        self.bits, self.bucket = bits, bucket

    def forward(self, weight: Tensor) -> Tensor:
        """Round a weight, (...) -> (...)."""
        return straight_through(weight, round_to_grid(weight.detach(), self.bits, self.bucket))

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"bits={self.bits}, bucket={self.bucket}"


class LearnedPoints(Quantization):
    """Sets a weight to the nearest of points that are trained, see `nearest_points`.

    As in the paper the weight is a constant and gets no gradient: set its ``requires_grad`` to
    False, as `kdlight.models.Quantized` does. The points are a parameter in the scaled space of the
    weight, and are sorted whenever they are used (the paper sorts them after each step). Do not let
    an optimizer decay them, which would draw them to the minimum of each bucket.

    Args:
        points: the initial points, such as `initial_points`.
        bucket: entries of a bucket; None for one bucket.

    Attributes:
        points: the points, ``(s,)``.

    Raises:
        TypeError: If the points are not floating point, or ``bucket`` is no integer.
        ValueError: If the points decrease or are not finite, or ``bucket`` is below 1.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, section
    4.

    Example:
        >>> from torch.nn.utils.parametrize import register_parametrization
        >>> layer = nn.Linear(8, 2).requires_grad_(False)
        >>> points = LearnedPoints.of(layer.weight, bits=2)
        >>> _ = register_parametrization(layer, "weight", points)
        >>> [name for name, p in layer.named_parameters() if p.requires_grad]
        ['parametrizations.weight.0.points']
    """

    trains_weight = False

    def __init__(self, points: Tensor, *, bucket: int | None = 256) -> None:
        super().__init__()
        check_points(points)
        check_bucket(bucket)
        self.points = nn.Parameter(points.detach().clone())
        self.bucket = bucket

    @classmethod
    def of(cls, weight: Tensor, *, bits: int, bucket: int | None = 256) -> LearnedPoints:
        """Return ``2 ** bits`` points that are percentiles of a weight, in its dtype."""
        check_bits(bits)
        return cls(initial_points(weight, 2**bits, bucket=bucket).to(weight.dtype), bucket=bucket)

    def forward(self, weight: Tensor) -> Tensor:
        """Set a weight to the nearest points, (...) -> (...)."""
        return set_to_points(weight.detach(), self.points.sort().values, self.bucket).values

    def extra_repr(self) -> str:
        """Return the number of points."""
        return f"points={len(self.points)}, bucket={self.bucket}"


def is_quantized(network: nn.Module) -> bool:
    """Return whether a network has weights that a `Quantization` quantizes.

    Example:
        >>> is_quantized(nn.Linear(2, 3))
        False
    """
    return any(isinstance(module, Quantization) for module in network.modules())
