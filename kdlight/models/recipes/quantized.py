"""A student that is trained with quantized weights."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from kdlight.checks import check_choice, check_type
from kdlight.models.recipes.quantizable_layers import layer_types, quantizable_layers
from kdlight.models.recipes.student_recipe import StudentRecipe, build_base
from kdlight.quantization import LearnedPoints, Quantization, UniformQuantization
from kdlight.quantization.buckets import as_buckets, check_bits, check_bucket, check_entries
from kdlight.quantization.torchao_backend import TorchAOQuantization, check_group, check_torchao


class Quantized(StudentRecipe):
    """The recipe of a student whose weights are quantized in training, and stay so in its export.

    Another student, or a copy of the teacher, reads the weights of its linear, convolutional and
    embedding layers rounded to ``2 ** bits`` values a bucket. With ``scheme="uniform"`` these are
    evenly spaced, and the gradient at the rounded weights is applied to weights in full precision
    (quantized distillation). With ``"points"`` the values themselves are trained (differentiable
    quantization): as in the paper these weights are frozen then, and only the points and what is
    not quantized are trained. Biases and norms are not quantized, nor are weights that no such
    layer holds, such as those of stacked experts.

    Choose it where a student is to be stored or run with few bits: training finds weights that lose
    less than rounding a trained student. An export holds the rounded weights as plain numbers in
    the student's dtype, so it is read without kdlight; to pack them into few bits is left to the
    program that runs them.

    DDP and FSDP2 train it; other strategies that divide weights are refused.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018,
    algorithm 1 and section 4. They train points with SGD at a learning rate of 1e-5; use no weight
    decay for points.

    Args:
        base: the student to quantize: a recipe that builds it, a network (which is changed), or
            None for a copy of the teacher.
        bits: 1 to 16; with ``backend="torchao"`` 4 or 8.
        scheme: ``"uniform"`` or ``"points"``.
        bucket: number of consecutive weights with a minimum and maximum of their own; None for one
            bucket a layer. With torchao see `kdlight.quantization.TorchAOQuantization`.
        skip: layers that are not quantized: ``"first"`` and ``"last"`` for the first and the last
            in the order in which the network holds them, and paths of modules.
        backend: ``"torchao"`` for the fake quantization of torchao's quantization-aware training,
            of linear layers only.

    Raises:
        ImportError: If the backend is torchao, which is not installed.
        TypeError: If an argument is of another type.
        ValueError: If a number is outside its range, or arguments exclude each other.

    Example:
        >>> recipe = Quantized(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3)), bits=2, skip=[])
        >>> student = recipe.build()
        >>> len(student[1].weight.unique())
        4
        >>> recipe.export(student)
        Sequential(
          (0): Linear(in_features=8, out_features=4, bias=True)
          (1): Linear(in_features=4, out_features=3, bias=True)
        )
    """

    def __init__(
        self,
        base: StudentRecipe | nn.Module | None = None,
        *,
        bits: int = 4,
        scheme: Literal["uniform", "points"] = "uniform",
        bucket: int | None = 256,
        skip: list[str] | tuple[str, ...] = ("first", "last"),
        backend: Literal["kdlight", "torchao"] = "kdlight",
    ) -> None:
        if base is not None:
            check_type("base", base, (StudentRecipe, nn.Module), "a recipe, a network or None")
        check_choice("scheme", scheme, ("uniform", "points"))
        check_choice("backend", backend, ("kdlight", "torchao"))
        check_type("skip", skip, (list, tuple), "a list of 'first', 'last' and paths")
        for each in skip:
            check_type("skip", each, str, "a list of 'first', 'last' and paths")
        if backend == "torchao":
            if scheme != "uniform":
                raise ValueError(f"scheme must be 'uniform' with backend='torchao', got {scheme!r}")
            check_torchao(bits, bucket)
        else:
            check_bits(bits)
            check_bucket(bucket)
        self.base = base
        self.bits, self.bucket = bits, bucket
        self.scheme, self.backend = scheme, backend
        self.skip = tuple(skip)

    def __repr__(self) -> str:
        base = type(self.base).__name__ if isinstance(self.base, nn.Module) else repr(self.base)
        shown = "" if self.base is None else f"{base}, "
        shown += f"bits={self.bits}, bucket={self.bucket}"
        for name, default in (("scheme", "uniform"), ("backend", "kdlight")):
            value = getattr(self, name)
            shown += "" if value == default else f", {name}={value!r}"
        return f"{type(self).__name__}({shown})"

    def build(self, teacher: Any = None) -> nn.Module:
        """Build the base, and quantize its weights.

        Args:
            teacher: the teacher's network; it is not changed.

        Raises:
            ValueError: If there is nothing to quantize, a path in ``skip`` leads nowhere, a weight
                is tied to another one, NaN or infinite, or the base has adapters, parametrizations
                or quantized weights.
        """
        student = build_base(self.base, teacher)
        types = layer_types(only_linear=self.backend == "torchao")
        for path, layer in quantizable_layers(student, types, self.skip).items():
            quantization = self._quantization(path, layer.weight)
            layer.weight.requires_grad_(layer.weight.requires_grad and quantization.trains_weight)
            register_parametrization(layer, "weight", quantization)
        return student

    def _quantization(self, path: str, weight: nn.Parameter) -> Quantization:
        try:
            check_entries(as_buckets(weight.detach(), self.bucket))
        except ValueError as error:
            raise ValueError(f"{path!r}: {error}") from None
        if self.backend == "torchao":
            check_group(path, weight, self.bucket)
            return TorchAOQuantization(bits=self.bits, bucket=self.bucket)
        if self.scheme == "points":
            return LearnedPoints.of(weight, bits=self.bits, bucket=self.bucket)
        return UniformQuantization(bits=self.bits, bucket=self.bucket)
