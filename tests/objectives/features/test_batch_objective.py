"""Losses between the samples of a batch: those of all ranks in training, of one in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdlight.objectives import (
    BatchObjective,
    ForwardKL,
    LinearCKA,
    LossInputs,
    Objective,
    Relational,
    SimilarityPreserving,
    Weighted,
)
from tests.objectives.features.samples import PAIRS, feature_inputs, randn
from tests.support.gloo import run_on_ranks

MADE: dict[str, Callable[..., BatchObjective]] = {
    "similarity_preserving": lambda **o: SimilarityPreserving(PAIRS, **o),
    "relational": lambda **o: Relational(PAIRS, **o),
    "linear_cka": lambda **o: LinearCKA(PAIRS, **o),
    "debiased": lambda **o: LinearCKA(PAIRS, debiased=True, **o),
}
WIDTH, CLASSES, TOKENS = 4, 5, 3
# valid tokens of each sample, by rank: unequal numbers of samples, and a rank without a valid one
SPLITS: dict[str, list[list[int]]] = {
    "unequal": [[3, 1, 0, 2, 3], [1, 2]],
    "one rank is empty": [[0, 0], [2, 3, 1, 1, 2]],
    "one rank has no sample": [[1, 3, 3, 2, 0, 1], []],
}
LARGE = [[2, 3, 3, 1, 1], [3, 1, 2, 1]]


class Student(nn.Module):
    """Hidden states of each token, and logits from them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, 6), nn.Linear(6, CLASSES)
        with torch.no_grad():
            for seed, weight in enumerate(self.parameters()):
                weight.data = randn(*weight.shape, seed=seed)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.body(x))
        return hidden, self.head(hidden)


def evaluate(
    make: Callable[[], Objective], split: list[list[int]], ranks: slice, *, training: bool = True
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Total, count, and gradients of the student, on the samples of some ranks together."""
    lengths = torch.tensor([n for each in split for n in each])
    starts = torch.tensor([len(each) for each in split]).cumsum(0).tolist()
    start = 0 if not ranks.start else starts[ranks.start - 1]
    rows = slice(start, starts[ranks.stop - 1])
    x, teacher = randn(len(lengths), TOKENS, WIDTH, seed=7), randn(len(lengths), TOKENS, 9, seed=8)
    answers = randn(len(lengths), TOKENS, CLASSES, seed=9)
    student = Student()
    hidden, logits = student(x[rows])
    mask = torch.arange(TOKENS) < lengths[rows, None]
    # not the positions of the logits: each sample counts with the number of its valid tokens
    inputs = feature_inputs(hidden[:, :2], teacher[rows, :2], logits=logits, mask=mask)
    object.__setattr__(inputs, "teacher", LossInputs(answers[rows]).student)
    loss = make().train(training)(inputs)
    loss.total.backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in student.named_parameters()
    }
    return [loss.total.detach(), loss.count.to(torch.float64)], gradients


def plain(name: str, **options: Any) -> Objective:
    return MADE[name](**options)


def mixture(name: str, **options: Any) -> Objective:
    terms = {"kd": ForwardKL(temperature=2.0), "relations": plain(name, **options)}
    return Weighted(terms, weights={"kd": 0.7, "relations": 30.0})


def check_ranks(rank: int) -> None:
    own = slice(rank, rank + 1)
    for name, split, mixed in product(MADE, SPLITS.values(), (False, True)):
        make = partial(mixture if mixed else plain, name)
        sums, gradients = evaluate(make, split, own)
        expected, whole = evaluate(partial(make, gather=False), split, slice(0, len(split)))
        for tensor in (*sums, *gradients.values()):
            dist.all_reduce(tensor)
        assert_equal(sums, expected, name)
        assert_equal(gradients.values(), whole.values(), name)
    for name in MADE:
        make, alone = partial(plain, name), partial(plain, name, gather=False)
        together, _ = evaluate(make, LARGE, own)
        evaluated, _ = evaluate(make, LARGE, own, training=False)
        expected, _ = evaluate(alone, LARGE, own)
        assert_equal(evaluated, expected, name)  # in evaluation each rank has its own samples
        assert (together[0] - expected[0]).abs() > 1e-4
    inputs = feature_inputs(randn(2, 6 + 3 * rank), randn(2, 4))
    with pytest.raises(ValueError, match=r"'layer' have rows of different widths.*\(6, 9\)"):
        SimilarityPreserving(PAIRS)(inputs)


def assert_equal(actual: Any, expected: Any, name: str) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=lambda m: f"{name}: {m}")


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    run_on_ranks(check_ranks, tmp_path)


@pytest.mark.parametrize("name", MADE)
def test_no_process_group_is_needed(name: str) -> None:
    inputs = feature_inputs(randn(5, 4), randn(5, 7, seed=1))
    objective = MADE[name]()
    assert not dist.is_initialized()
    assert objective.train()(inputs).total == objective.eval()(inputs).total
    assert objective.train()(inputs).total == MADE[name](gather=False)(inputs).total


@pytest.mark.parametrize("name", MADE)
def test_the_mean_is_that_of_the_batch_whatever_the_lengths(name: str) -> None:
    """The count is that of tokens, for a sum with others; the mean is the loss of the batch."""
    student, teacher = randn(5, 4), randn(5, 7, seed=1)
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 1, 2])[:, None]
    short = MADE[name]()(feature_inputs(student, teacher))
    long = MADE[name]()(feature_inputs(student, teacher, logits=torch.zeros(5, 3, 2), mask=mask))
    assert (short.count, long.count) == (5, 9)
    torch.testing.assert_close(long.mean(), short.mean(), rtol=1e-12, atol=0)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(
        ValueError, match="pooling must be one of 'auto', 'mean', 'flatten', got 'm"
    ):
        SimilarityPreserving(PAIRS, pooling="max")  # type: ignore[arg-type]


def test_a_subclass_without_relation_names_its_class() -> None:
    class Nothing(BatchObjective):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing does not define relation\(\)"):
        Nothing(PAIRS)(feature_inputs(randn(3, 4), randn(3, 4)))
