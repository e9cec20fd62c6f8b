"""Perplexities on validation text, with live and with cached teachers."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import CachedTeacher, FrozenTeacher
from kdlight.cache import cache_teacher
from kdlight.callbacks import DomainReweighting
from kdlight.callbacks.domains.perplexities import check_perplexities, nll_sums
from kdlight.data import DomainDataModule
from kdlight.objectives import LossInputs
from kdlight.sources import TopK
from tests.support import domain_fit, toy


def test_sums_are_over_valid_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(700, 5, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    labels = torch.randint(5, (700,), generator=generator)
    labels[::3] = -100
    mask = labels != -100
    sums = nll_sums(LossInputs(student, teacher, labels=labels, mask=mask))
    expected = [
        torch.nn.functional.cross_entropy(each[mask], labels[mask], reduction="sum").item()
        for each in (student, teacher)
    ]
    assert sums.tolist() == pytest.approx([*expected, int(mask.sum()), 0])
    assert nll_sums(LossInputs(student, None, labels=labels, mask=mask))[1] == 0


def test_labels_that_are_not_stored_are_counted() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]] * 3)
    source = TopK.of(logits, 2)
    sums = nll_sums(LossInputs(torch.zeros(3, 3), source, labels=torch.tensor([0, 1, 2])))
    stored = -logits[0].log_softmax(-1)[:2].sum()
    assert sums[1].item() == pytest.approx(stored.item())
    assert sums[2:].tolist() == [3, 1]


def test_batches_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="the batches have no labels"):
        nll_sums(LossInputs(torch.zeros(2, 3), None))


def test_perplexities_of_other_domains_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for each of the domains \['a', 'b'\], got \['a'\]"):
        check_perplexities({"a": 3.0}, ["a", "b"])


def write_cache(folder: Path, domains: DomainDataModule, **options: Any) -> str:
    output = str(folder / "cache")
    cache_teacher(FrozenTeacher(domain_fit.network(2)), domains, output, **options)
    return output


def fit(folder: Path, teacher: Any, domains: DomainDataModule, **options: Any) -> DomainReweighting:
    reweighting = DomainReweighting(every=2, **options)
    trainer = toy.trainer(folder, callbacks=[reweighting], max_steps=5, limit_val_batches=0)
    trainer.fit(domain_fit.module(teacher=teacher), domains)
    return reweighting


def test_a_cache_of_all_tokens_gives_the_weights_of_the_live_teacher(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    cached = CachedTeacher(write_cache(tmp_path, domains, k=None, bits=32))
    live = fit(tmp_path, "live", domain_fit.data(tmp_path))
    again = fit(tmp_path, cached, domain_fit.data(tmp_path))
    assert again.teacher_perplexity == pytest.approx(live.teacher_perplexity, rel=1e-5)
    for one, other in zip(live.history, again.history, strict=True):
        assert other["weights"] == pytest.approx(one["weights"], rel=1e-4)


def test_a_cache_of_some_tokens_is_refused_but_where_perplexities_are_given(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    cached = CachedTeacher(write_cache(tmp_path, domains, k=3))
    with pytest.raises(ValueError, match=r"holds no probability of some labels .*'letters': \("):
        fit(tmp_path, cached, domain_fit.data(tmp_path))
    known = dict.fromkeys(domains.names, 100.0)
    given = fit(tmp_path, cached, domain_fit.data(tmp_path), teacher_perplexity=known)
    assert given.teacher_perplexity == known
    assert len(given.history) == 3


def test_a_cache_of_other_text_is_refused(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    cached = CachedTeacher(write_cache(tmp_path, domains, k=None))
    with pytest.raises(ValueError, match=r"it cannot answer: .*rows of this batch are not in"):
        fit(tmp_path, cached, domain_fit.data(tmp_path, seed=5, validation_fraction=0.5))


def test_a_cache_has_every_training_block(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    cached = CachedTeacher(write_cache(tmp_path, domains, k=4))
    for part in domains.parts:
        for block in part:
            cached({name: value.unsqueeze(0) for name, value in block.items()})


def test_the_loss_of_a_perplexity_beyond_all_numbers_is_finite() -> None:
    from kdlight.callbacks.domains.perplexities import LARGEST_NLL

    assert exp(LARGEST_NLL) < float("inf")
