"""A teacher computes in its own dtype, whatever the precision of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdlight import DistillationModule, FrozenTeacher, SingleInput
from kdlight.objectives import ForwardKL
from kdlight.teachers.precision import own_precision, parse_floating_dtype
from tests.support import toy


class MakesTensors(nn.Module):
    """A network that makes a tensor in the default dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += [x.dtype, torch.full((1,), 0.1).dtype]
        return self.layer(x) + torch.full((1,), 0.1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_fit_has_the_teacher_in_its_own_dtype(precision: Any, dtype: str, tmp_path: Path) -> None:
    network = MakesTensors()
    teacher = FrozenTeacher(SingleInput(network), dtype=dtype)
    module = DistillationModule(SingleInput(nn.Linear(3, 5)), ForwardKL(), teacher)
    batch = (torch.randn(4, 3), torch.randint(5, (4,)))
    data: Any = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    before = torch.get_default_dtype()
    toy.trainer(tmp_path, precision=precision).fit(module, data, data)
    assert torch.get_default_dtype() == before
    if precision != "bf16-mixed":  # where autocast decides
        assert set(network.seen) == {parse_floating_dtype(dtype)}
    assert {each.dtype for each in network.parameters()} == {parse_floating_dtype(dtype)}


def test_the_logits_do_not_depend_on_the_precision_of_the_run() -> None:
    torch.manual_seed(0)
    teacher = FrozenTeacher(MakesTensors())
    x = torch.randn(4, 3).bfloat16()
    expected = teacher(x.float()).logits()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(teacher(x).logits(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_integers_other_values_and_quantized_networks_are_left_alone() -> None:
    ids, flags = torch.arange(3), torch.tensor([True])
    batch = {"ids": ids, "x": torch.zeros(2).double(), "flags": flags, "names": ["a"]}
    with own_precision(nn.Linear(2, 3), batch) as own:
        assert own["ids"] is ids
        assert own["flags"] is flags
        assert own["names"] == ["a"]
        assert own["x"].dtype == torch.float32
        assert batch["x"].dtype == torch.float64  # type: ignore[union-attr]
    same = {"x": torch.zeros(2)}
    quantized = nn.Linear(2, 3)
    vars(quantized)["hf_quantizer"] = object()
    for model, given in ((nn.Linear(2, 3), same), (quantized, batch), (nn.ReLU(), batch)):
        with own_precision(model, given) as own:
            assert own is given
    with torch.autocast("cpu", torch.bfloat16), own_precision(nn.Linear(2, 3), batch) as own:
        assert own is batch


@pytest.mark.parametrize("dtype", ["int8", "xx", 5, torch.int32], ids=str)
def test_what_is_no_floating_dtype_is_refused(dtype: Any) -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="dtype must name a floating torch dtype"):
        FrozenTeacher(network, dtype=dtype)
    assert network.weight.requires_grad  # nothing has happened to it


@pytest.mark.parametrize("device", ["xx", "cpu:a", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"device must name a device .* got '{device}'"):
        FrozenTeacher(nn.Linear(2, 3), device=device)
