"""Callbacks on a LightningModule of a user's own, which has the mixin."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import Tensor, nn

from kdlight import DistillationMixin, FrozenTeacher
from kdlight.callbacks import (
    DistillationReport,
    GenerationSamples,
    OnPolicy,
    TemperatureScaling,
    TrainTeacherFirst,
)
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import toy


class Own(LightningModule):
    """A module with a network under a name of its own, and its own loss, data and optimizer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch).logits().square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("own", self.net(batch).logits().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Distilled(DistillationMixin, Own):
    def student_logits(self, batch: Any) -> Any:
        return self.net(batch)


class WithOtherNetwork(Distilled):
    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.other = nn.Linear(2, 2)


class Data(LightningDataModule):
    """Ragged text with a tokenizer that knows single digits."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = Digits()

    def train_dataloader(self) -> Any:
        return toy.loader(8)

    def val_dataloader(self) -> Any:
        return toy.loader(8, seed=1)


class Digits:
    eos_token_id = 10

    def __call__(self, text: str, return_tensors: str) -> Any:
        return SimpleNamespace(input_ids=torch.tensor([[int(each) for each in text]]))

    def decode(self, ids: Tensor, skip_special_tokens: bool) -> str:
        return "".join(map(str, ids.tolist()))


def distilled(net: nn.Module, teacher: Any, kind: Any = Distilled) -> Any:
    return kind(net).distill(ForwardKL(temperature=2.0), teacher, task_weight=0.0)


def test_a_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, scaling = DistillationReport(), TemperatureScaling()
    module = distilled(toy.ToyLM(), toy.ToyLM(12, seed=2))
    run = toy.trainer(tmp_path, max_epochs=2, callbacks=[report, scaling])
    run.fit(module, datamodule=Data())
    assert report.before is not None
    assert report.after is not None
    assert report.after.temperature == 2.0
    assert report.after.student["forward_kl"] < report.before["forward_kl"]
    sizes = [sum(p.numel() for p in each.parameters()) for each in (module.net, toy.ToyLM(12))]
    written = (report.after.student["parameters"], report.after.teacher["parameters"])
    assert written == tuple(map(float, sizes))
    assert [step for step, _ in report.history["loss"]] == list(range(1, 9))
    assert "KL(teacher" in capsys.readouterr().out
    result = json.loads((tmp_path / "temperature_student_nll.json").read_text())
    assert result["nll"]["after"] <= result["nll"]["before"]


def test_the_student_generates_what_it_trains_on(tmp_path: Path) -> None:
    class Watch(Callback):
        batches: list[Any] = []

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            self.batches.append(copy.deepcopy(dict(batch)))

    policy = OnPolicy(1.0, Sampling(temperature=0.0), prompt_tokens=2)
    module = distilled(toy.llama(8, seed=1), toy.llama(12, seed=2))
    expected = copy.deepcopy(module.net)
    toy.trainer(tmp_path, callbacks=[policy, Watch()], max_steps=1).fit(module, datamodule=Data())
    batch = Watch.batches[0]
    row = batch["input_ids"][0][batch["attention_mask"][0].bool()]
    prompt = int((batch["labels"][0] != -100).nonzero()[0])
    assert 0 < prompt < len(row)
    made = expected.generate(
        row[None, :prompt], max_new_tokens=len(row) - prompt, do_sample=False,
        eos_token_id=[10], pad_token_id=10,
    )  # fmt: skip
    assert torch.equal(made[0], row)


def test_continuations_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = GenerationSamples(["123"], max_new_tokens=3)
    module = distilled(toy.llama(8, seed=1), toy.llama(12, seed=2))
    toy.trainer(tmp_path, callbacks=[samples]).fit(module, datamodule=Data())
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("> 123 ...", "before", "after", "teacher"))


def test_a_teacher_is_trained_as_the_module_asks_it(tmp_path: Path) -> None:
    class OtherTokens(Distilled):
        """The teacher gets other tokens than the student."""

        def teacher_logits(self, batch: Any) -> Any:
            return self.teacher({**batch, "input_ids": batch["input_ids"].flip(0)})

    def cross_entropy(module: Any) -> float:
        with torch.no_grad():
            batches = list(toy.loader(8))
            logits = [module.teacher_logits(batch) for batch in batches]
            inputs = [
                module.make_loss_inputs(b, each, None)
                for b, each in zip(batches, logits, strict=True)
            ]
            return sum(CrossEntropy()(each).mean().item() for each in inputs)

    teacher = FrozenTeacher(toy.ToyLM(12, seed=2), temperature=3.0)
    module = distilled(toy.ToyLM(), teacher, OtherTokens)
    before = cross_entropy(module)
    first = TrainTeacherFirst(epochs=4, lr=0.02)
    toy.trainer(tmp_path, callbacks=[first]).fit(module, datamodule=Data())
    assert module.teacher is teacher
    assert cross_entropy(module) < before
    assert not any(each.requires_grad or each.grad is not None for each in
                   teacher.model.parameters())  # fmt: skip
    assert not teacher.model.training


@pytest.mark.parametrize(
    "callback", [DistillationReport, OnPolicy, GenerationSamples], ids=lambda each: each.__name__
)
def test_a_module_with_two_networks_is_asked_for_its_student(callback: Any, tmp_path: Path) -> None:
    module = distilled(toy.llama(8, seed=1), toy.llama(12, seed=2), WithOtherNetwork)
    with pytest.raises(ValueError, match="define student_network"):
        toy.trainer(tmp_path, callbacks=[callback()]).fit(module, datamodule=Data())


@pytest.mark.parametrize(
    "callback",
    [DistillationReport, OnPolicy, TrainTeacherFirst, TemperatureScaling],
    ids=lambda each: each.__name__,
)
def test_any_other_module_is_refused(callback: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs a kdlight.DistillationModule.* got Own"):
        toy.trainer(tmp_path, callbacks=[callback()]).fit(Own(toy.ToyLM()), datamodule=Data())


@pytest.mark.parametrize("callback", [DistillationReport, TemperatureScaling])
def test_a_directory_that_cannot_be_written_to_is_found_before_the_training(
    callback: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    module = distilled(toy.ToyLM(), toy.ToyLM(12, seed=2))
    run = toy.trainer(tmp_path, callbacks=[callback(directory=str(tmp_path / "file" / "report"))])
    with pytest.raises(OSError, match="cannot write to .*name another folder"):
        run.fit(module, datamodule=Data())
    assert run.global_step == 0


def test_a_report_whose_directory_is_lost_is_written_elsewhere(tmp_path: Path) -> None:
    class Lost(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            (tmp_path / "report").write_text("a file has taken its place")

    module = distilled(toy.ToyLM(), toy.ToyLM(12, seed=2))
    report = DistillationReport(str(tmp_path / "report"))
    with pytest.warns(UserWarning, match="the report cannot be written to"):
        toy.trainer(tmp_path, callbacks=[report, Lost()]).fit(module, datamodule=Data())
    assert (tmp_path / "report.md").is_file()
