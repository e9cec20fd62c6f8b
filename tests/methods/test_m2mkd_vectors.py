"""m2mKD: a hybrid and ordinary objectives, compared with vectors of the authors' own code.

The code averages the soft loss over classes as well, so that its weight is divided by their number.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.models.hybrid import Hybrid
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, Weighted
from tests.methods.test_conformance import ROOT, read

FILES = {path.stem: read(path) for path in sorted((ROOT / "m2mkd").glob("*.safetensors"))}


def stage(weight: Tensor, bias: Tensor, is_last: bool) -> nn.Module:
    """A linear layer with these weights, before a tanh unless it gives the logits."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear if is_last else nn.Sequential(linear, nn.Tanh())


def hybrid(name: str, side: str) -> Hybrid:
    meta, tensors = FILES[name]
    stages, index = meta["hparams"]["n_stages"], meta["hparams"]["idx"]
    modules = [
        stage(tensors[f"meta.{i}.weight"], tensors[f"meta.{i}.bias"], i == stages - 1)
        for i in range(stages)
    ]
    is_last = index % stages == stages - 1
    module = stage(tensors[f"{side}_weight"], tensors[f"{side}_bias"], is_last)
    return Hybrid(modules, index, module)


def loss(hyper: dict[str, Any], student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    alpha = hyper["alpha_teacher"]
    if hyper["distillation_type"] == "hard":
        hard, soft = (
            CrossEntropy()(LossInputs(student, labels=each)).mean()
            for each in (labels, teacher.argmax(-1))
        )
        return (1 - alpha) * hard + alpha * soft
    mix = Weighted(
        {"ce": CrossEntropy(), "kd": ForwardKL(temperature=hyper["tau"])},
        weights={"ce": 1 - alpha, "kd": alpha / student.shape[-1]},
    )
    return mix(LossInputs(student, teacher, labels=labels)).mean()


@pytest.mark.parametrize("name", FILES)
def test_loss_and_gradient_are_the_authors(name: str) -> None:
    meta, tensors = FILES[name]
    student, teacher = hybrid(name, "student"), hybrid(name, "teacher").eval()
    x = tensors["inputs"]
    with torch.no_grad():
        targets = teacher(x)
    value = loss(meta["hparams"], student(x), targets, tensors["labels"])
    value.backward()
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    torch.testing.assert_close(value.detach(), tensors["expected_loss"], rtol=1e-9, atol=1e-12)
    for got, key in zip(gradients, ("expected_grad", "expected_grad_bias"), strict=True):
        torch.testing.assert_close(got, tensors[key], rtol=1e-9, atol=1e-12)


def test_all_files_are_read() -> None:
    assert len(FILES) == 3
