"""A run does the same whatever hooks of Lightning a subclass overrides without super()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn

from kdlight import DistillationMixin, DistillationModule, SingleInput
from kdlight.modules.step_hooks import StepHooks
from kdlight.objectives import ForwardKL
from tests.support import runs, toy
from tests.support.own_module import Distilled, net

HOOKS = (
    "configure_callbacks",
    "configure_model",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_fit_end",
    "on_fit_start",
    "on_load_checkpoint",
    "on_save_checkpoint",
    "on_test_epoch_end",
    "on_test_epoch_start",
    "on_test_start",
    "on_train_batch_end",
    "on_train_batch_start",
    "on_train_end",
    "on_train_epoch_end",
    "on_train_epoch_start",
    "on_train_start",
    "on_validation_end",
    "on_validation_epoch_end",
    "on_validation_epoch_start",
    "on_validation_start",
    "setup",
    "teardown",
)


def empty_hook(*args: Any, **kwargs: Any) -> Any:
    return []


def standalone(overridden: tuple[str, ...] = ()) -> DistillationModule:
    hooks = {name: empty_hook for name in overridden}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return type("Own", (DistillationModule,), hooks)(
            student=SingleInput(nn.Linear(runs.WIDTH, runs.CLASSES)),
            teacher=SingleInput(nn.Linear(runs.WIDTH, runs.CLASSES)),
            objective=ForwardKL(),
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        )


def run(module: LightningModule, folder: Path, **options: Any) -> dict[str, float]:
    trainer = runs.trainer(folder, max_epochs=2, accumulate_grad_batches=3, **options)
    trainer.fit(module, runs.loader(), runs.loader())
    metrics: dict[str, Any] = dict(trainer.callback_metrics)
    metrics.update(trainer.test(module, runs.loader(), verbose=False)[0])
    timeless = {k: float(v) for k, v in metrics.items() if "per_second" not in k}
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return {**timeless, **{f"w{i}": w for i, w in enumerate(weights.tolist())}}


@pytest.mark.parametrize("overridden", [*((name,) for name in HOOKS), HOOKS], ids="-".join)
def test_overriding_a_hook_without_super_changes_nothing(
    overridden: tuple[str, ...], tmp_path: Path
) -> None:
    assert run(standalone(overridden), tmp_path) == run(standalone(), tmp_path)


def test_a_mixin_over_a_module_with_all_hooks_trains_alike(tmp_path: Path) -> None:
    hooks = {name: empty_hook for name in (*HOOKS, "on_before_zero_grad")}
    results = []
    for kind in (Distilled, type("Own", (Distilled,), hooks)):
        module = kind().distill(ForwardKL(), net(9, seed=2))
        trainer = toy.trainer(tmp_path, accumulate_grad_batches=3)
        trainer.fit(module, own_loader())
        weights = torch.cat([p.detach().flatten() for p in module.parameters()])
        results.append((trainer.callback_metrics["distillation/loss"].item(), weights.tolist()))
    assert results[0] == results[1]


def own_loader() -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(22, 4, generator=generator)
    y = torch.randint(3, (22,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 4)


def test_counters_survive_a_resume_with_overridden_checkpoint_hooks(tmp_path: Path) -> None:
    names = ("on_save_checkpoint", "on_load_checkpoint")
    first = runs.trainer(tmp_path, max_epochs=1)
    first.fit(standalone(names), runs.loader())
    first.save_checkpoint(tmp_path / "one.ckpt")
    second = runs.trainer(tmp_path, max_epochs=2)
    second.fit(standalone(names), runs.loader(), ckpt_path=tmp_path / "one.ckpt")
    assert second.callback_metrics["train/samples_seen"] == 2 * runs.BATCHES * runs.BATCH


class Gradients(Callback):
    def __init__(self) -> None:
        self.norms: list[float] = []
        self.logged: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.norms.append(norm(pl_module))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.logged.append(float(trainer.callback_metrics["train/loss"]))


def norm(module: nn.Module) -> float:
    return sum(float(p.grad.square().sum()) for p in module.parameters() if p.grad is not None)


def test_other_callbacks_see_the_gradients_and_the_loss_of_the_same_step(tmp_path: Path) -> None:
    seen: list[float] = []

    class Own(DistillationModule):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            seen.append(norm(self))

    module, gradients, watch = standalone(), Gradients(), runs.Watch(lambda objective: 0)
    module.__class__ = Own
    runs.trainer(tmp_path, gradients, watch, max_epochs=1).fit(module, runs.loader())
    assert gradients.logged == pytest.approx([step.loss for step in watch.steps], rel=1e-6)
    assert gradients.norms == seen
    plain = standalone()
    batch = next(iter(runs.loader()))
    loss = ForwardKL()(plain.loss_inputs(batch)).mean()
    loss.backward()
    assert gradients.norms[0] == pytest.approx(norm(plain), rel=1e-5)


def test_a_checkpoint_on_the_training_loss_has_the_loss_of_its_step(tmp_path: Path) -> None:
    keep = ModelCheckpoint(
        tmp_path / "kept",
        monitor="train/loss",
        every_n_train_steps=1,
        save_top_k=-1,
        filename="{step}",
    )
    watch = runs.Watch(lambda objective: 0)
    runs.trainer(tmp_path, watch, keep, max_epochs=1).fit(standalone(), runs.loader())
    kept = [float(score) for _, score in sorted(keep.best_k_models.items(), key=by_step)]
    assert kept == pytest.approx([step.loss for step in watch.steps], rel=1e-6)


def by_step(item: tuple[str, Any]) -> int:
    return int(item[0].split("step=")[-1].split(".")[0].split("-")[0])


class Stop(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if args[-1] == 2:
            raise RuntimeError("of the user")


@pytest.mark.parametrize("kind", ["module", "mixin"])
def test_a_fit_after_an_interrupted_accumulation_starts_afresh(kind: str, tmp_path: Path) -> None:
    def make() -> Any:
        return (
            standalone() if kind == "module" else Distilled().distill(ForwardKL(), net(9, seed=2))
        )

    loader = runs.loader if kind == "module" else own_loader
    interrupted, fresh = make(), make()
    trainer = toy.trainer(tmp_path, accumulate_grad_batches=8, callbacks=[Stop()])
    with pytest.raises(RuntimeError, match="of the user"):
        trainer.fit(interrupted, loader())
    for each in (interrupted, fresh):
        toy.trainer(tmp_path, max_steps=1).fit(each, loader())
    for one, other in zip(interrupted.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_trainer_has_the_hooks_once_and_runs_other_modules(tmp_path: Path) -> None:
    trainer: Any = runs.trainer(tmp_path, max_epochs=1)
    for _ in range(2):
        trainer.fit(standalone(), runs.loader())
    assert sum(isinstance(each, StepHooks) for each in trainer.callbacks) == 1

    class Other(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(runs.WIDTH, runs.CLASSES)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer.fit(Other(), runs.loader())


# Lightning's finder replaces the callbacks of the trainer for a while
FINDER = pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")


@FINDER
def test_the_learning_rate_finder_works(tmp_path: Path) -> None:
    module = standalone()
    before = [p.detach().clone() for p in module.parameters()]
    trainer = toy.trainer(tmp_path, enable_checkpointing=True, max_epochs=9)
    finder = Tuner(trainer).lr_find(
        module, runs.loader(), num_training=30, attr_name="learning_rate"
    )
    assert finder is not None
    # every loss is the mean over a batch, as if nothing was scaled
    assert all(0 < loss < 10 for loss in finder.results["loss"])
    assert module.learning_rate == finder.suggestion()
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert module.configure_optimizers().param_groups[0]["lr"] == module.learning_rate


@FINDER
def test_the_mixin_is_found_by_the_finder_too(tmp_path: Path) -> None:
    assert issubclass(Distilled, DistillationMixin)
    module: Any = Distilled().distill(ForwardKL(), net(9, seed=2))
    module.lr = 0.1
    trainer = toy.trainer(tmp_path, enable_checkpointing=True, max_epochs=9)
    Tuner(trainer).lr_find(module, own_loader(), num_training=30)
    assert module.step_driver is not None
    assert module.step_driver.normalizers["student"].is_empty
    assert module.step_driver.normalizers["student"].seen == 0
