"""Labels beside logits: what is dropped, what is masked, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import ModelKind
from kdlight.modules.placed_labels import placed_labels
from kdlight.objectives import CrossEntropy, ForwardKL

TOKENS = {"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.tensor([[1, 1, 0]] * 2)}


def place(labels: Any, batch: Any, *shape: int, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "kind": ModelKind(),
        "network": None,
        "objective": ForwardKL(),
        "check": True,
    }
    return placed_labels(labels, batch, torch.Size(shape), **{**options, **changes})


def test_tokens_are_no_labels_of_a_classifier_of_sequences() -> None:
    assert place(torch.ones(2, 3).long(), TOKENS, 2, 5) == (None, None)


def test_without_labels_the_mask_of_the_batch_is_that_of_the_logits() -> None:
    _, mask = place(None, TOKENS, 2, 3, 5)
    assert torch.equal(mask, TOKENS["attention_mask"].bool())
    decoder = ModelKind("aligned", is_encoder_decoder=True)
    assert place(None, TOKENS, 2, 3, 5, kind=decoder) == (None, None)


def test_targets_of_a_regression_are_no_classes() -> None:
    targets = torch.randn(2, 4)
    labels, mask = place(targets, (targets, targets), 2, 4)
    assert torch.equal(labels, targets)
    assert mask.all()
    with pytest.raises(ValueError, match="CrossEntropy needs the numbers of classes"):
        place(targets, (targets, targets), 2, 4, objective=CrossEntropy())


def test_values_are_checked_only_where_it_is_asked_for() -> None:
    wrong = torch.tensor([7, 1])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 5\)"):
        place(wrong, (wrong, wrong), 2, 5)
    labels, _ = place(wrong, (wrong, wrong), 2, 5, check=False)
    assert torch.equal(labels, wrong)
