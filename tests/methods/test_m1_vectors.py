"""M1's losses, compared with vectors of the authors' code.

Its mask of the divergence compares labels with -100 at their own positions, while the logits there
predict the next token: the vectors are reproduced with such a mask, and kdlight shifts labels once,
for mask and cross-entropy alike. Its forward KL is a cross-entropy.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import DistillationModule, SingleInput, losses
from kdlight.objectives import ReverseKL
from tests.methods.test_conformance import ROOT, entropy, read

FILES = {path.stem: read(path) for path in sorted((ROOT / "m1_kl").glob("*.safetensors"))}


def loss_of(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the loss of a vector and its gradient, computed by kdlight."""
    _, tensors = FILES[name]
    student, teacher = (tensors[f"{side}_logits"].to(dtype) for side in ("student", "teacher"))
    leaf, mask = student.requires_grad_(), tensors["labels"] != -100
    if name.startswith("forward"):
        values = losses.forward_kl(leaf, teacher) + entropy(teacher)
    else:
        values = losses.reverse_kl(leaf, teacher)
    loss = values[mask].mean()
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_the_authors(name: str, dtype: torch.dtype) -> None:
    meta, tensors = FILES[name]
    assert meta["hparams"] == {"kl_weight": 1.0}
    assert not meta["quirk"]
    loss, slope = loss_of(name, dtype)
    expected = tensors["expected_loss"].to(dtype)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, tensors["expected_kd"].to(dtype), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope, tensors["expected_grad"].to(dtype), rtol=1e-4, atol=1e-7)


def test_both_directions_are_there() -> None:
    assert sorted(FILES) == ["forward_kl_w1", "reverse_kl_w1"]


class Given(nn.Module):
    """A network that returns what it was given, whatever the batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def test_a_module_masks_the_divergence_where_its_logits_predict_a_label() -> None:
    _, tensors = FILES["reverse_kl_w1"]
    student, teacher, labels = (
        tensors[name] for name in ("student_logits", "teacher_logits", "labels")
    )
    networks = [SingleInput(Given(each.clone()), key="input_ids") for each in (student, teacher)]
    module = DistillationModule(networks[0], ReverseKL(), networks[1], labels="causal")
    batch: dict[str, Any] = {"input_ids": labels.clamp(min=0), "labels": labels}
    loss = module.learner_losses(batch)["student"][0].mean().item()
    shifted = torch.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    expected = losses.reverse_kl(student, teacher)[shifted != -100].mean().item()
    assert loss == pytest.approx(expected, rel=1e-6)
    # one row begins with a prompt, the other ends with padding, so that another position counts
    assert ((shifted != -100) != (labels != -100)).any()
    assert abs(loss - tensors["expected_loss"].item()) > 1e-2
