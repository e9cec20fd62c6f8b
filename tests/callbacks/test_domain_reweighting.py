"""Domains whose weights follow the perplexities of student and teacher during a fit."""

from __future__ import annotations

from collections import Counter
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight import losses
from kdlight.callbacks import DomainReweighting, ExactResume
from kdlight.data.domains.draws import DomainDraws
from kdlight.schedules import domain_weights
from tests.support import domain_fit, toy

UNIFORM = [1 / 3] * 3


def replayed(result: dict[str, Any]) -> DomainDraws:
    """Return the draws of another process that knows the plan of a fit alone."""
    draws = DomainDraws(result["sizes"], seed=1)
    draws.plan = result["plan"]
    return draws


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return domain_fit.fit({"folder": str(tmp_path_factory.mktemp("fit"))})


def test_weights_follow_the_equations(result: dict[str, Any]) -> None:
    first, *updates = result["history"]
    teacher = [*result["teacher_perplexity"].values()]
    assert [*first["weights"].values()] == UNIFORM  # the first interval is uniform
    weights = domain_weights(None, [*first["student_perplexity"].values()], teacher)
    assert [each["step"] for each in updates] == [3, 6]
    for each in updates:
        weights = domain_weights(weights, [*each["student_perplexity"].values()], teacher)
        assert [*each["weights"].values()] == weights
        assert min(weights) >= 0.5 / 3
    plan = [(each["draw"], [*each["weights"].values()]) for each in result["history"]]
    assert result["plan"] == plan
    assert [draw for draw, _ in plan] == [0, 12, 24]  # at the next draw


def test_batches_are_those_of_the_plan(result: dict[str, Any]) -> None:
    draws = replayed(result)
    assert sum(result["batches"], []) == draws.samples(0, 32).tolist()


def test_what_is_logged(result: dict[str, Any]) -> None:
    last, logged = result["history"][-1], result["logged"][-1]
    for name in domain_fit.SIGNS:
        prefix = f"train/domain_{name}"
        assert logged[f"{prefix}/weight"] == pytest.approx(last["weights"][name])
        measured = last["student_perplexity"][name]
        assert logged[f"{prefix}/student_perplexity"] == pytest.approx(measured)
        assert logged[f"{prefix}/teacher_perplexity"] == pytest.approx(
            result["teacher_perplexity"][name]
        )
    assert logged["train/domain_lag"] == 0
    assert len(result["logged"]) == 8


