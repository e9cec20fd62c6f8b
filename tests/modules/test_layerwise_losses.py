"""What layer-wise distillation reads from labels and from the trainer."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from kdlight.modules.layerwise_losses import loss_scale, valid_labels
from tests.support.layerwise_fit import module


def test_labels_that_count() -> None:
    tokens = torch.tensor([[1, -100], [-100, -100]])
    assert torch.equal(valid_labels(tokens), torch.tensor([[True, False], [False, False]]))
    nan = float("nan")
    answers = torch.tensor([[1.0, nan], [nan, -100.0]])
    assert torch.equal(valid_labels(answers), torch.tensor([True, False]))
    assert torch.equal(valid_labels(torch.tensor([0.5, nan])), torch.tensor([True, False]))


def test_the_scale_of_mixed_precision() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)  # type: ignore[attr-defined]
    plugin = SimpleNamespace(scaler=scaler)
    assert loss_scale(SimpleNamespace(precision_plugin=plugin)) == 8.0
    assert loss_scale(SimpleNamespace(precision_plugin=SimpleNamespace())) == 1.0


def test_paths_are_those_of_the_student() -> None:
    trained = module()
    assert trained.feature_network() is trained.student  # which `kdlight doctor --paths` lists
