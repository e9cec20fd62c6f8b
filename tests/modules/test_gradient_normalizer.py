"""What an optimizer step amounted to: its sums, what is logged of it, and what a resume keeps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.overrides import TorchFunctionMode

from kdlight import DistillationModule, LossInputs
from kdlight.modules import GradientNormalizer
from kdlight.objectives import TAID, CrossEntropy, ForwardKL, Loss, Objective, Weighted
from kdlight.objectives.hyperparameters import logged_hyperparameters
from tests.support import toy


def loss(total: float, count: int) -> Loss:
    return Loss(torch.tensor(total), torch.tensor(count), {"part": torch.tensor(2 * total)})


# ---- the sums of a step


def test_sums_are_divided_once() -> None:
    normalizer = GradientNormalizer()
    for total, count in ((6.0, 2), (0.0, 0), (1.0, 5)):
        normalizer.add(loss(total, count))
    result = normalizer.normalize()
    assert (result.loss, result.count, result.parts) == (1.0, 7, {"part": 2.0})


def test_a_step_in_which_nothing_counted_is_zero() -> None:
    normalizer = GradientNormalizer()
    normalizer.add(loss(0.0, 0))
    result = normalizer.normalize()
    assert (result.loss, result.count, normalizer.seen) == (0.0, 0, 0)


def test_ranks_are_added_up() -> None:
    normalizer = GradientNormalizer(lambda sums: 3 * sums)
    normalizer.add(loss(6.0, 2))
    assert normalizer.normalize().count == 6
    assert normalizer.seen == 6


def test_a_long_window_loses_no_token() -> None:
    """In float32 the sum would stand still at 2 ** 24."""
    normalizer = GradientNormalizer()
    normalizer.add(loss(1.0, 2**24))
    for _ in range(3):
        normalizer.add(loss(1.0, 1))
    assert normalizer.normalize().count == 2**24 + 3


def test_ignored_positions_are_a_share_of_all() -> None:
    normalizer, logits = GradientNormalizer(), torch.zeros(2, 3, 5)
    normalizer.add(loss(1.0, 2), LossInputs(logits, mask=torch.tensor([[True, False, False]] * 2)))
    normalizer.add(loss(1.0, 6), LossInputs(logits))
    assert normalizer.normalize().ignored == pytest.approx(4 / 12)


@pytest.mark.parametrize("count", [1, 7, 8, 4095])
def test_the_scale_is_about_one_over_the_count_and_changes_no_bit(count: int) -> None:
    normalizer = GradientNormalizer()
    assert normalizer.scale(torch.tensor(0)) == 1.0  # nothing counts yet, so nothing is settled
    scale = normalizer.scale(torch.tensor(count))
    assert 1 <= scale * count < 2
    assert torch.frexp(torch.tensor(scale)).mantissa == 0.5
    assert normalizer.scale(torch.tensor(99999)) == scale
    normalizer.add(loss(1.0, count))
    weight = torch.ones(1, requires_grad=True)
    weight.grad = torch.full((1,), scale)
    normalizer.normalize([weight])
    assert weight.grad.item() == pytest.approx(1 / count)


def test_only_gradients_that_are_there_are_multiplied() -> None:
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    a.grad = torch.full((2,), 3.0)
    normalizer = GradientNormalizer()
    normalizer.add(loss(1.0, 2))
    normalizer.normalize([a, b])
    assert a.grad.tolist() == [1.5, 1.5]
    assert b.grad is None


def test_logged_are_weights_temperatures_and_t_wherever_they_stand() -> None:
    inner = Weighted({"taid": TAID(t=0.5)}, weights={"taid": 0.25})
    objective = Weighted({"kd": ForwardKL(temperature=3.0), "inner": inner})
    assert logged_hyperparameters(objective) == {
        "weights.kd": 1.0,
        "weights.inner": 1.0,
        "terms.kd.temperature": 3.0,
        "terms.inner.weights.taid": 0.25,
        "terms.inner.terms.taid.t": 0.5,
    }


# ---- the log of real fits


def fit(
    folder: Path, module: DistillationModule, *, resume: Path | None = None, **options: Any
) -> Trainer:
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **{"max_epochs": 1, "logger": False, **options},
    )
    trainer.fit(module, toy.RaggedModule(2), ckpt_path=resume)
    return trainer


def tokens(rows: range) -> int:
    """Positions of `toy.Ragged` that count: all tokens but the first of a sequence."""
    return sum(
        int((row["labels"][1:] != -100).sum()) for row in map(toy.Ragged().__getitem__, rows)
    )


def test_every_optimizer_step_is_logged_once(tmp_path: Path) -> None:
    terms: dict[str, Objective] = {"kd": TAID(), "ce": CrossEntropy(), "kl": ForwardKL()}
    module = toy.module(Weighted(terms, weights={"ce": 0.3}))
    fit(tmp_path, module, accumulate_grad_batches=4, logger=CSVLogger(tmp_path))
    (log,) = tmp_path.rglob("metrics.csv")
    lines = log.read_text().splitlines()
    rows = [row for row in csv.DictReader(lines) if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    for row in rows:
        value = {name: float(row[f"train/{name}"]) for name in ("loss", "kd", "ce", "kl")}
        assert value["loss"] == pytest.approx(value["kd"] + 0.3 * value["ce"] + value["kl"])
        told = {
            name: float(row[f"train/{name}"]) for name in logged_hyperparameters(module.objective)
        }
        assert told == pytest.approx(logged_hyperparameters(module.objective))
    seen = [float(row["train/tokens_seen"]) for row in rows]
    assert seen == [tokens(range(8 * step + 8)) for step in range(4)]
    assert all(float(row["train/tokens_per_second"]) > 0 for row in rows)
    batches = [toy.pad([toy.Ragged()[i], toy.Ragged()[i + 1]]) for i in range(0, 8, 2)]
    positions = sum(batch["input_ids"].numel() for batch in batches)
    assert float(rows[0]["train/ignored_share"]) == pytest.approx(1 - seen[0] / positions)


class Waits(TorchFunctionMode):
    """Counts what a program waits for its device by."""

    NAMES = frozenset({"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__"})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") in self.NAMES
        return func(*args, **(kwargs or {}))


class CountWaits(Callback):
    """Counts from the start of a micro-batch to the hooks after it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.mode = Waits()
        self.mode.__enter__()

    def on_train_batch_end(self, *args: Any) -> None:
        self.mode.__exit__(None, None, None)
        self.batches.append(self.mode.count)


