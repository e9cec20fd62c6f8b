"""Positions divided among ranks: sums, counts and gradients are those of whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import LossInputs, Projected
from kdlight.data import PositionShares, batch_labels, divide_positions
from kdlight.data.divided_positions import check_divisible
from kdlight.objectives import (
    BDKD,
    DPO,
    ULD,
    CrossEntropy,
    ForwardKL,
    HiddenStates,
    MultiLevelOT,
    Objective,
    RoutedKD,
    Sinkhorn,
    SinkhornKD,
    SpanKL,
    Weighted,
)
from kdlight.sources import LogitsSource, TopK
from tests.objectives.test_laws import settings

VOCABULARY, LENGTH = 7, 11
WHOLE = {"bdkd(granularity=sequence)", "multi_level_ot", "uld"}
"""Objectives that compare whole sequences; the optimal transport of "sinkd" compares all rows."""
SETTINGS: dict[str, Callable[[], Objective]] = {
    name: make
    for name, make in settings().items()
    if name not in WHOLE and not name.startswith("sinkd")
} | {"mixture": lambda: Weighted({"kd": ForwardKL(), "ce": CrossEntropy()}, weights={"ce": 0.2})}


def on_rank(monkeypatch: pytest.MonkeyPatch, ranks: int, rank: int) -> None:
    over = staticmethod(lambda length, group=None: PositionShares(length, ranks, rank))
    monkeypatch.setattr(PositionShares, "over", over)


def make_batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (3, LENGTH), generator=draw)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0  # padding on the left, and on the right of another row
    mask[2, 4:] = 0
    labels = ids.masked_fill(torch.rand(ids.shape, generator=draw) < 0.2, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Network(nn.Module):
    """A model of single positions: of a token and where it stands."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens, self.places = nn.Embedding(VOCABULARY, 4), nn.Embedding(LENGTH + 4, 4)
            self.head = nn.Linear(4, VOCABULARY)
        self.double()

    def forward(self, batch: dict[str, Tensor]) -> Projected:
        hidden = self.tokens(batch["input_ids"]) + self.places(batch["position_ids"])
        return Projected(hidden.tanh(), self.head)


def inputs(
    student: LogitsSource, teacher: LogitsSource, labels: Tensor, chunked: Any = False
) -> LossInputs:
    return LossInputs(student, teacher, labels, labels != -100, chunked=chunked)


def measure(objective: Objective, student: nn.Module, parts: list[LossInputs]) -> list[Tensor]:
    """Return the sums of totals, counts and named sums, and the gradients."""
    losses = [objective(each) for each in parts]
    total = torch.stack([loss.total for loss in losses]).sum()
    every = [*student.parameters(), *objective.parameters()]
    parameters = [parameter for parameter in every if parameter.requires_grad]
    grads = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    named = [sum(loss.parts[name] for loss in losses) for name in losses[0].parts]
    count = torch.stack([loss.count for loss in losses]).sum()
    return [total, count, *map(torch.as_tensor, named), *grads]


