"""REDIGuard: what it logs, when it alarms, its actions, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import REDIGuard
from kdlight.objectives import DPO, REDI, CrossEntropy, Objective, SimPO, Unlikelihood, Weighted
from tests.support import toy

pytestmark = pytest.mark.filterwarnings("ignore:.*log-probability of chosen sequences dropped")


def loader(batch_size: int = 8) -> DataLoader:
    """Chosen sequences at even indices, rejected ones at odd indices."""
    data = toy.Ragged(32, silent=[], rejected=range(1, 32, 2))
    return DataLoader(data, batch_size=batch_size, collate_fn=toy.pad)


def fit(
    folder: Path, guard: REDIGuard, objective: Objective, *, lr: float = 0.1, **options: Any
) -> tuple[Any, Any]:
    module = toy.module(objective, lr=lr, dtype=options.pop("dtype", "float32"))
    callbacks = [guard, *options.pop("callbacks", ())]
    trainer = toy.trainer(folder, callbacks=callbacks, **{"max_epochs": 3, **options})
    trainer.fit(module, loader())
    return trainer, module


def collapse(folder: Path, action: Any, **options: Any) -> tuple[REDIGuard, Any, Any]:
    """A run that collapses: the symmetric loss with a learning rate that is much too large."""
    guard = REDIGuard(action=action, baseline_steps=2, decay=0.5, snapshot_every=1)
    return guard, *fit(folder, guard, REDI(alpha=1.0), lr=3.0, max_epochs=10, **options)


@pytest.mark.parametrize(
    ("objective", "prefix"),
    [
        (REDI(), ""),
        (Unlikelihood(), ""),
        (SimPO(), ""),
        (DPO(), ""),
        (Weighted({"redi": REDI(), "ce": CrossEntropy()}), "redi/"),
    ],
)
def test_log_probs_are_means_over_tokens(objective: Objective, prefix: str, tmp_path: Path) -> None:
    trainer, _ = fit(tmp_path, REDIGuard(), objective, lr=0.0, accumulate_grad_batches=4)
    logged = trainer.callback_metrics
    batch = next(iter(loader(32)))
    module = toy.module(objective)
    inputs = module.loss_inputs(batch)
    log_p = torch.log_softmax(inputs.student.logits(), -1)
    log_p = log_p.gather(-1, inputs.labels.clamp(min=0)[..., None])[..., 0]  # type: ignore[union-attr]
    for kind, selected in (("chosen", ~batch["rejected"]), ("rejected", batch["rejected"])):
        near = 1e-3 if prefix else 1e-5  # a mixture weights micro-batches by their tokens
        expected = log_p[inputs.mask & selected[:, None]].mean().item()  # type: ignore[operator]
        assert logged[f"train/{kind}_log_prob"].item() == pytest.approx(expected, rel=near)
    margin = logged["train/chosen_log_prob"] - logged["train/rejected_log_prob"]
    assert logged["train/margin"].item() == pytest.approx(margin.item(), abs=1e-6)
    assert f"train/{prefix}short_rejected" in logged


def test_a_collapse_raises_the_alarm_and_a_stable_run_does_not(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"dropped by .* nats per token.*lower the learning rate"):
        guard, trainer, _ = collapse(tmp_path, "warn")
    assert guard.alarms > 1
    assert trainer.global_step == 40
    stable = REDIGuard()
    fit(tmp_path, stable, REDI(alpha=0.2), lr=0.01)
    assert stable.alarms == 0


def test_stop_ends_the_training(tmp_path: Path) -> None:
    guard, trainer, _ = collapse(tmp_path, "stop")
    assert guard.alarms == 1
    assert trainer.global_step < 40


def test_alpha_is_lowered_as_the_likelihood_drops(tmp_path: Path) -> None:
    guard, trainer, module = collapse(tmp_path, "lower_alpha")
    assert 0.0 <= module.objective.alpha < 1.0
    _, unguarded, _ = collapse(tmp_path, "warn")
    assert (
        trainer.callback_metrics["train/chosen_log_prob"]
        > unguarded.callback_metrics["train/chosen_log_prob"] + 1.0
    )


def test_roll_back_halves_alpha(tmp_path: Path) -> None:
    guard, _, module = collapse(tmp_path, "roll_back")
    assert guard.alarms >= 1
    assert module.objective.alpha == 0.5**guard.alarms


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted, _, module = collapse(tmp_path / "uninterrupted", "lower_alpha")
    first = REDIGuard(action="lower_alpha", baseline_steps=2, decay=0.5)
    trainer, half = fit(tmp_path, first, REDI(alpha=1.0), lr=3.0, max_epochs=4)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = REDIGuard(action="lower_alpha", baseline_steps=2, decay=0.5)
    run = toy.trainer(tmp_path, callbacks=[resumed], max_epochs=10)
    other = toy.module(REDI(alpha=1.0), lr=3.0)
    run.fit(other, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    assert resumed.drift.state_dict() == uninterrupted.drift.state_dict()
    assert other.objective.alpha == module.objective.alpha


def test_weights_that_updates_would_not_change_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1e-06 would leave .*% of the torch.bfloat16 weights"):
        fit(tmp_path, REDIGuard(), REDI(), lr=1e-6, precision="bf16-true")
    fit(tmp_path, REDIGuard(), REDI(), lr=1e-6, precision="bf16-mixed", max_epochs=1)
    fit(tmp_path, REDIGuard(), REDI(), lr=1e-2, precision="bf16-true", max_epochs=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: REDIGuard(threshold=0.0), "threshold must be a drop"),
        (lambda: REDIGuard(action="shout"), "action must be"),  # type: ignore[arg-type]
        (lambda: REDIGuard(decay=1.0), "decay must be in"),
        (lambda: REDIGuard(baseline_steps=0), "baseline_steps must be"),
    ],
)
def test_wrong_arguments_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_objectives_that_it_cannot_monitor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0"):
        fit(tmp_path, REDIGuard(), CrossEntropy())
    with pytest.raises(ValueError, match="SimPO has none"):
        fit(tmp_path, REDIGuard(action="roll_back"), SimPO())
    assert isinstance(toy.module(), DistillationModule)


def test_it_works_with_a_mixin(tmp_path: Path) -> None:
    module = toy.Mixed(toy.ToyLM(seed=1)).distill(REDI(alpha=1.0), task_weight=0.0)
    guard = REDIGuard(action="roll_back", baseline_steps=1, snapshot_every=1)
    trainer = toy.trainer(tmp_path, callbacks=[guard], max_steps=4)
    trainer.fit(module, loader())
    assert "train/chosen_log_prob" in trainer.callback_metrics
