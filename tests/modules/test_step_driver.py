"""Steps that an optimizer leaves out, loaders that are evaluated, and steps without a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

from kdlight import DistillationModule, TransformersModel
from kdlight.callbacks import HyperparameterScheduler
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.schedules import Linear
from tests.models.tiny_models import tiny, transformers
from tests.support import online_fit, runs, toy


class Overflow(Callback):
    """Makes a gradient infinite in the first steps, before it is unscaled."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.results: list[Any] = []

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if len(self.results) < self.steps:
            next(pl_module.student.parameters()).grad.fill_(float("inf"))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.results.append(pl_module.last_step)


def scaled(folder: Path, *callbacks: Callback, **options: Any) -> Any:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)  # type: ignore[attr-defined]
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    return runs.trainer(folder, *callbacks, plugins=[plugin], max_epochs=1, **options)


def test_a_step_that_the_scaler_leaves_out_moves_nothing(tmp_path: Path) -> None:
    overflow = Overflow(steps=3)
    module = runs.module(ForwardKL())
    before = [p.detach().clone() for p in module.parameters()]
    trainer = scaled(tmp_path, overflow, limit_train_batches=3)
    trainer.fit(module, runs.loader())
    assert [step.skipped for step in overflow.results] == [True] * 3
    assert module.step_driver is not None
    assert module.step_driver.normalizers["student"].seen == 0
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_steps_after_one_that_was_left_out_are_counted(tmp_path: Path) -> None:
    overflow = Overflow(steps=2)
    trainer = scaled(tmp_path, overflow)
    trainer.fit(runs.module(ForwardKL()), runs.loader())
    assert [step.skipped for step in overflow.results] == [True] * 2 + [False] * 6
    seen = float(trainer.callback_metrics["train/samples_seen"])
    assert seen == 6 * runs.BATCH


@pytest.mark.parametrize("kind", ["distillation", "online"])
def test_each_of_several_loaders_has_metrics_of_its_own(kind: str, tmp_path: Path) -> None:
    make = {"distillation": lambda: toy.module(ForwardKL()), "online": online_fit.module}[kind]
    module, loaders = make(), [toy.loader(8), toy.loader(3, seed=7)]
    both = toy.trainer(tmp_path).validate(module, loaders, verbose=False)
    apart = [toy.trainer(tmp_path).validate(module, each, verbose=False)[0] for each in loaders]
    together = {name: value for metrics in both for name, value in metrics.items()}
    for number, metrics in enumerate(apart):
        for name, value in metrics.items():
            key = f"{name}/dataloader_idx_{number}"
            assert together[key] == pytest.approx(value, rel=1e-6), key
    assert apart[0]["val/forward_kl"] != pytest.approx(apart[1]["val/forward_kl"], rel=1e-3)


def test_a_fit_evaluates_several_loaders_too(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, max_epochs=2)
    trainer.fit(toy.module(ForwardKL()), toy.loader(8), [toy.loader(8), toy.loader(3)])
    assert "val/nll/dataloader_idx_1" in trainer.callback_metrics


class Skips(DistillationModule):
    """Leaves out every other batch, as Lightning allows."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 2 else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
def test_batches_that_the_training_step_leaves_out_are_not_counted(tmp_path: Path) -> None:
    module = runs.module(ForwardKL())
    module.__class__ = Skips
    schedule = HyperparameterScheduler("temperature", Linear(1.0, 2.0))
    trainer = runs.trainer(tmp_path, schedule, max_epochs=1)
    trainer.fit(module, runs.loader())
    assert float(trainer.callback_metrics["train/samples_seen"]) == runs.BATCHES * runs.BATCH / 2


def rwkv() -> Any:
    config = transformers.AutoConfig.for_model(
        "rwkv",
        vocab_size=31,
        hidden_size=16,
        attention_hidden_size=16,
        num_hidden_layers=2,
        context_length=32,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


def left_padded() -> Any:
    ids = torch.randint(3, 31, (2, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    return torch.utils.data.DataLoader(
        [{"input_ids": ids, "attention_mask": mask}],  # type: ignore[arg-type]
        batch_size=None,
    )


@pytest.mark.parametrize(
    "wrap", [lambda model: model, TransformersModel.wrap], ids=["raw", "wrapped"]
)
def test_a_raw_model_that_reads_left_padding_is_told_of(wrap: Any, tmp_path: Path) -> None:
    module = DistillationModule(wrap(rwkv()), ForwardKL(), teacher=wrap(tiny("llama")))
    with pytest.warns(UserWarning, match="Rwkv.*|TransformersModel.* depend on the padding"):
        toy.trainer(tmp_path, max_steps=1).fit(module, left_padded())


def test_a_wrapped_model_is_set_to_train_mode(tmp_path: Path) -> None:
    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny("gpt2").eval()

        def forward(self, batch: Any) -> Any:
            return self.model(**batch).logits

    modes = []

    class Record(Callback):
        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            modes.append({part.training for part in pl_module.student.modules()})

    module = DistillationModule(Wrapped(), CrossEntropy())
    toy.trainer(tmp_path, max_steps=1, callbacks=[Record()]).fit(module, left_padded())
    assert modes == [{True}]


# ---- what is counted is what is propagated


class ForgetsOne(DistillationModule):
    """Computes a loss twice and returns it once, and not at all for every other batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 2 else loss