def test_only_an_optimizer_step_waits_for_the_device(tmp_path: Path) -> None:
    watch = CountWaits()
    fit(tmp_path, toy.module(), accumulate_grad_batches=4, callbacks=[watch])
    assert len(watch.batches) == 16
    assert watch.batches[0] > 0  # the first of all asks for the scale
    assert [count for i, count in enumerate(watch.batches) if i and (i + 1) % 4] == [0] * 11
    assert all(count > 0 for count in watch.batches[3::4])


def test_tokens_seen_survive_a_resume(tmp_path: Path) -> None:
    whole = fit(tmp_path, toy.module(), max_epochs=3)
    half = toy.module()
    fit(tmp_path, half, max_epochs=1).save_checkpoint(tmp_path / "half.ckpt")
    resumed = fit(tmp_path, toy.module(), max_epochs=3, resume=tmp_path / "half.ckpt")
    for run in (whole, resumed):
        assert run.callback_metrics["train/tokens_seen"] == 3 * tokens(range(32))
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["gradient_normalizers"]["student"]
    assert half.step_driver is not None
    assert saved == half.step_driver.normalizers["student"].state_dict()
    assert saved["seen"] == tokens(range(32))


def test_an_objective_that_counts_sequences_says_so(tmp_path: Path) -> None:
    run = fit(tmp_path, toy.module(toy.PerSequence()))
    assert run.callback_metrics["train/sequences_seen"] == 32 - len(range(6, 32, 7))
    assert "train/sequences_per_second" in run.callback_metrics


def test_validation_weighs_every_token_alike(tmp_path: Path) -> None:
    """Ragged batches, some of which nothing counts in, measure what one batch would."""
    module = toy.module()
    options = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    one, many = (
        Trainer(default_root_dir=tmp_path, **options).validate(
            module, toy.loader(size), verbose=False
        )[0]
        for size in (32, 1)
    )
    assert many == pytest.approx(one, rel=1e-6)
    assert {"val/loss", "val/forward_kl", "val/perplexity"} <= set(many)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_a_gradient_that_is_not_finite_is_found(value, dtype):
    weight = torch.zeros(50, dtype=dtype, requires_grad=True)
    for number in (1.0, value):
        normalizer = GradientNormalizer()
        normalizer.add(Loss(torch.tensor(1.0), torch.tensor(1)))
        weight.grad = torch.zeros(50, dtype=dtype)
        weight.grad[7] = number
        if dtype.is_complex:
            weight.grad = weight.grad.conj()
        assert normalizer.normalize([weight]).is_finite == (number == 1.0)
