"""The guard of REDI: what it logs, when it alarms, what it does then, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import REDIGuard
from kdlight.callbacks.preference.frozen_weights import frozen_share
from kdlight.objectives import DPO, REDI, CrossEntropy, Objective, SimPO, Unlikelihood, Weighted
from tests.support import toy

pytestmark = pytest.mark.filterwarnings("ignore:.*log-probability of right traces fell")


def loader(batch_size: int = 8) -> DataLoader:
    """Right sequences at even places, wrong ones at odd places."""
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
    """A run that goes wrong: the symmetric loss at a rate that is much too large."""
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
def test_log_probs_are_means_over_the_tokens_of_a_side(
    objective: Objective, prefix: str, tmp_path: Path
) -> None:
    trainer, _ = fit(tmp_path, REDIGuard(), objective, lr=0.0, accumulate_grad_batches=4)
    logged = trainer.callback_metrics
    batch = next(iter(loader(32)))
    module = toy.module(objective)
    step = module.loss_inputs(batch)
    log_p = torch.log_softmax(step.student.logits(), -1)
    log_p = log_p.gather(-1, step.labels.clamp(min=0)[..., None])[..., 0]  # type: ignore[union-attr]
    for side, chosen in (("chosen", ~batch["rejected"]), ("rejected", batch["rejected"])):
        near = 1e-3 if prefix else 1e-5  # a mixture weighs micro-batches by their tokens
        expected = log_p[step.mask & chosen[:, None]].mean().item()  # type: ignore[operator]
        assert logged[f"train/{side}_log_prob"].item() == pytest.approx(expected, rel=near)
    margin = logged["train/chosen_log_prob"] - logged["train/rejected_log_prob"]
    assert logged["train/margin"].item() == pytest.approx(margin.item(), abs=1e-6)
    assert f"train/{prefix}short_rejected" in logged


def test_a_collapse_is_seen_and_a_calm_run_is_not(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"fell by .* nats a token.*lower the learning rate"):
        guard, trainer, _ = collapse(tmp_path, "warn")
    assert guard.alarms > 1
    assert trainer.global_step == 40
    calm = REDIGuard()
    fit(tmp_path, calm, REDI(alpha=0.2), lr=0.01)
    assert calm.alarms == 0


def test_stop_stops(tmp_path: Path) -> None:
    guard, trainer, _ = collapse(tmp_path, "stop")
    assert guard.alarms == 1
    assert trainer.global_step < 40


def test_alpha_is_lowered_as_the_likelihood_falls(tmp_path: Path) -> None:
    guard, trainer, module = collapse(tmp_path, "lower_alpha")
    assert 0.0 <= module.objective.alpha < 1.0
    _, free, _ = collapse(tmp_path, "warn")
    assert (
        trainer.callback_metrics["train/chosen_log_prob"]
        > free.callback_metrics["train/chosen_log_prob"] + 1.0
    )


def test_roll_back_brings_back_weights_and_halves_alpha(tmp_path: Path) -> None:
    guard, _, module = collapse(tmp_path, "roll_back")
    assert guard.alarms >= 1
    assert module.objective.alpha == 0.5**guard.alarms


def test_a_resumed_run_goes_on_with_what_was_seen(tmp_path: Path) -> None:
    whole, _, module = collapse(tmp_path / "whole", "lower_alpha")
    first = REDIGuard(action="lower_alpha", baseline_steps=2, decay=0.5)
    trainer, half = fit(tmp_path, first, REDI(alpha=1.0), lr=3.0, max_epochs=4)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = REDIGuard(action="lower_alpha", baseline_steps=2, decay=0.5)
    rest = toy.trainer(tmp_path, callbacks=[again], max_epochs=10)
    other = toy.module(REDI(alpha=1.0), lr=3.0)
    rest.fit(other, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    assert again.drift.state_dict() == whole.drift.state_dict()
    assert other.objective.alpha == module.objective.alpha


@pytest.mark.parametrize("monitor", ["train/loss", "val/loss", "train/margin"])
def test_who_listens_to_the_loss_is_warned(monitor: str, tmp_path: Path) -> None:
    stopping = EarlyStopping(monitor, mode="max", strict=False)
    with pytest.warns(UserWarning, match=rf"EarlyStopping monitors '{monitor}'"):
        fit(tmp_path, REDIGuard(), REDI(), callbacks=[stopping], max_epochs=1)
    fit(  # no warning, which would be an error
        tmp_path,
        REDIGuard(),
        REDI(),
        callbacks=[ModelCheckpoint(tmp_path, monitor="train/chosen_log_prob", mode="max")],
        enable_checkpointing=True,
        max_epochs=1,
    )


def test_weights_that_would_not_move_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1e-06 would leave .*% of the torch.bfloat16 weights"):
        fit(tmp_path, REDIGuard(), REDI(), lr=1e-6, precision="bf16-true")
    fit(tmp_path, REDIGuard(), REDI(), lr=1e-6, precision="bf16-mixed", max_epochs=1)
    fit(tmp_path, REDIGuard(), REDI(), lr=1e-2, precision="bf16-true", max_epochs=1)


def test_the_frozen_share_is_what_an_optimizer_does() -> None:
    weight = (0.02 * torch.randn(4096)).bfloat16()
    for lr in (1e-6, 1e-5, 1e-4, 1e-3):
        moved = torch.nn.Parameter(weight.clone())
        moved.grad = torch.ones_like(moved)
        torch.optim.AdamW([moved], lr=lr, weight_decay=0.0).step()
        stayed = (moved == weight).float().mean().item()
        assert frozen_share([weight], lr) == pytest.approx(stayed, abs=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: REDIGuard(threshold=0.0), "threshold is a fall"),
        (lambda: REDIGuard(action="shout"), "action must be"),  # type: ignore[arg-type]
        (lambda: REDIGuard(decay=1.0), "decay must be in"),
        (lambda: REDIGuard(baseline_steps=0), "baseline_steps must be"),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_it_fits_its_objective(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0"):
        fit(tmp_path, REDIGuard(), CrossEntropy())
    with pytest.raises(ValueError, match="SimPO has none"):
        fit(tmp_path, REDIGuard(action="roll_back"), SimPO())
    assert isinstance(toy.module(), DistillationModule)
