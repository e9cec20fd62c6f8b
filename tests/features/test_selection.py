"""Which tensor a path means."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from kdlight.features.paths import FeaturePath
from kdlight.features.selection import input_feature, output_feature

A, B, C = torch.zeros(1), torch.ones(2), torch.full((3,), 2.0)
Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Result:
    hidden: Tensor
    other: Any = None


@pytest.mark.parametrize(
    ("key", "output", "expected"),
    [
        ("", A, A),
        ("", (None, B, A), B),
        ("", [[], [C]], C),
        ("1", (A, B), B),
        ("0", ((A, B), C), A),
        ("right", Pair(A, B), B),
        ("1", Pair(A, B), B),
        ("", {"x": None, "y": {"z": B}}, B),
        ("z", {"y": A, "z": (C, B)}, C),
        ("last_hidden_state", BaseModelOutput(last_hidden_state=B), B),  # type: ignore[arg-type]
        ("hidden", Result(C), C),
    ],
)
def test_outputs(key: str, output: Any, expected: Tensor) -> None:
    path = f"m:output.{key}" if key else "m"
    assert output_feature(path, FeaturePath.parse(path), output) is expected


@pytest.mark.parametrize(
    ("key", "output", "message"),
    [
        ("", None, "returned a NoneType"),
        ("", "text", "returned a str"),
        ("2", (A, B), r"returned \(Tensor, Tensor\)"),
        ("x", {"y": A}, r"returned a mapping with \['y'\]"),
        ("x", A, "returned a Tensor"),
        ("other", Result(A), "returned a Result"),
    ],
)
def test_outputs_without_a_tensor(key: str, output: Any, message: str) -> None:
    path = f"m:output.{key}" if key else "m"
    with pytest.raises(
        ValueError, match=f"the feature {path!r} is no tensor: the module {message}"
    ):
        output_feature(path, FeaturePath.parse(path), output)


@pytest.mark.parametrize(
    ("key", "args", "kwargs", "expected"),
    [
        ("", (A, B), {"x": C}, A),
        ("1", (A, B), {}, B),
        ("x", (A,), {"x": C}, C),
        ("", (), {"mask": torch.ones(2).bool(), "x": C}, C),
        ("", ((None, B),), {}, B),
    ],
)
def test_inputs(key: str, args: Any, kwargs: Any, expected: Tensor) -> None:
    path = f"m:input.{key}" if key else "m:input"
    assert input_feature(path, FeaturePath.parse(path), args, kwargs) is expected


def test_inputs_that_are_ambiguous_or_no_tensors() -> None:
    whole, named = FeaturePath.parse("m:input"), FeaturePath.parse("m:input.y")
    with pytest.raises(ValueError, match=r"arguments \['a', 'b'\]; name one, such as 'm:input.a'"):
        input_feature("m:input", whole, (), {"b": A, "a": B})
    with pytest.raises(ValueError, match=r"with \(int\) and the keyword arguments \['x'\]"):
        input_feature("m:input.y", named, (3,), {"x": A})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])
    with pytest.raises(ValueError, match="'m' is a nested tensor, .* enable_nested_tensor=False"):
        output_feature("m", FeaturePath.parse("m"), (nested, A))
    path = "m:input"
    with pytest.raises(ValueError, match="'m:input' is a nested tensor"):
        input_feature(path, FeaturePath.parse(path), (nested,), {})
