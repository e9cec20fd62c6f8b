"""Shares and divergences of several teachers, each a mean over positions."""

from __future__ import annotations

import torch

from kdlight import Dense, LossInputs, losses
from kdlight.metrics import DistillationMetrics, TeacherMetrics
from kdlight.sources import EntropyWeights, LogitsSource, Mixture, stack, tempered

GENERATOR = torch.Generator().manual_seed(0)
STUDENT, FIRST, SECOND = torch.randn(3, 4, 5, 6, generator=GENERATOR).unbind()
MASK = torch.rand(4, 5, generator=GENERATOR) > 0.3
NAMES = ("a", "b.2")


def measured(metrics: DistillationMetrics, *sources: LogitsSource) -> dict[str, float]:
    for source in sources:
        metrics.update(LossInputs(STUDENT, source, mask=MASK))
    return {name: value.item() for name, value in metrics.compute().items()}


def mixture() -> Mixture:
    return Mixture((Dense(FIRST), Dense(SECOND)), EntropyWeights(), NAMES)


def test_each_teacher_is_compared_with_the_student() -> None:
    values = measured(DistillationMetrics(temperature=2.0), mixture())
    h = torch.stack([torch.special.entr(x.softmax(-1)).sum(-1)[MASK] for x in (FIRST, SECOND)])
    for name, logits, other in (("a", FIRST, h[1]), ("b.2", SECOND, h[0])):
        kl = losses.forward_kl(STUDENT[MASK], logits[MASK], temperature=2.0).mean()
        torch.testing.assert_close(values[f"teacher/{name}/forward_kl"], kl.item())
        share = (other / h.sum(0)).mean().item()
        torch.testing.assert_close(values[f"teacher/{name}/share"], share)
    average = losses.forward_kl(STUDENT[MASK], mixture().logits()[MASK], temperature=2.0).mean()
    torch.testing.assert_close(values["forward_kl"], average.item())


def test_an_average_with_a_temperature_has_the_same_teachers() -> None:
    one, two = (measured(DistillationMetrics(), tempered(mixture(), t)) for t in (1.0, 2.0))
    for name in NAMES:
        for kind in ("share", "forward_kl"):
            assert one[f"teacher/{name}/{kind}"] == two[f"teacher/{name}/{kind}"]
    average = tempered(mixture(), 2.0).logits()[MASK]
    kl = losses.forward_kl(STUDENT[MASK], average).mean()
    torch.testing.assert_close(two["forward_kl"], kl.item())
    assert one["forward_kl"] != two["forward_kl"]


def test_a_teacher_is_computed_once_for_all_metrics() -> None:
    calls = []

    class Counting(Dense):
        def given_student(self, student: torch.Tensor) -> torch.Tensor:
            calls.append(len(student))
            return super().given_student(student)

        def select(self, index: object) -> Dense:
            return Counting(super().select(index).tensor)  # type: ignore[arg-type]

    measured(DistillationMetrics(), Mixture((Counting(FIRST), Counting(SECOND)), (0.5, 0.5), NAMES))
    assert calls == [int(MASK.sum())] * 2


def test_a_reset_in_inference_mode_leaves_metrics_that_can_be_updated() -> None:
    metrics = DistillationMetrics()
    with torch.inference_mode():
        first = measured(metrics, mixture())
        metrics.reset()
    assert not any("share" in name for name in metrics.compute())
    assert measured(metrics, mixture()) == first


def test_routed_rows_count_for_their_teacher_alone() -> None:
    rows = [torch.tensor([1, 2]), torch.tensor([0, 3])]
    sources = [Dense(FIRST[[1, 2]]), Dense(SECOND[[0, 3]])]
    options = {"names": ("unused", "a", "b.2"), "numbers": (1, 2)}
    source = stack(sources, rows, MASK.shape, torch.device("cpu"), **options)
    metrics = DistillationMetrics()
    metrics.update(LossInputs(STUDENT, source, mask=MASK))
    values = metrics.compute()
    assert values["teacher/unused/share"] == 0
    assert "teacher/unused/forward_kl" not in values  # the mean of nothing
    for name, own, logits in (("a", rows[0], FIRST), ("b.2", rows[1], SECOND)):
        mask = MASK[own]
        kl = losses.forward_kl(STUDENT[own][mask], logits[own][mask]).mean()
        torch.testing.assert_close(values[f"teacher/{name}/forward_kl"], kl)
        assert values[f"teacher/{name}/share"] == (mask.sum() / MASK.sum())


def test_a_teacher_with_another_vocabulary_has_a_share_only() -> None:
    metrics = TeacherMetrics()
    wide = torch.zeros(2, 7)
    metrics.compare(Mixture((Dense(wide), Dense(wide)), (0.5, 0.5), NAMES), torch.zeros(2, 6))
    assert [*metrics.compute()] == ["teacher/a/share", "teacher/b.2/share"]
