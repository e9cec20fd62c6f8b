"""The objective REDI beyond the laws: sides that do not meet, guards, and how work is split."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from kdlight import losses
from kdlight.objectives import DPO, REDI, CrossEntropy, ForwardKL, LossInputs, SimPO, Weighted
from tests.support.split_fit import Options, Result, fit, fit_on_ranks

V = 7
LENGTHS = torch.tensor([3, 6, 2, 4, 1, 5])


def step(rejected: list[bool], *, teacher: Tensor | None = None) -> LossInputs:
    """As many sequences of different length as ``rejected`` has entries."""
    generator = torch.Generator().manual_seed(1)
    lengths = LENGTHS[: len(rejected)]
    mask = torch.arange(6) < lengths[:, None]
    shape = (len(rejected), 6)
    z = torch.randn(*shape, V, dtype=torch.float64, generator=generator)
    labels = torch.randint(V, shape, generator=generator).masked_fill(~mask, -100)
    return LossInputs(z.requires_grad_(), teacher, labels, mask, rejected=torch.tensor(rejected))


def means(given: LossInputs) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities of right and wrong sequences."""
    assert given.labels is not None
    assert given.rejected is not None
    sums, lengths = losses.sequence_log_probs(given.student.logits(), given.labels)
    m = sums / lengths
    return m[~given.rejected], m[given.rejected]


def gradient(loss: Any, given: LossInputs) -> Tensor:
    return torch.autograd.grad(loss, given.student.tensor, retain_graph=True)[0]  # type: ignore[attr-defined]


def test_pairs_give_the_loss_of_the_paper() -> None:
    given = step([False, True, True, False])
    right, wrong = means(given)
    expected = losses.redi(right, wrong, alpha=0.8, chosen_weight=0.5).mean()
    loss = REDI(alpha=0.8, chosen_weight=0.5)(given).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, given), gradient(expected, given))


def test_unpaired_sides_are_each_divided_by_their_own_number() -> None:
    given = step([False, True, True, False, True, True])
    right, wrong = means(given)
    loss = REDI(alpha=0.8, rejected_per_chosen=2.0)(given).mean()
    torch.testing.assert_close(loss, -right.mean() + 0.8 * wrong.mean())


def test_without_a_word_on_rejection_all_are_right() -> None:
    given = step([False, False, False])
    loss = REDI()(LossInputs(given.student, None, given.labels, given.mask)).mean()
    torch.testing.assert_close(loss, -means(given)[0].mean())


def test_parts_are_means_over_each_side() -> None:
    given = step([False, True, True, False])  # lengths 3, 6, 2, 4
    loss = REDI(alpha=0.8)(given)
    parts = {name: (part / loss.count).item() for name, part in loss.parts.items()}
    assert parts["chosen_length"] == 3.5
    assert parts["rejected_length"] == 4
    assert parts["short_rejected"] == 0.5  # 2 < 0.8 * 4, and 6 > 0.8 * 3
    right = losses.sequence_log_probs(given.student.logits(), given.labels)[0][[0, 3]]  # type: ignore[arg-type]
    assert parts["chosen_sum"] == pytest.approx(right.mean().item())


def test_a_floor_leaves_unlikely_tokens_alone() -> None:
    given = step([True, True])
    free = gradient(REDI()(given).total, given)
    held = gradient(REDI(floor=-2.0)(given).total, given)
    assert given.labels is not None
    assert given.mask is not None
    log_p = -losses.cross_entropy(given.student.logits(), given.labels)
    low = (log_p < -2.0) & given.mask
    assert low.any()
    assert not low[given.mask].all()
    assert not held[low].any()
    torch.testing.assert_close(held[~low], free[~low])


