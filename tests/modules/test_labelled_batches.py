"""Batches with labels, without them, and with labels that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import DistillationModule, SingleInput
from kdlight.objectives import CrossEntropy, ForwardKL, MeanSquaredError
from tests.families.families import FAMILIES


def kl(student: nn.Module, teacher: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of all samples, by plain torch."""
    q, p = student(x).log_softmax(-1), teacher(x).log_softmax(-1)
    return nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")


X, Y = torch.randn(4, 3), torch.tensor([1, 0, 4, 2])


@pytest.mark.parametrize(
    ("key", "batch"),
    [
        (0, X),
        (0, (X,)),
        (0, [X]),
        (0, (X, None)),
        (0, (X, ["a", "b", "c", "d"])),
        ("image", {"image": X}),
        ("image", {"image": X, "label": Y}),
        ("image", {"image": X, "labels": None}),
        ("image", {"image": X, "labels": [Y]}),
    ],
    ids=[
        "tensor", "one", "list", "no labels", "texts", "image", "other name", "None", "of objects"
    ],
)  # fmt: skip
def test_a_divergence_needs_no_labels(key: Any, batch: Any) -> None:
    student, teacher = nn.Linear(3, 5), nn.Linear(3, 5)
    wrapped = (SingleInput(network, key=key) for network in (student, teacher))
    module = DistillationModule(next(wrapped), ForwardKL(), next(wrapped)).eval()
    inputs = module.loss_inputs(batch)
    assert inputs.labels is None
    assert inputs.mask is None
    assert inputs.position_name == "sample"
    torch.testing.assert_close(module.objective(inputs).mean(), kl(student, teacher, X))


def test_labels_of_other_logits_may_be_left_out() -> None:
    network, batch = SingleInput(nn.Linear(3, 5)), (X, torch.zeros(7).long())
    module = DistillationModule(network, CrossEntropy(), labels="none")
    assert module.loss_inputs(batch).labels is None
    with pytest.raises(ValueError, match="CrossEntropy needs labels"):
        module.objective(module.loss_inputs(batch))
    with pytest.raises(ValueError, match=r"labels \(7,\) do not stand"):
        DistillationModule(network, CrossEntropy()).loss_inputs(batch)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long])
def test_maps_of_classes_with_ignored_pixels(dtype: torch.dtype) -> None:
    net, image = nn.Conv2d(3, 5, 1), torch.randn(2, 3, 4, 6)
    labels = torch.randint(5, (2, 4, 6), dtype=dtype)
    labels[0, :2] = 255
    expected = nn.functional.cross_entropy(net(image), labels.long(), ignore_index=255)
    student = SingleInput(net, class_dim=1)
    module = DistillationModule(student, CrossEntropy(), ignore_index=255)
    loss = module.objective(module.loss_inputs((image, labels)))
    assert int(loss.count) == 2 * 4 * 6 - 12
    torch.testing.assert_close(loss.mean(), expected)
    with pytest.raises(ValueError, match="has 255; give ignore_index=255"):
        DistillationModule(student, CrossEntropy()).loss_inputs((image, labels))


def test_labels_that_are_no_classes_are_refused_at_the_first_batch() -> None:
    module = DistillationModule(SingleInput(nn.Linear(3, 5)), CrossEntropy())
    with pytest.raises(ValueError, match=r"labels must be in \[0, 5\).* has 7"):
        module.loss_inputs((X, torch.tensor([0, 7, 1, 1])))


def test_answers_are_refused_beside_one_distribution() -> None:
    answers = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0]]).expand(4, 5)
    network, teacher = SingleInput(nn.Linear(3, 5)), SingleInput(nn.Linear(3, 5))
    with pytest.raises(ValueError, match=r"kdlight\.MultiLabel"):
        DistillationModule(network, ForwardKL(), teacher).loss_inputs((X, answers))
    regression = DistillationModule(network, MeanSquaredError(), teacher)
    assert regression.loss_inputs((X, answers)).labels is answers


@pytest.mark.parametrize("name", ["bert_masked", "bert_tokens", "llama"])
def test_padding_does_not_count_without_labels(name: str) -> None:
    family = FAMILIES[name]
    student, teacher, batch = family.make(0), family.make(1), family.batch(0)
    del batch["labels"]
    module = DistillationModule(student, ForwardKL(), teacher).eval()
    loss = module.objective(module.loss_inputs(batch))
    # the last token of a text predicts nothing that is known
    is_text = family.labels == "next token"
    assert int(loss.count) == int(batch["attention_mask"].sum()) - (3 if is_text else 0)
    unknown = (family.logits(network, batch)[batch["attention_mask"] == 1]
               for network in (student, teacher))  # fmt: skip
    if not is_text:
        q, p = (logits.log_softmax(-1) for logits in unknown)
        expected = nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
        torch.testing.assert_close(loss.mean(), expected)


def test_a_batch_of_another_kind_than_the_first_is_placed_by_the_same_rule() -> None:
    family = FAMILIES["bert_masked"]
    module = DistillationModule(family.make(0), CrossEntropy()).eval()
    for number in (0, 1):
        labels = module.loss_inputs(family.batch(number)).labels
        assert labels is not None
        assert torch.equal(labels, family.batch(number)["labels"])
