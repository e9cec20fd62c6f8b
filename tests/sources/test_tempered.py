"""A temperature divides the logits of any source, once they are computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdlight import Dense, Projected, TopK
from kdlight.losses.log_space import log_probs
from kdlight.sources import (
    Aligned,
    Alignment,
    ConfidenceWeights,
    Detached,
    LogitsSource,
    Mixture,
    Moved,
    Tempered,
    Unqueried,
    stack,
    tempered,
)
from kdlight.sources.tempered import depends_on_student

GENERATOR = torch.Generator().manual_seed(1)
LOGITS, OTHERS = torch.randn(2, 4, 5, generator=GENERATOR)
STUDENT = torch.randn(4, 5, generator=GENERATOR)
CPU = torch.device("cpu")


def projected(transform: object = None) -> Projected:
    head = nn.Linear(5, 5, bias=False)
    nn.init.eye_(head.weight)
    return Projected(LOGITS, head, transform)  # type: ignore[arg-type]


def aligned(source: LogitsSource) -> Aligned:
    return Aligned(source, Alignment(torch.arange(5), torch.arange(4, -1, -1), 5, 5))


def mixture() -> Mixture:
    return Mixture((Dense(LOGITS), Dense(OTHERS)), (0.3, 0.7), ("a", "b"))


def stacked(*sources: LogitsSource) -> LogitsSource:
    rows = [torch.tensor([0, 3]), torch.tensor([1, 2])]
    return stack([*sources], rows, torch.Size([4]), CPU)


WHOLE: dict[str, LogitsSource] = {
    "dense": Dense(LOGITS),
    "projected": projected(),
    "transformed": projected(torch.tanh),
    "aligned": aligned(Dense(LOGITS)),
    "moved": Moved(Dense(LOGITS), CPU, CPU),
    "detached": Detached(Dense(LOGITS)),
    "mixture": mixture(),
    "stacked": stacked(Dense(LOGITS[[0, 3]]), Dense(OTHERS[[1, 2]])),
}


def same(actual: Tensor, expected: Tensor) -> None:
    """Compare distributions: logits of top k and mixtures are log-probabilities."""
    torch.testing.assert_close(log_probs(actual), log_probs(expected))


@pytest.mark.parametrize("name", WHOLE)
def test_a_temperature_divides_all_logits(name: str) -> None:
    source = WHOLE[name]
    twice = tempered(tempered(source, 2.0), 1.5)
    torch.testing.assert_close(twice.logits(), source.logits() / 3)
    row = torch.tensor([2])
    torch.testing.assert_close(twice.select(row).logits(), source.logits()[2:3] / 3)
    given = twice.select(row).given_student(STUDENT[2:3])
    torch.testing.assert_close(given, source.logits()[2:3] / 3)
    assert (twice.shape, twice.device) == (source.shape, source.device)
    assert not depends_on_student(twice)


@pytest.mark.parametrize("name", ["dense", "projected", "transformed", "aligned", "moved"])
def test_the_type_stays(name: str) -> None:
    assert type(tempered(WHOLE[name], 2.0)) is type(WHOLE[name])


def test_a_temperature_of_one_changes_nothing() -> None:
    assert all(tempered(source, 1.0) is source for source in WHOLE.values())


def test_temperatures_of_a_top_k_source_are_multiplied() -> None:
    source = tempered(tempered(TopK.of(LOGITS, 5), 2.0), 1.5)
    assert isinstance(source, TopK)
    assert source.temperature == 3.0
    torch.testing.assert_close(source.logits(), (LOGITS / 3).log_softmax(-1))


def test_a_top_k_source_in_another_order_keeps_the_tail_of_the_student() -> None:
    source = tempered(aligned(TopK.of(LOGITS, 2)), 2.0)
    expected = TopK.of(LOGITS, 2)
    expected.temperature = 2.0
    assert depends_on_student(source)
    same(source.given_student(STUDENT), expected.given_student(STUDENT.flip(-1)).flip(-1))


def test_rows_without_an_answer_stay_those_of_the_student() -> None:
    source = stacked(Dense(LOGITS[[0, 3]]), Unqueried(torch.Size([2]), 5))
    divided = tempered(source, 2.0).given_student(STUDENT)
    assert torch.equal(divided[[1, 2]], STUDENT[[1, 2]])
    torch.testing.assert_close(divided[[0, 3]], LOGITS[[0, 3]] / 2)


def test_an_average_is_divided_as_a_whole() -> None:
    source = tempered(mixture(), 2.0)
    mean = 0.3 * LOGITS.softmax(-1) + 0.7 * OTHERS.softmax(-1)
    torch.testing.assert_close(source.logits().softmax(-1), (mean.log() / 2).softmax(-1))
    assert source.dtype == torch.float32
    assert dict(source.parts) == {}
    torch.testing.assert_close(source.shares["b"], torch.tensor(0.7))


def test_an_average_that_reads_labels_has_a_tempered_form_without_them() -> None:
    assert tempered(mixture(), 2.0).without_labels().logits().shape == (4, 5)
    source = Mixture(
        (Dense(LOGITS), Dense(OTHERS)), ConfidenceWeights(torch.tensor([0, 1, 2, 3])), ("a", "b")
    )
    expected = Tempered(source.without_labels(), 2.0).logits()
    assert torch.equal(tempered(source, 2.0).without_labels().logits(), expected)
    unchanged = tempered(mixture(), 2.0)
    assert unchanged.without_labels() is unchanged


def test_an_average_of_cached_teachers_is_refused() -> None:
    source = Mixture((TopK.of(LOGITS, 2), Dense(OTHERS)), (0.5, 0.5), ("a", "b"))
    assert depends_on_student(source)
    with pytest.raises(
        ValueError, match="cannot be divided by a temperature as a whole; give each"
    ):
        tempered(source, 2.0)
    assert tempered(source, 1.0) is source


def test_half_precision_is_divided_in_float32() -> None:
    assert tempered(Dense(LOGITS.half()), 3.0).dtype == torch.float32
    half = Mixture((Dense(LOGITS.half()), Dense(OTHERS.half())), (0.5, 0.5), ("a", "b"))
    assert tempered(half, 3.0).logits().dtype == torch.float32
