"""Logits with a sigmoid each are questions with two answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlight import DistillationModule, MultiLabel, SingleInput, TransformersModel
from kdlight.models.call_network import call_network
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.families.family import maker, text, transformers
from tests.families.of_text import BERT

questions = maker(
    "BertForSequenceClassification", "BertConfig", **BERT, num_labels=4,
    problem_type="multi_label_classification",
)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "labels"),
    [(3, (6, 3)), (1, (6, 1)), (1, (6,))],
    ids=["several", "one", "one, flat labels"],
)
@torch.no_grad()
def test_losses_are_those_of_sigmoids(size: int, labels: tuple[int, ...]) -> None:
    student, teacher, x = nn.Linear(4, size), nn.Linear(4, size), torch.randn(6, 4)
    answers = torch.randint(2, labels).float()
    q, p = (torch.stack((-net(x), net(x)), -1).div(2).log_softmax(-1) for net in (student, teacher))
    expected = {
        ForwardKL: F.kl_div(q, p, log_target=True, reduction="sum") / (6 * size),
        CrossEntropy: F.binary_cross_entropy_with_logits(student(x), answers.view(6, size)),
    }
    for objective, value in expected.items():
        wrapped = (MultiLabel(SingleInput(net)) for net in (student, teacher))
        module = DistillationModule(next(wrapped), objective(), next(wrapped)).eval()
        for batch in ((x, answers), (x, answers.long()), (x, answers.bool())):
            loss = module.objective(module.loss_inputs(batch))
            assert int(loss.count) == 6 * size
            torch.testing.assert_close(loss.mean(), value)


@torch.no_grad()
def test_flat_logits_are_one_question() -> None:
    net = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    x, answers = torch.randn(6, 4), torch.randint(2, (6,))
    module = DistillationModule(MultiLabel(SingleInput(net)), CrossEntropy()).eval()
    expected = F.binary_cross_entropy_with_logits(net(x), answers.float())
    loss = module.objective(module.loss_inputs((x, answers)))
    torch.testing.assert_close(loss.mean(), expected)


@torch.no_grad()
def test_answers_that_are_not_known_do_not_count() -> None:
    net, x = nn.Linear(4, 3), torch.randn(6, 4)
    answers = torch.randint(2, (6, 3)).float()
    answers[0, 0], answers[1, 2] = -100, torch.nan
    known = (answers >= 0) & ~answers.isnan()
    expected = F.binary_cross_entropy_with_logits(net(x)[known], answers[known])
    module = DistillationModule(MultiLabel(SingleInput(net)), CrossEntropy()).eval()
    torch.testing.assert_close(module.objective(module.loss_inputs((x, answers))).mean(), expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        MultiLabel,
        TransformersModel.wrap,
        lambda model: MultiLabel(TransformersModel.wrap(model)),
        lambda model: SingleInput(model, key="input_ids"),
        lambda model: MultiLabel(SingleInput(model, key="input_ids")),
    ],
    ids=["as it is", "MultiLabel", "wrapped", "both", "SingleInput", "MultiLabel of SingleInput"],
)
@torch.no_grad()
def test_a_model_that_says_so_answers_once_whatever_wraps_it(wrap: Any) -> None:
    model: Any = questions(0)
    batch = {"input_ids": text(0)["input_ids"], "labels": torch.randint(2, (3, 4)).float()}
    source = call_network(wrap(model).eval(), batch)
    assert source.shape == (3, 4, 2)
    own = model(input_ids=batch["input_ids"]).logits.sigmoid()
    torch.testing.assert_close(source.logits().softmax(-1)[..., 1], own)
    module = DistillationModule(wrap(model), CrossEntropy()).eval()
    loss = module.objective(module.loss_inputs(batch))
    torch.testing.assert_close(loss.mean(), model(**batch).loss.to(loss.total.dtype))


def test_tokens_that_were_replaced_are_questions() -> None:
    config = transformers.ElectraConfig(**BERT, embedding_size=8)
    model = transformers.ElectraForPreTraining(config).eval()
    ids, replaced = text(0)["input_ids"], torch.randint(2, (3, 10))
    batch = {"input_ids": ids, "labels": replaced}
    module = DistillationModule(MultiLabel(model), CrossEntropy(), labels="aligned").eval()
    loss = module.objective(module.loss_inputs(batch))
    torch.testing.assert_close(loss.mean(), model(**batch).loss)
