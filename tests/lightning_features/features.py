"""Features of Lightning's Trainer, each with the training in plain PyTorch that it equals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner.tuning import Tuner
from torch.utils.data import DataLoader

from tests.lightning_features.small_fit import (
    SIZES,
    Stream,
    assert_equal,
    by_hand,
    by_hand_nll,
    loader,
    make,
    samples,
    student_of,
    train_loss,
    trainer,
)

Feature = Callable[[str, Path], None]
FEATURES: dict[str, Feature] = {}
"""Each feature by its name: a function of ``"module"`` or ``"mixin"`` and a folder."""


def feature(name: str) -> Callable[[Feature], Feature]:
    def register(check: Feature) -> Feature:
        FEATURES[name] = check
        return check

    return register


def fit(kind: str, folder: Path, *, normalized: bool = False, **options: Any) -> tuple[Any, Any]:
    module, run = make(kind, normalized=normalized), trainer(folder, **options)
    run.fit(module, loader(), loader())
    return module, run


# ---- one denominator


@feature("batches of different sizes")
def _(kind: str, folder: Path) -> None:
    module, run = fit(kind, folder)
    assert_equal(student_of(module), by_hand())
    assert float(run.callback_metrics["val/nll"]) == pytest.approx(
        by_hand_nll(student_of(module)), rel=1e-5
    )


@feature("accumulate_grad_batches, also with a rest at the end of an epoch")
def _(kind: str, folder: Path) -> None:
    for count in (2, 4):
        module, _ = fit(kind, folder, accumulate_grad_batches=count)
        assert_equal(student_of(module), by_hand(accumulate=count))


@feature("GradientAccumulationScheduler")
def _(kind: str, folder: Path) -> None:
    schedule = GradientAccumulationScheduler({0: 1, 1: 3})
    module, _ = fit(kind, folder, callbacks=[schedule])
    assert_equal(student_of(module), by_hand(accumulate=[1, 3]))


@feature("gradient_clip_val by norm")
def _(kind: str, folder: Path) -> None:
    module, _ = fit(kind, folder, gradient_clip_val=0.05, accumulate_grad_batches=2)
    assert_equal(student_of(module), by_hand(clip_norm=0.05, accumulate=2))


@feature("gradient_clip_val by value")
def _(kind: str, folder: Path) -> None:
    options = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
    module, _ = fit(kind, folder, accumulate_grad_batches=2, **options)
    assert_equal(student_of(module), by_hand(clip_value=0.01, accumulate=2))


@feature("batch normalization")
def _(kind: str, folder: Path) -> None:
    module, _ = fit(kind, folder, normalized=True)
    expected = by_hand(normalized=True)
    assert_equal(student_of(module), expected)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(dict(student_of(module).named_buffers())[name], buffer)


@feature("limit_train_batches and overfit_batches")
def _(kind: str, folder: Path) -> None:
    module, _ = fit(kind, folder, limit_train_batches=4, accumulate_grad_batches=3)
    assert_equal(student_of(module), by_hand(batches=4, accumulate=3))
    module, _ = fit(kind, folder, overfit_batches=2)
    assert_equal(student_of(module), by_hand(batches=2))


# ---- precision


@feature("precision 64-true")
def _(kind: str, folder: Path) -> None:
    module, run = fit(kind, folder, precision="64-true")
    assert_equal(student_of(module), by_hand(dtype=torch.float64), tolerance=1e-9)
    assert float(run.callback_metrics["val/nll"]) == pytest.approx(
        by_hand_nll(student_of(module).float()), rel=1e-5
    )


@feature("precision bf16-true")
def _(kind: str, folder: Path) -> None:
    module, run = fit(kind, folder, precision="bf16-true")
    assert next(student_of(module).parameters()).dtype == torch.bfloat16
    assert_equal(student_of(module), by_hand(), tolerance=3e-2)
    # the metric itself is as precise as ever
    if kind == "module":
        assert float(run.callback_metrics["val/nll"]) == pytest.approx(
            by_hand_nll(student_of(module).float()), rel=2e-2
        )


@feature("precision bf16-mixed")
def _(kind: str, folder: Path) -> None:
    module, _ = fit(kind, folder, precision="bf16-mixed", accumulate_grad_batches=2)
    assert_equal(student_of(module), by_hand(accumulate=2), tolerance=1e-2)


@feature("precision 16-mixed with a gradient scaler")
def _(kind: str, folder: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)  # type: ignore[attr-defined]
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    options = {"plugins": [plugin], "gradient_clip_val": 0.05}
    module, _ = fit(kind, folder, accumulate_grad_batches=2, **options)
    assert_equal(student_of(module), by_hand(accumulate=2, clip_norm=0.05), tolerance=1e-2)


# ---- callbacks


@feature("ModelCheckpoint on a training and on a validation value")
def _(kind: str, folder: Path) -> None:
    on_train = ModelCheckpoint(
        folder / "train", monitor=train_loss(kind), every_n_train_steps=1, save_top_k=1
    )
    on_val = ModelCheckpoint(folder / "val", monitor="val/nll", save_top_k=1)
    scores: list[float] = []

    class Record(Callback):
        def on_train_batch_end(self, run: Any, module: Any, *args: Any) -> None:
            scores.append(float(run.callback_metrics[train_loss(kind)]))

    _, run = fit(kind, folder, callbacks=[on_train, on_val, Record()], enable_checkpointing=True)
    assert float(on_train.best_model_score) == pytest.approx(min(scores))  # type: ignore[arg-type]
    best = run.test(make(kind), loader(), ckpt_path=on_val.best_model_path, verbose=False)[0]
    name = "test/nll" if kind == "module" else "val/nll"
    assert best[name] == pytest.approx(float(on_val.best_model_score), rel=1e-5)  # type: ignore[arg-type]


@feature("resuming from a checkpoint")
def _(kind: str, folder: Path) -> None:
    _, first = fit(kind, folder, max_epochs=1, accumulate_grad_batches=2)
    first.save_checkpoint(folder / "one.ckpt")
    resumed = make(kind)
    run = trainer(folder, accumulate_grad_batches=2)
    run.fit(resumed, loader(), ckpt_path=folder / "one.ckpt")
    assert_equal(student_of(resumed), by_hand(accumulate=2))
    prefix = "distillation" if kind == "mixin" else "train"
    assert run.callback_metrics[f"{prefix}/samples_seen"] == 2 * sum(SIZES)


@feature("EarlyStopping")
def _(kind: str, folder: Path) -> None:
    stop = EarlyStopping("val/nll", patience=0, min_delta=10.0)
    module, run = fit(kind, folder, callbacks=[stop], max_epochs=9)
    assert run.current_epoch == 2
    assert_equal(student_of(module), by_hand(epochs=2))


@feature("StochasticWeightAveraging, then another fit")
def _(kind: str, folder: Path) -> None:
    average = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1, annealing_epochs=1)
    module, _ = fit(kind, folder, callbacks=[average], max_epochs=3, normalized=True)
    # the fit that follows trains as if there had been none
    again, fresh = copy.deepcopy(student_of(module)), student_of(module)
    run = trainer(folder, max_epochs=1)
    run.fit(module, loader())
    before = {name: value.clone() for name, value in again.state_dict().items()}
    other = make(kind, normalized=True)
    student_of(other).load_state_dict(before)
    trainer(folder, max_epochs=1).fit(other, loader())
    assert_equal(fresh, student_of(other))


@feature("WeightAveraging (exponential moving average)")
def _(kind: str, folder: Path) -> None:
    def mean(averaged: Any, current: Any, count: Any) -> Any:
        return averaged + (current - averaged) / (count + 1)

    average = WeightAveraging(use_buffers=True, avg_fn=mean)
    _, run = fit(kind, folder, callbacks=[average])
    assert torch.isfinite(run.callback_metrics["val/nll"])
    assert not any("teacher" in name for name in run.lightning_module.state_dict())


@feature("Tuner.lr_find")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    before = copy.deepcopy(student_of(module))
    name = "lr" if kind == "mixin" else "learning_rate"
    run = trainer(folder, max_epochs=20, enable_checkpointing=True)
    finder = Tuner(run).lr_find(module, loader(), num_training=30, attr_name=name)
    assert finder is not None
    assert max(finder.results["loss"]) < 100  # means over a batch, not sums
    assert_equal(student_of(module), before, tolerance=0)


@feature("Tuner.scale_batch_size")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    module.batch_size = 2
    data: Any = samples() * 9
    module.train_dataloader = lambda: DataLoader(data, batch_size=module.batch_size)
    module.val_dataloader = module.train_dataloader
    run = trainer(folder, enable_checkpointing=True, max_epochs=9)
    Tuner(run).scale_batch_size(module, max_trials=2, steps_per_trial=2)
    assert module.batch_size > 2
    assert module.step_driver.normalizers["student"].is_empty


# ---- loops


@feature("several validation loaders")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    run = trainer(folder)
    run.fit(module, loader(), [loader(), loader()])
    values = [v for k, v in run.callback_metrics.items() if k.startswith("val/nll/dataloader_idx")]
    assert [float(v) for v in values] == pytest.approx([by_hand_nll(student_of(module))] * 2)


@feature("predict")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    predicted: Any = trainer(folder).predict(module, loader())
    student = student_of(module).eval()
    for got, (x, _) in zip(predicted, loader(), strict=True):
        torch.testing.assert_close(got, student(x))


@feature("an IterableDataset, with validation inside the epoch")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    stream = DataLoader(Stream(), batch_size=None)
    run = trainer(folder, val_check_interval=2, accumulate_grad_batches=2)
    run.fit(module, stream, stream)
    assert_equal(student_of(module), by_hand(accumulate=2))


@feature("fast_dev_run")
def _(kind: str, folder: Path) -> None:
    module, _ = fit(kind, folder, fast_dev_run=2)
    assert_equal(student_of(module), by_hand(epochs=1, batches=2))


@feature("a second fit with the same trainer or another")
def _(kind: str, folder: Path) -> None:
    module, run = fit(kind, folder, accumulate_grad_batches=2)
    run.fit_loop.max_epochs = 4
    run.fit(module, loader())
    assert_equal(student_of(module), by_hand(epochs=4, accumulate=2))
    trainer(folder, max_epochs=1).fit(module, loader())
    expected = by_hand(epochs=4, accumulate=2)
    other = make(kind)
    student_of(other).load_state_dict(expected.state_dict())
    trainer(folder, max_epochs=1).fit(other, loader())
    assert_equal(student_of(module), student_of(other))


@feature("a fit after one that was interrupted while it accumulated")
def _(kind: str, folder: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, run: Any, module: Any, *args: Any) -> None:
            if args[-1] == 1:
                raise KeyError("of the user")

    module = make(kind)
    with pytest.raises(KeyError, match="of the user"):
        trainer(folder, accumulate_grad_batches=5, callbacks=[Stop()]).fit(module, loader())
    trainer(folder).fit(module, loader())
    assert_equal(student_of(module), by_hand())


@feature("torch.compile of the student")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    network = student_of(module)
    network.compile(backend="eager")
    trainer(folder).fit(module, loader(), loader())
    assert_equal(student_of(module), by_hand())


@feature("barebones, and a profiler")
def _(kind: str, folder: Path) -> None:
    module = make(kind)
    options = {name: None for name in ("logger", "enable_checkpointing", "enable_progress_bar")}
    options |= {"enable_model_summary": None, "num_sanity_val_steps": None}
    trainer(folder, barebones=True, **options).fit(module, loader())
    assert_equal(student_of(module), by_hand())
    module, _ = fit(kind, folder, profiler="simple")
    assert_equal(student_of(module), by_hand())