@pytest.mark.parametrize("ranks", [2, 12])
@pytest.mark.parametrize("name", SETTINGS)
def test_sums_counts_and_gradients_are_those_of_whole_sequences(
    name: str, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = SETTINGS[name]().double()
    student, teacher, batch = Network(1), Network(2).requires_grad_(False), make_batch()
    labels = batch_labels(batch, "causal")
    assert labels is not None
    # with a mask, positions are counted from the first token that is not padding
    places = {"position_ids": torch.arange(LENGTH) - torch.tensor([[0], [3], [0]])}
    placed: dict[str, Tensor] = {**batch, "position_ids": places["position_ids"].clamp(min=0)}
    whole = [inputs(student(placed), teacher(placed), labels)]
    divided = []
    for rank in range(ranks):
        on_rank(monkeypatch, ranks, rank)
        own = divide_positions(batch)
        assert own["labels"].shape == own["input_ids"].shape == (3, -(-LENGTH // ranks))
        divided.append(inputs(student(own), teacher(own), own["labels"]))
    expected, actual = (measure(objective, student, parts) for parts in (whole, divided))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_teacher_of_whole_sequences_is_divided(
    ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, batch, objective = Network(1), make_batch(), ForwardKL()
    labels = batch_labels(batch, "causal")
    assert labels is not None
    placed = {**batch, "position_ids": torch.arange(LENGTH).expand(3, -1)}
    top = Network(2)(placed).logits().detach().log_softmax(-1).topk(3)
    cached = TopK(top.indices, top.values, VOCABULARY)
    divided = []
    for rank in range(ranks):
        on_rank(monkeypatch, ranks, rank)
        own = divide_positions(placed)
        teacher = PositionShares.over(LENGTH).of_source(cached)
        rows = student(own).select(None)  # positions on one axis, as those of the teacher
        divided.append(inputs(rows, teacher, own["labels"].flatten()))
    expected = measure(objective, student, [inputs(student(placed), cached, labels)])
    for one, other in zip(measure(objective, student, divided), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_last_label_of_a_rank_is_the_first_token_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = {"input_ids": torch.arange(10, 15).unsqueeze(0), "name": ["a"]}
    on_rank(monkeypatch, 2, 0)
    first = divide_positions(batch)
    on_rank(monkeypatch, 2, 1)
    second = divide_positions(batch)
    assert first["input_ids"].tolist() == [[10, 11, 12]]
    assert first["labels"].tolist() == [[11, 12, 13]]
    assert second["labels"].tolist() == [[14, -100, -100]]
    assert second["position_ids"].tolist() == [[3, 4, 0]]
    assert (first["name"], second["input_ids"].tolist()) == (["a"], [[13, 14, 0]])


def test_labels_that_are_aligned_already_are_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    on_rank(monkeypatch, 2, 1)
    ids = torch.arange(4).unsqueeze(0)
    own = divide_positions({"input_ids": ids, "labels": ids + 7}, labels="aligned", ignore_index=9)
    assert own["labels"].tolist() == [[-100, 10]]


def test_a_process_without_others_has_all_positions() -> None:
    own = divide_positions(make_batch())
    assert own["input_ids"].tolist() == make_batch()["input_ids"].tolist()


def test_labels_that_are_numbers_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    on_rank(monkeypatch, 2, 1)
    values = torch.tensor([[0.7, -1.7, 2.5]], dtype=torch.float64)
    own = divide_positions(
        {"input_ids": torch.ones(1, 3).long(), "labels": values}, labels="aligned"
    )
    expected = torch.tensor([[2.5, torch.nan]], dtype=torch.float64)
    torch.testing.assert_close(own["labels"], expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("labels", ["causal", "aligned"])
def test_labels_of_whole_rows_are_refused(labels: Any) -> None:
    batch = {"input_ids": torch.ones(2, 4).long(), "labels": torch.ones(2).long()}
    with pytest.raises(ValueError, match=r"labels have shape \(2,\).* of input_ids, \(2, 4\)"):
        divide_positions(batch, labels=labels)
    assert divide_positions(batch, labels="none")["labels"] is batch["labels"]


@pytest.mark.parametrize(
    "batch",
    [
        {"labels": torch.zeros(2, 3)},
        {"input_ids": torch.zeros(3)},
        {"input_ids": torch.zeros(2, 3), "rejected": torch.tensor([True, False])},
        {"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 1, 3, 3)},
        {"input_ids": torch.zeros(2, 3), "position_ids": torch.ones(3, 2, 3)},
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"needs a batch with input_ids|tells about whole rows"):
        divide_positions(batch)


@pytest.mark.parametrize(
    "objective",
    [
        ULD(),
        DPO(),
        SpanKL(),
        MultiLevelOT(),
        Sinkhorn(geometry="sequence"),
        Sinkhorn(gather=False),
        SinkhornKD(),
        SinkhornKD(gather=False),
        HiddenStates({"layers.0": "layers.0"}),
        RoutedKD(teachers=["a", "b"]),
        BDKD(granularity="sequence"),
        Weighted({"kd": ForwardKL(), "span": SpanKL()}),
    ],
)
def test_objectives_that_are_no_sums_over_tokens_are_refused(objective: Objective) -> None:
    # of a mixture the error names the term
    named = {SinkhornKD: Sinkhorn, Weighted: SpanKL}.get(type(objective), type(objective))
    message = rf"^{named.__name__} is no sum over tokens"
    with pytest.raises(ValueError, match=message):
        divide_positions(make_batch(), objective=objective)


@pytest.mark.parametrize("name", SETTINGS)
def test_objectives_on_tokens_are_accepted(name: str) -> None:
    check_divisible(SETTINGS[name]())