@pytest.mark.filterwarnings("ignore:.*training_step.*returned.*None")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_propagated_counts_not(accumulate: int, tmp_path: Path) -> None:
    class EveryOther(DistillationModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    weights = []
    for kind in (ForgetsOne, EveryOther):
        module = runs.module(ForwardKL())
        module.__class__ = kind
        trainer = runs.trainer(tmp_path, max_epochs=1, accumulate_grad_batches=accumulate)
        trainer.fit(module, runs.loader())
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
        seen = float(trainer.callback_metrics["train/samples_seen"])
        assert seen == runs.BATCHES * runs.BATCH / 2
    assert torch.equal(*weights)


class ValidatesByTraining(DistillationModule):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("own", self.training_step(batch, batch_idx), batch_size=len(batch[0]))


def test_a_validation_step_that_calls_the_training_step_trains_nothing(tmp_path: Path) -> None:
    modules = [runs.module(ForwardKL()), runs.module(ForwardKL())]
    modules[0].__class__ = ValidatesByTraining
    options = {"max_epochs": 1, "num_sanity_val_steps": 2, "accumulate_grad_batches": 4}
    for module in modules:
        trainer = runs.trainer(tmp_path, val_check_interval=2, **options)
        trainer.fit(module, runs.loader(), runs.loader())
        if module is modules[0]:
            own = float(trainer.callback_metrics["own"])
        else:
            assert own == pytest.approx(float(trainer.callback_metrics["val/loss"]), rel=1e-5)
    for one, other in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(one, other)


def test_training_data_are_checked_after_a_right_sanity_check(tmp_path: Path) -> None:
    wrong = runs.loader()
    wrong.dataset.tensors[1][:] = 99  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\).*has 99"):
        runs.trainer(tmp_path, num_sanity_val_steps=1).fit(
            runs.module(CrossEntropy()), wrong, runs.loader()
        )


def test_labels_that_change_their_place_are_refused(tmp_path: Path) -> None:
    ids = torch.randint(3, 11, (2, 8), generator=torch.Generator().manual_seed(0))
    shifted = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    module = toy.module(ForwardKL())
    module.loss_inputs({"input_ids": ids, "labels": ids})
    loader = torch.utils.data.DataLoader(
        [{"input_ids": ids, "labels": shifted}],  # type: ignore[arg-type]
        batch_size=None,
    )
    with pytest.raises(ValueError, match="shifted already"):
        toy.trainer(tmp_path).fit(module, loader)


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
def test_a_frozen_backbone_stays_in_evaluation_mode(tmp_path: Path) -> None:
    class OnBackbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny("gpt2").eval().requires_grad_(False)
            self.head = torch.nn.Linear(31, 31)

        def forward(self, batch: Any) -> Any:
            return self.head(self.body(batch["input_ids"]).logits)

    module = DistillationModule(OnBackbone().eval(), CrossEntropy())
    toy.trainer(tmp_path, max_steps=1).fit(module, left_padded())
    student: Any = module.student
    assert student.training
    assert not any(part.training for part in student.body.modules())
