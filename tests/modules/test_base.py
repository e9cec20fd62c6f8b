"""What all distillation modules have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import AdaptiveTAID
from kdlight.objectives import (
    TAID,
    CrossEntropy,
    ForwardKL,
    LearnableTemperature,
    Loss,
    Objective,
    Weighted,
)
from tests.support import online_fit, runs, toy
from tests.support.projecting import Projecting


def test_a_batch_without_valid_positions_changes_no_weight_and_no_schedule(
    tmp_path: Path,
) -> None:
    batch = {
        "input_ids": torch.zeros(2, 4, dtype=torch.long),
        "labels": torch.full((2, 4), -100),
    }
    module = toy.module(TAID())
    loss = module.objective(module.loss_inputs(batch))
    assert isinstance(loss, Loss)
    assert loss.total.item() == 0
    assert loss.total.requires_grad
    taid = AdaptiveTAID(alpha=0.5)
    before = {k: v.clone() for k, v in module.student.state_dict().items()}
    data: DataLoader = DataLoader([batch] * 3, batch_size=None)  # type: ignore[arg-type]
    toy.trainer(tmp_path, callbacks=[taid]).fit(module, data)
    assert taid.state.t == 0.4
    for name, value in module.student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_unknown_normalization_raises() -> None:
    with pytest.raises(
        ValueError, match="normalization must be one of 'global', 'local', got 'mean'"
    ):
        toy.module(normalization="mean")


# ---- bind


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [(lambda kd: kd, ""), (lambda kd: Weighted({"ce": CrossEntropy(), "kd": kd}), "terms.kd.")],
    ids=["alone", "in a mixture"],
)
def test_a_bound_network_of_an_objective_is_trained_and_saved(
    wrap: Callable[[Objective], Objective], prefix: str, tmp_path: Path
) -> None:
    module = toy.module(wrap(Projecting()))
    sizes = {name: tuple(p.shape) for name, p in module.objective.named_parameters()}
    projector = f"{prefix}projector"
    assert sizes[f"{projector}.0.weight"] == (12, toy.VOCABULARY)
    assert sizes[f"{projector}.1.weight"] == (toy.VOCABULARY, 12)
    before = {name: p.clone() for name, p in module.objective.named_parameters()}
    run = toy.trainer(tmp_path)
    run.fit(module, toy.loader(8))
    optimized = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    for name, parameter in module.objective.named_parameters():
        assert id(parameter) in optimized
        assert not torch.equal(parameter, before[name])
    run.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    fresh = toy.module(wrap(Projecting()))
    fresh.load_state_dict(saved)
    assert torch.equal(
        saved[f"objective.{projector}.0.weight"],
        fresh.objective.state_dict()[f"{projector}.0.weight"],
    )
    assert {f"objective.{name}" for name in sizes} <= set(saved)


def test_objectives_are_bound_to_the_networks_before_optimizers_are_created(tmp_path: Path) -> None:
    calls: list[Any] = []

    class Recording(ForwardKL):
        def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
            calls.append((student, teacher))

    module = toy.module(Weighted({"kd": Recording(), "ce": CrossEntropy()}))
    assert calls == [(module.student, module.teacher.model)]  # type: ignore[attr-defined]
    module.optimizer = lambda groups: calls.append("optimizer") or torch.optim.SGD(groups, lr=0.1)
    toy.trainer(tmp_path).fit(module, toy.loader(8))
    assert calls[1:] == ["optimizer"]
    DistillationModule(toy.ToyLM(), CrossEntropy())  # without a teacher


# ---- the units and the result of a step


def test_what_is_counted_has_the_name_of_a_position(tmp_path: Path) -> None:
    tokens, samples = toy.trainer(tmp_path), runs.trainer(tmp_path, max_epochs=1)
    tokens.fit(toy.module(ForwardKL()), toy.loader(8))
    samples.fit(runs.module(ForwardKL()), runs.loader(ignored=range(2)))
    assert "train/samples_seen" not in tokens.callback_metrics
    assert tokens.callback_metrics["train/tokens_seen"] > 32
    assert "train/tokens_seen" not in samples.callback_metrics
    assert samples.callback_metrics["train/samples_seen"] == (runs.BATCHES - 2) * runs.BATCH
    assert samples.callback_metrics["train/samples_per_second"] > 0


def test_a_step_has_a_result_until_the_end_of_its_last_batch(tmp_path: Path) -> None:
    results = []

    class Record(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            results.append(pl_module.last_step)

    module = toy.module(ForwardKL())
    toy.trainer(tmp_path, callbacks=[Record()], accumulate_grad_batches=2).fit(
        module, toy.loader(8)
    )
    assert [result is None for result in results] == [True, False, True, False]
    assert module.last_step is None


def test_local_normalization_is_a_mean_of_means(tmp_path: Path) -> None:
    batches = [toy.pad([toy.Ragged()[i] for i in rows]) for rows in (range(2), range(2, 8))]
    module = toy.module(ForwardKL(), normalization="local")
    losses = [module.objective(module.loss_inputs(batch)) for batch in batches]
    for loss in losses:
        (loss.mean() / 2).backward()
    expected = {name: p.grad.clone() for name, p in module.student.named_parameters()}  # type: ignore[union-attr]
    gradients = {}

    class Record(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients.update({n: p.grad.clone() for n, p in pl_module.student.named_parameters()})

    data: DataLoader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    run = toy.trainer(tmp_path, callbacks=[Record()], accumulate_grad_batches=2)
    run.fit(module, data)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name])
    # what is logged is the mean over tokens in any case
    total, count = (sum(getattr(x, name).item() for x in losses) for name in ("total", "count"))
    assert run.callback_metrics["train/loss"].item() == pytest.approx(total / count)


def test_the_parameters_of_the_student_are_all_that_no_other_network_has() -> None:
    online = online_fit.module(networks=3)
    parts = {name: online.trainable_parameters(name) for name in ("student", "teacher", "third")}
    assert {id(p) for p in parts["student"]} == {id(p) for p in online.student.parameters()}
    ids = [id(p) for part in parts.values() for p in part]
    assert sorted(ids) == sorted({id(p) for p in online.parameters()})
    module = toy.module(LearnableTemperature())
    assert len(module.trainable_parameters("student")) == len([*module.parameters()])