def test_a_gate_leaves_alone_what_the_teacher_would_not_say() -> None:
    teacher = torch.randn(2, 6, V, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    given = step([True, True], teacher=teacher)
    assert given.labels is not None
    assert given.mask is not None
    sure = (-losses.cross_entropy(teacher, given.labels)).exp() > 0.1
    free, gated = (gradient(REDI(gate=gate)(given).total, given) for gate in (0.0, 0.1))
    assert not gated[~sure].any()
    torch.testing.assert_close(gated[sure], free[sure])
    assert 0 < (sure & given.mask).sum() < given.mask.sum()


def test_a_short_wrong_sequence_weighs_less_with_a_minimum_length() -> None:
    given = step([False, False, True])  # the wrong one has 2 tokens
    free, held = (gradient(REDI(min_rejected_length=least)(given).total, given) for least in (1, 8))
    torch.testing.assert_close(held[2] * 4, free[2])
    torch.testing.assert_close(held[:2], free[:2])


def test_divergence_stands_on_the_right_side_alone() -> None:
    teacher = torch.randn(4, 6, V, dtype=torch.float64)
    given = step([False, True, True, False], teacher=teacher)
    plain = gradient(REDI()(given).total, given)
    mixed = gradient(REDI(kd=ForwardKL(), kd_weight=0.5)(given).total, given)
    torch.testing.assert_close(mixed[1:3], plain[1:3])
    assert (mixed[0] - plain[0]).abs().max() > 1e-2


def test_a_mixture_counts_it_in_tokens() -> None:
    given = step([False, True])
    mix = Weighted({"redi": REDI(), "ce": CrossEntropy()}, weights={"ce": 0.0})(given)
    torch.testing.assert_close(mix.mean(), REDI()(given).mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: REDI(alpha=1.2), "alpha must be in"),
        (lambda: REDI(rejected_per_chosen=0.0), "rejected_per_chosen must be above 0"),
        (lambda: REDI(floor=0.1), "floor is a log-probability"),
        (lambda: REDI(gate=1.0), "gate must be in"),
        (lambda: REDI(min_rejected_length=0), "min_rejected_length must be"),
        (lambda: REDI(gate=0.5)(step([True])), "needs a teacher"),
        (
            lambda: REDI()(LossInputs(torch.zeros(3, V), labels=torch.zeros(3).long())),
            "whole sequences",
        ),
        (lambda: DPO(beta=-1.0), "beta must be above 0"),
        (lambda: SimPO()(step([False, False, True])), "2 chosen and 1 rejected"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- how the work is split: the law of test_split.py

BIG: Options = {"batch_size": 8, "validate": 0.0}
RAGGED = {
    "count": 27,
    "silent": [0, 1, 3, 5, 7, 10, 11],
    "rejected": [
        2,
        4,
        6,
        9,
        12,
        13,
        14,
        15,
        21,
        23,
        25,
    ],  # some micro-batches hold wrong ones alone
}
WORK: dict[str, Options] = {"plain": {"objective": "redi"}, "kd": {"objective": "redi_kd"}}
SPLITS: dict[str, Options] = {
    "accumulated": {"batch_size": 2, "accumulate": 4},
    "ddp": {"batch_size": 2, "accumulate": 2, "strategy": "ddp"},
    "fsdp2": {"batch_size": 2, "accumulate": 2, "strategy": "fsdp2"},
}


def options(work: str, split: Options) -> Options:
    return {**BIG, "data": RAGGED, **WORK[work], **split}


@cache
def whole(work: str) -> Result:
    with isolate_rng():
        return fit(options(work, {}))


def far(first: Result, second: Result) -> float:
    assert "error" not in second, second["error"]
    a, b = first["parameters"], second["parameters"]
    return max(((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a)


@pytest.mark.parametrize("work", WORK)
def test_micro_batches_change_nothing(work: str) -> None:
    assert far(whole(work), fit(options(work, SPLITS["accumulated"]))) < 1e-10


@pytest.mark.slow
def test_ranks_change_nothing(tmp_path: Any) -> None:
    cases = {f"{w} {s}": options(w, SPLITS[s]) for w in WORK for s in ("ddp", "fsdp2")}
    ranks = fit_on_ranks(cases, tmp_path)
    for name in cases:
        assert far(whole(name.split()[0]), ranks[0][name]) < 1e-10
        assert ranks[0][name]["losses"] == ranks[1][name]["losses"]
