"""Padded vocabularies are compared on the tokens that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdlight import DistillationModule, FrozenTeacher, SelectiveTeacher, SingleInput, losses
from kdlight.objectives import ForwardKL
from kdlight.sources import Dense, Projected, TopK
from kdlight.teachers.cropping import crop_columns
from tests.support import toy


class PlainHead:
    """A head that is no module."""

    out_features = 8

    def __init__(self, head: nn.Linear) -> None:
        self.head = head

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.head(hidden) * 2


@pytest.mark.parametrize("kind", ["dense", "projected", "callable", "top k"])
def test_every_source_is_cropped(kind: str) -> None:
    torch.manual_seed(0)
    head, hidden = nn.Linear(4, 8), torch.randn(2, 3, 4)
    logits = head(hidden) * 2
    sources: dict[str, Any] = {
        "dense": Dense(logits),
        "projected": Projected(hidden, head, lambda each: each * 2),
        "callable": Projected(hidden, PlainHead(head)),
        "top k": TopK.of(logits, 8),
    }  # fmt: skip
    cropped = crop_columns(sources[kind], 5)
    assert cropped.shape == (2, 3, 5)
    expected = logits[..., :5].log_softmax(-1)
    torch.testing.assert_close(cropped.logits().log_softmax(-1), expected)
    assert crop_columns(cropped, 5) is cropped
    with pytest.raises(ValueError, match="vocab_size is 9, but the logits have 5 columns"):
        crop_columns(cropped, 9)


@pytest.mark.parametrize(("student", "teacher"), [(7, 11), (11, 7), (9, 11)])
@pytest.mark.parametrize("selective", [False, True])
def test_a_fit_compares_the_tokens_that_both_have(
    student: int, teacher: int, selective: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    own, theirs = nn.Linear(3, student), nn.Linear(3, teacher)
    frozen: Any = FrozenTeacher(SingleInput(theirs), vocab_size=7)
    asked = SelectiveTeacher(frozen, ask="entropy", threshold=0.0) if selective else frozen
    module = DistillationModule(SingleInput(own), ForwardKL(), asked)
    x, y = torch.randn(4, 3), torch.randint(7, (4,))
    module.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    inputs = module.loss_inputs((x, y))
    del module.log
    expected = losses.forward_kl(own(x)[:, :7], theirs(x)[:, :7]).sum()
    torch.testing.assert_close(module.objective(inputs).total, expected)
    data: Any = DataLoader([(x, y)], batch_size=None)  # type: ignore[arg-type]
    toy.trainer(tmp_path).fit(module, data, data)


def test_a_vocabulary_that_is_larger_than_the_logits_is_refused() -> None:
    network = SingleInput(nn.Linear(3, 7))
    network.vocab_size = 7  # type: ignore[assignment]
    with pytest.raises(ValueError, match="vocab_size must be at most 7, got 8"):
        FrozenTeacher(network, vocab_size=8)
    with pytest.raises(TypeError, match="vocab_size must be an integer"):
        FrozenTeacher(network, vocab_size=7.0)  # type: ignore[arg-type]
    teacher = FrozenTeacher(network, vocab_size=5)
    assert (teacher.vocab_size, teacher.student_size(9), teacher.student_size(3)) == (5, 5, 3)
