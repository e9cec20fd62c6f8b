"""Several teachers in one fit: their average, and rows that name their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import (
    CachedTeacher,
    Chunking,
    FrozenTeacher,
    SelectiveTeacher,
    TeacherEnsemble,
    TopK,
    losses,
)
from kdlight.cache import Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.objectives import CrossEntropy, ForwardKL, Loss, LossInputs, Objective, Weighted
from kdlight.reduce import token_sum
from kdlight.teachers import Teacher
from tests.support import runs, toy

A, B = (FrozenTeacher(toy.ToyLM(12, seed=seed)) for seed in (2, 3))


@pytest.fixture
def batch() -> dict[str, Any]:
    return next(iter(toy.loader(5)))


@pytest.fixture
def cached(tmp_path: Path) -> CachedTeacher:
    """Return the logits of the second teacher from disk."""
    module = toy.module()
    module.teacher = B
    settings = Settings(k=None, bits=32)
    data = toy.RaggedModule(5)
    write_cache(module, data, toy.trainer(tmp_path), str(tmp_path / "cache"), settings)
    return CachedTeacher(str(tmp_path / "cache"))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_probabilities_are_averaged(batch: Any, cached: CachedTeacher) -> None:
    p, q = (teacher(batch).logits().softmax(-1) for teacher in (A, B))
    mask = batch["labels"].roll(-1, 1) != -100
    mask[:, -1] = False
    for second in (B, cached):
        ensemble = TeacherEnsemble({"a": A, "b": second}, weights={"a": 3.0})
        rows = ensemble(batch).select(mask.flatten().nonzero().flatten())
        student = torch.randn(int(mask.sum()), toy.VOCABULARY)
        close(rows.given_student(student).exp(), (0.75 * p + 0.25 * q)[mask])  # type: ignore[attr-defined]
    close(TeacherEnsemble({"a": A, "b": B})(batch).logits().exp(), (p + q) / 2)


@pytest.mark.parametrize("names", [["b", "a", "a", "b", "a"], torch.tensor([1, 0, 0, 1, 0])])
def test_each_row_gets_the_logits_of_the_teacher_it_names(
    names: Any, batch: Any, cached: CachedTeacher
) -> None:
    routed = {**batch, "whose": names}
    at_b = torch.tensor([True, False, False, True, False])
    expected = torch.where(at_b[:, None, None], B(batch).logits(), A(batch).logits())
    source = TeacherEnsemble({"a": A, "b": B}, route_by="whose")(routed)
    assert source.shape == expected.shape
    close(source.logits(), expected)
    index = torch.tensor([0, 17, 3, expected[..., 0].numel() - 1])
    close(source.select(index).logits(), expected.flatten(0, 1)[index])
    assert source.select(torch.empty(0, dtype=torch.long)).logits().shape == (0, toy.VOCABULARY)
    # live and cached, in a loss
    student = toy.ToyLM(seed=1)(batch).logits()
    labels = batch["labels"].roll(-1, 1)
    labels[:, -1] = -100
    losses = [
        ForwardKL()(LossInputs(student, each, labels, labels != -100)).total
        for each in (expected, TeacherEnsemble({"a": A, "b": cached}, route_by="whose")(routed))
    ]
    close(losses[1], losses[0])


def test_a_fit_with_two_teachers(tmp_path: Path, cached: CachedTeacher) -> None:
    module = toy.module(ForwardKL())
    module.teacher = TeacherEnsemble({"a": toy.ToyLM(12, seed=2), "b": cached})
    toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(4))
    assert all("teacher" not in name for name in module.state_dict())


# ---- weights at each position, and teachers apart


class SumOfTeachers(Objective):
    """A hand-written objective: the sum of the KL from each teacher, through the driver."""

    def forward(self, inputs: LossInputs) -> Loss:
        each = [
            token_sum(
                lambda student, teacher, labels: losses.forward_kl(student, teacher),
                inputs.student,
                teacher,
                mask=inputs.mask,
                chunked=inputs.chunked,
            )
            for teacher in inputs.teachers.values()
        ]
        return Loss(torch.stack([loss.total for loss in each]).sum(), each[0].count)


THRESHOLD = 3.409
"""Bits of entropy that some rows of the batch have, and others have not."""


def ensembles(cached: CachedTeacher) -> dict[str, tuple[dict[str, Teacher], str]]:
    one, two = (FrozenTeacher(toy.ToyLM(12, seed=seed).double()) for seed in (2, 3))
    nested = TeacherEnsemble({"a": one, "b": two}, weigh_by="entropy")
    inner = TeacherEnsemble({"x": one, "y": two}, weigh_by="confidence")
    return {
        "live": ({"a": one, "b": two}, "confidence"),
        "cached": ({"a": cached, "b": TeacherEnsemble({"b": cached})}, "confidence"),
        "mixed": ({"a": one, "b": cached, "c": two}, "entropy"),
        "nested": ({"a": nested, "b": cached, "c": nested}, "confidence"),
        "selective": ({"a": SelectiveTeacher(one, threshold=THRESHOLD), "b": cached}, "confidence"),
        "inside": ({"a": SelectiveTeacher(inner, threshold=THRESHOLD), "b": two}, "trust"),
    }


KINDS = ["live", "cached", "mixed", "nested", "selective", "inside"]


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # the share of queried rows
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_teachers_apart_change_nothing(
    kind: str, batch: Any, cached: CachedTeacher
) -> None:
    teachers, rule = ensembles(cached)[kind]
    if rule == "trust":
        trust = torch.rand(5, len(teachers), generator=torch.Generator().manual_seed(1))
        batch = {**batch, "trust": trust}
    results, shares = [], []
    for objective, chunked in (
        (ForwardKL(), False),
        (ForwardKL(), Chunking(7, 3)),
        (SumOfTeachers(), False),
        (SumOfTeachers(), Chunking(7, 3)),
    ):
        module = toy.module(objective, dtype="float64", chunked=chunked)
        module.teacher = TeacherEnsemble(teachers, weigh_by=rule)
        inputs = module.loss_inputs(batch)
        loss = objective(inputs)
        found = torch.autograd.grad(loss.total, [*module.student.parameters()])
        grads = torch.cat([each.flatten() for each in found])
        assert loss.total > 0
        results.append(torch.cat([loss.total.detach()[None], grads]))
        assert inputs.teacher is not None
        shares.append(inputs.teacher.shares)
        for each in teachers.values():
            assert not isinstance(each, SelectiveTeacher) or 0 < each.share < 1
    for dense, chunks in (results[:2], results[2:]):
        torch.testing.assert_close(chunks, dense, rtol=1e-12, atol=1e-12)
    assert [*shares[0]] == [*shares[1]] == [*teachers]
    for dense, chunks in zip(shares[0].values(), shares[1].values(), strict=True):
        torch.testing.assert_close(chunks, dense)
    torch.testing.assert_close(sum(shares[0].values()), torch.ones_like(shares[0]["a"]))
    assert shares[2] == shares[3] == {}  # no average was evaluated, and no weight used

    # the sum over teachers is that of an objective on each of them alone
    module = toy.module(ForwardKL(), dtype="float64")
    module.teacher = TeacherEnsemble(teachers, weigh_by=rule)
    inputs = module.loss_inputs(batch)
    apart = [
        ForwardKL()(LossInputs(inputs.student, each, inputs.labels, inputs.mask)).total
        for each in inputs.teachers.values()
    ]
    assert len(apart) == len(teachers)
    torch.testing.assert_close(results[2][0], sum(apart).detach(), rtol=1e-12, atol=0)  # type: ignore[union-attr]


def test_the_weighted_average_has_the_gradient_of_weighted_losses(batch: Any) -> None:
    """So say the papers of both rules, which weigh the losses of the teachers."""
    student = toy.ToyLM(seed=1).double()(batch).logits().detach().requires_grad_()
    labels = batch["labels"].roll(-1, 1)
    labels[:, -1] = -100
    ensemble = TeacherEnsemble({"a": A, "b": B}, weigh_by="confidence")
    source = ensemble.answer(batch, labels=labels)
    loss = ForwardKL()(LossInputs(student, source, labels, labels != -100)).total
    p = torch.stack([t(batch).logits().double().softmax(-1) for t in (A, B)])
    mask = labels != -100
    at_label = p[:, mask].gather(-1, labels[mask].expand(2, -1).unsqueeze(-1)).squeeze(-1)
    weights = at_label / at_label.sum(0)  # of two teachers
    apart = [losses.forward_kl(student[mask], each[mask].log()) for each in p]
    weighted = (torch.stack(apart) * weights).sum()
    grads = [torch.autograd.grad(each, student)[0] for each in (loss, weighted)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", ["rows", "positions"])
def test_weights_in_a_field_of_the_data(shape: str, batch: Any, cached: CachedTeacher) -> None:
    positions = batch["input_ids"].shape
    weights = torch.rand(*(positions[:1] if shape == "rows" else positions), 2) * 3
    ensemble = TeacherEnsemble({"a": A, "b": cached}, weigh_by="trust")  # no key of the cache
    mask = batch["labels"].roll(-1, 1) != -100
    mask[:, -1] = False
    student = torch.randn(int(mask.sum()), toy.VOCABULARY)
    source = ensemble({**batch, "trust": weights}).select(mask.flatten().nonzero().flatten())
    p, q = (teacher(batch).logits().softmax(-1) for teacher in (A, B))
    w = weights / weights.sum(-1, keepdim=True)
    w = w[:, None].expand(*positions, 2) if shape == "rows" else w
    close(source.given_student(student).exp(), (w[..., :1] * p + w[..., 1:] * q)[mask])


class Record(runs.Watch):
    """Records what is logged in each optimizer step."""

    def __init__(self) -> None:
        super().__init__(lambda objective: None)
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.logged.append(dict(pl_module.last_step.parts))


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_shares_are_logged_over_the_positions_of_a_step(micro_batches: int, tmp_path: Path) -> None:
    record = Record()
    module = toy.module(Weighted({"kd": ForwardKL(), "ce": CrossEntropy()}))
    module.teacher = TeacherEnsemble({"a": A, "b.2": B}, weigh_by="confidence")
    data = toy.RaggedModule(8 // micro_batches)
    run = toy.trainer(tmp_path, callbacks=[record], accumulate_grad_batches=micro_batches)
    run.fit(module, datamodule=data)
    assert len(record.logged) == 4
    for number, logged in enumerate(record.logged):
        rows = [data.data[row] for row in range(8 * number, 8 * number + 8)]
        batch = toy.pad(rows)
        labels = batch["labels"].roll(-1, 1)
        labels[:, -1] = -100
        mask = labels != -100
        p, q = (
            t(batch).logits().softmax(-1)[mask].gather(-1, labels[mask][:, None]) for t in (A, B)
        )
        assert logged["teacher/a/share"] == pytest.approx((p / (p + q)).mean().item(), rel=1e-5)
        assert logged["teacher/b.2/share"] == pytest.approx(1 - logged["teacher/a/share"], rel=1e-5)
    # in validation, where the labels are read as well
    assert 0.3 < run.callback_metrics["val/teacher/a/share"] < 0.7
    assert run.callback_metrics["val/teacher/b.2/forward_kl"] > 0
    assert run.callback_metrics["train/teacher/a/share"] == record.logged[-1]["teacher/a/share"]


def test_shares_of_routed_rows_are_logged(tmp_path: Path, batch: Any) -> None:
    module = toy.module(ForwardKL())
    module.teacher = TeacherEnsemble({"a": A, "b": B, "c": A}, route_by="whose")
    inputs = module.loss_inputs({**batch, "whose": ["a", "c", "c", "a", "c"]})
    module.objective(inputs)
    assert inputs.teacher is not None
    assert inputs.mask is not None
    shares = {name: share.item() for name, share in inputs.teacher.shares.items()}
    at_a = inputs.mask[[0, 3]].sum() / inputs.mask.sum()
    assert shares == pytest.approx({"a": at_a.item(), "b": 0.0, "c": 1 - at_a.item()})


def test_the_average_without_labels_is_measured_as_the_teacher(batch: Any) -> None:
    module = toy.module(ForwardKL()).eval()
    values = {}
    for rule in ("confidence", None):
        module.teacher = TeacherEnsemble({"a": A, "b": B}, weigh_by=rule)
        module.metrics.reset()
        module.metrics.update(module.loss_inputs(batch))
        values[rule] = module.metrics.compute()
    for name in ("teacher_nll", "teacher_accuracy", "teacher_ece", "teacher/a/forward_kl"):
        torch.testing.assert_close(values["confidence"][name], values[None][name])
    assert not torch.isclose(values["confidence"]["forward_kl"], values[None]["forward_kl"])


# ---- what is refused


def test_confidence_without_labels_is_refused(batch: Any, tmp_path: Path) -> None:
    by_confidence = TeacherEnsemble({"a": A, "b": B}, weigh_by="confidence")
    with pytest.raises(ValueError, match="weigh_by='confidence' .* labels, but there are none"):
        by_confidence(batch)
    with pytest.raises(ValueError, match=r"these are torch.float32 \(5, 1\) and not the number"):
        by_confidence.answer(batch, labels=torch.zeros(5, 1))
    module = toy.module(ForwardKL(), labels="none")
    module.teacher = TeacherEnsemble({"inner": by_confidence}, weigh_by="entropy")
    record = Record()
    with pytest.raises(ValueError, match="labels='none' of the module says there are none"):
        toy.trainer(tmp_path, callbacks=[record]).fit(module, datamodule=toy.RaggedModule(4))
    assert module._trainer is None or not module.trainer.global_step


def test_weights_of_ignored_positions_may_be_anything(batch: Any) -> None:
    weights = torch.rand(*batch["input_ids"].shape, 2)
    labels = batch["labels"].roll(-1, 1)
    labels[:, -1] = -100
    weights[labels == -100] = 0.0
    ensemble = TeacherEnsemble({"a": A, "b": B}, weigh_by="trust")
    source = ensemble.answer({**batch, "trust": weights}, labels=labels)
    assert source.logits().isfinite().all()
    with pytest.raises(ValueError, match=r"not all 0, got \[0.0, 0.0\] in row"):
        ensemble({**batch, "trust": weights})


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"teachers": {}}, "at least one teacher"),
    ({"teachers": {"a": A}, "weights": {"b": 1.0}}, r"weights must be of \['a'\]"),
    ({"teachers": {"a": A}, "weights": {"a": 0.0}}, "must not all be 0"),
    ({"teachers": {"a": A}, "weights": {"a": 1.0}, "route_by": "x"}, "leave out weights"),
    ({"teachers": {"a": A}, "weigh_by": "entropy", "route_by": "x"}, "weigh_by or route_by"),
    ({"teachers": {"a": A}, "weigh_by": "w", "weights": {"a": 1.0}}, "weigh_by or weights"),
]


@pytest.mark.parametrize(("options", "message"), INVALID)
def test_invalid_arguments_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherEnsemble(**options)


def test_teachers_without_names_raise() -> None:
    with pytest.raises(TypeError, match=r"as in \{'large': ..., 'small': ...\}, got list"):
        TeacherEnsemble([A, B])  # pyright: ignore[reportArgumentType]


def test_a_field_that_names_no_teacher_raises(batch: Any) -> None:
    ensemble = TeacherEnsemble({"a": A, "b": B}, route_by="whose")
    with pytest.raises(ValueError, match="is not a field of the batch, which has"):
        ensemble(batch)
    with pytest.raises(ValueError, match=r"one of the teachers \['a', 'b'\], got 'c' in row 2"):
        ensemble({**batch, "whose": ["a", "b", "c", "a", "a"]})


@pytest.mark.parametrize(
    "field",
    [["a", "b"], ["a"] * 6, torch.zeros(5, 1).long(), torch.zeros(4).long(), torch.zeros(5)],
    ids=["few_names", "many_names", "column", "few_indices", "floats"],
)
def test_a_field_that_is_not_one_teacher_for_each_row_raises(batch: Any, field: Any) -> None:
    ensemble = TeacherEnsemble({"a": A, "b": B}, route_by="whose")
    with pytest.raises(ValueError, match="an integer, for each of 5 rows, got torch"):
        ensemble({**batch, "whose": field})


def test_networks_are_those_of_all_live_teachers(cached: CachedTeacher) -> None:
    ensemble = TeacherEnsemble({"a": SelectiveTeacher(A), "b": cached, "c": B})
    assert ensemble.networks() == [A.model, B.model]
    assert isinstance(cached(next(iter(toy.loader(2)))), TopK)