def test_tokens_are_those_of_the_batches(tmp_path: Path) -> None:
    folder = str(tmp_path)
    ended = domain_fit.fit({"folder": folder, "trainer": {"max_epochs": 2, "max_steps": -1}})
    limited = domain_fit.fit(
        {
            "folder": folder,
            "trainer": {"max_epochs": 3, "max_steps": -1, "limit_train_batches": 5},
        }
    )
    domains = domain_fit.data(tmp_path)
    sizes, tokens = ended["sizes"], domains.tokens_of_blocks.tolist()
    for result in (ended, limited):
        expected: Counter[str] = Counter()
        for block in sum(result["batches"], []):
            number = 0 if block < sizes[0] else 1 if block < sizes[0] + sizes[1] else 2
            expected[domains.names[number]] += tokens[block]
        for name, count in expected.items():
            assert result["logged"][-1][f"train/domain_{name}/tokens"] == count
    assert len(limited["batches"]) == 15
    assert len(ended["batches"]) == 2 * -(-sum(sizes) // 4)


def test_perplexities_are_those_of_the_validation_text(tmp_path: Path) -> None:
    reweighting = DomainReweighting(every=1, samples=10)
    trainer = toy.trainer(tmp_path, callbacks=[reweighting], max_steps=2, limit_val_batches=0)
    module, domains = domain_fit.module(), domain_fit.data(tmp_path)
    trainer.fit(module, domains)
    measured = reweighting.history[-1]["student_perplexity"]
    assert module.teacher is not None
    for name, loader in domains.domain_dataloaders(10).items():
        for network, found in (
            (module.student, measured[name]),
            (module.teacher, reweighting.teacher_perplexity[name]),
        ):
            rows = []
            for batch in loader:
                with torch.no_grad():
                    logits: Any = network(batch)
                logits = logits if isinstance(logits, torch.Tensor) else logits.logits()
                valid = batch["labels"][:, 1:] != -100
                rows.append(
                    losses.cross_entropy(logits[:, :-1][valid], batch["labels"][:, 1:][valid])
                )
            assert found == pytest.approx(exp(torch.cat(rows).mean().item()))


class Student(Callback):
    """Keeps the mode of the student when a batch starts."""

    def __init__(self) -> None:
        self.modes: set[bool] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.modes.add(pl_module.student.training)


def test_a_measurement_changes_nothing_but_weights(tmp_path: Path) -> None:
    """A callback whose weights are not used leaves the run as it is without the callback."""
    parameters = []
    for callbacks in ([], [DomainReweighting(every=1)]):
        torch.manual_seed(0)
        student = Student()
        trainer = toy.trainer(tmp_path, callbacks=[*callbacks, student], max_steps=6)
        module = domain_fit.module(dropout=0.5)
        domains = domain_fit.data(tmp_path)
        domains.sampler.set_weights = lambda *args, **options: None  # type: ignore[method-assign]
        trainer.fit(module, domains)
        parameters.append(module.student.state_dict())
        assert student.modes == {True}
    for name, value in parameters[0].items():
        assert torch.equal(value, parameters[1][name]), name


def test_every_counts_optimizer_steps(tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": 2, "max_steps": 7}
    result = domain_fit.fit({"folder": str(tmp_path), "trainer": options})
    assert [each["step"] for each in result["history"]] == [0, 3, 6]
    assert [each["draw"] for each in result["history"]] == [0, 24, 48]
    assert sum(result["batches"], []) == replayed(result).samples(0, 56).tolist()
    assert len(result["logged"]) == 14


def test_the_hard_domain_gets_the_largest_weight(tmp_path: Path) -> None:
    known = {"letters": 90.0, "digits": 20.0, "signs": 90.0}  # digits are behind
    result = domain_fit.fit(
        {
            "folder": str(tmp_path),
            "reweighting": {"every": 2, "teacher_perplexity": known},
            "trainer": {"max_steps": 4},
        }
    )
    weights = result["history"][-1]["weights"]
    assert max(weights, key=weights.__getitem__) == "digits"
    assert weights["digits"] > 0.5
    assert min(weights.values()) >= 0.5 / 3
    assert result["teacher_perplexity"] == known


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_draws_the_same(workers: int, tmp_path: Path) -> None:
    """It is resumed in the middle of an interval, and 100 draws and more follow."""
    options: dict[str, Any] = {
        "folder": str(tmp_path),
        "data": {"num_workers": workers, "batch_size": 4},
        "reweighting": {"every": 7},
        "dropout": 0.3,
        "trainer": {"max_steps": 70},  # the first epoch has 58 batches
        "save_every": 5,
    }
    whole = domain_fit.fit(options)
    folder = tmp_path / "checkpoints"
    for step in (10, 40, 55):
        resumed = domain_fit.fit({**options, "resume": str(folder / f"step={step}.ckpt")})
        assert resumed["batches"] == whole["batches"][step:]
        assert step == 55 or len(sum(resumed["batches"], [])) > 100
        assert resumed["history"] == whole["history"]
        assert resumed["plan"] == whole["plan"]
        assert resumed["logged"][-1] == whole["logged"][-1]
        for name, value in whole["parameters"].items():
            assert torch.equal(value, resumed["parameters"][name]), name


class SaveEarly(Callback):
    """Saves after each step, before the callbacks behind it."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.save_checkpoint(f"{trainer.default_root_dir}/early_{trainer.global_step}.ckpt")


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_checkpoint_before_the_update_of_its_step(step: int, tmp_path: Path) -> None:
    plans, batches = [], []
    for resume in (None, tmp_path / f"early_{step}.ckpt"):
        seen, reweighting = domain_fit.Seen(), DomainReweighting(every=3)
        callbacks = [SaveEarly(), reweighting, seen, ExactResume()]
        trainer = toy.trainer(tmp_path, callbacks=callbacks, max_steps=7, limit_val_batches=0)
        domains = domain_fit.data(tmp_path)
        trainer.fit(domain_fit.module(), domains, ckpt_path=resume)
        plans.append(domains.sampler.draws.plan)
        batches.append(seen.batches)
    assert plans[0] == plans[1]
    assert batches[0][step:] == batches[1]


@pytest.mark.parametrize("limit", [5, 1.0], ids=["limited", "whole"])
@pytest.mark.parametrize("early", [True, False], ids=["before_the_update", "after_it"])
def test_a_run_is_resumed_at_the_end_of_an_epoch(early: bool, limit: float, tmp_path: Path) -> None:
    """Where the counters of the Trainer are partly those of the epoch before."""
    results = []
    epoch = 5 if limit == 5 else -(-len(domain_fit.data(tmp_path, batch_size=16).parts[0]) // 16)
    for resume in (None, tmp_path / f"early_{epoch}.ckpt"):
        seen, reweighting = domain_fit.Seen(), DomainReweighting(every=epoch)
        callbacks = [SaveEarly(), reweighting] if early else [reweighting, SaveEarly()]
        trainer = toy.trainer(
            tmp_path,
            callbacks=[*callbacks, seen, ExactResume()],
            max_steps=2 * epoch + 1,
            max_epochs=9,
            limit_val_batches=0,
            limit_train_batches=limit,
        )
        domains = domain_fit.data(tmp_path, batch_size=16)
        trainer.fit(domain_fit.module(), domains, ckpt_path=resume)
        results.append((domains.sampler.draws.plan, seen.logged[-1], seen.batches[-epoch - 1 :]))
    assert results[0] == results[1]


def test_the_same_trainer_goes_on_with_its_counts(tmp_path: Path) -> None:
    tokens = []
    for parts in ([2], [1, 2]):
        reweighting, seen = DomainReweighting(every=99), domain_fit.Seen()
        trainer = toy.trainer(tmp_path, callbacks=[reweighting, seen], limit_train_batches=5)
        this, domains = domain_fit.module(), domain_fit.data(tmp_path)
        for epochs in parts:
            trainer.fit_loop.max_epochs = epochs
            trainer.fit(this, domains)
        tokens.append({k: v for k, v in seen.logged[-1].items() if k.endswith("tokens")})
    assert tokens[0] == tokens[1]


def test_batches_of_workers_lag_behind(tmp_path: Path) -> None:
    result = domain_fit.fit({"folder": str(tmp_path), "data": {"num_workers": 2}})
    assert [each["draw"] for each in result["history"]] == [0, 4 * (3 + 4), 4 * (6 + 4)]
    assert result["logged"][-1]["train/domain_lag"] == 4
    assert sum(result["batches"], []) == replayed(result).samples(0, 32).tolist()


def test_a_new_fit_starts_anew(tmp_path: Path) -> None:
    reweighting, domains = DomainReweighting(every=2), domain_fit.data(tmp_path)
    histories = []
    for _ in range(2):
        trainer = toy.trainer(tmp_path, callbacks=[reweighting], max_steps=5)
        trainer.fit(domain_fit.module(), domains)
        histories.append(reweighting.history)
    assert histories[0] == histories[1]
    assert [each["step"] for each in histories[0]] == [0, 2, 4]


def test_loaders_may_be_made_anew_each_epoch(tmp_path: Path) -> None:
    options = {"max_epochs": 3, "max_steps": -1, "limit_train_batches": 4}
    kept, reloaded = (
        domain_fit.fit({"folder": str(tmp_path), "trainer": options | more})
        for more in ({}, {"reload_dataloaders_every_n_epochs": 1})
    )
    assert kept["batches"] == reloaded["batches"]
    assert kept["plan"] == reloaded["plan"]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_a_checkpoint_of_other_domains_is_refused(tmp_path: Path) -> None:
    options = {"folder": str(tmp_path), "save_every": 4}
    domain_fit.fit(options)
    domains = domain_fit.data(tmp_path)
    files = domain_fit.write_domains(tmp_path)
    files = {{"signs": "marks"}.get(name, name): path for name, path in files.items()}
    domains = type(domains)(domains.tokenizer, files, block_size=12, batch_size=4)
    trainer = toy.trainer(tmp_path, callbacks=[DomainReweighting(every=3)], max_steps=8)
    with pytest.raises(ValueError, match=r"domains are \['letters', 'digits', 'marks'\], but"):
        trainer.fit(domain_fit.module(), domains, ckpt_path=tmp_path / "checkpoints/step=4.ckpt")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 0.0}, ValueError, r"alpha must be in \(0, 1\], got 0.0"),
        ({"alpha": 1.5}, ValueError, r"alpha must be in \(0, 1\], got 1.5"),
        ({"alpha": "half"}, TypeError, "alpha must be a number"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": 1.5}, TypeError, "every must be an integer"),
        ({"samples": 0}, ValueError, "samples must be at least 1"),
        ({"teacher_perplexity": [3.0]}, TypeError, "teacher_perplexity must be numbers"),
        ({"teacher_perplexity": {"a": -1.0}}, ValueError, "teacher_perplexity must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DomainReweighting(**options)


def test_two_of_them_are_refused(tmp_path: Path) -> None:
    callbacks = [DomainReweighting(every=1), Another(every=1)]
    trainer = toy.trainer(tmp_path, callbacks=callbacks, max_steps=3)
    with pytest.raises(ValueError, match="several DomainReweighting callbacks"):
        trainer.fit(domain_fit.module(), domain_fit.data(tmp_path))


class Another(DomainReweighting):
    """Lightning itself refuses two callbacks of one class."""


def test_an_interval_longer_than_the_run_is_told(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, callbacks=[DomainReweighting(every=3)], max_steps=3)
    with pytest.warns(UserWarning, match="changes no weight that is used within max_steps=3"):
        trainer.fit(domain_fit.module(), domain_fit.data(tmp_path))
