"""DistillationModule in real fits: what it trains, what it saves, what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from torch import nn
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule, FrozenTeacher, SingleInput
from kdlight.callbacks import AdaptiveTAID
from kdlight.objectives import TAID, CrossEntropy, ForwardKL, Objective, Weighted
from tests.support import toy


def test_the_student_learns_and_the_teacher_does_not_change(tmp_path: Path) -> None:
    module = toy.module(ForwardKL())
    assert isinstance(module.teacher, FrozenTeacher)
    before = {k: v.clone() for k, v in module.teacher.model.state_dict().items()}
    run = toy.trainer(tmp_path, max_epochs=5)
    run.fit(module, toy.loader(8), toy.loader(8, seed=1))
    untrained = toy.module(ForwardKL())
    validated = toy.trainer(tmp_path).validate(untrained, toy.loader(8, seed=1), verbose=False)[0]
    assert run.callback_metrics["val/forward_kl"] < 0.7 * validated["val/forward_kl"]
    for name, value in module.teacher.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_module_that_was_evaluated_can_be_fitted(tmp_path: Path) -> None:
    module = toy.module(ForwardKL())
    held_out = toy.loader(8, seed=1)
    before = toy.trainer(tmp_path).validate(module, held_out, verbose=False)[0]
    run = toy.trainer(tmp_path, max_epochs=5)
    run.fit(module, toy.loader(8), held_out)
    assert run.callback_metrics["val/forward_kl"] < before["val/forward_kl"]


class Modes(Callback):
    """Sets everything to train mode, and records the modes of student and teacher."""

    def __init__(self) -> None:
        self.student: set[bool] = set()
        self.teacher: set[bool] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        pl_module.train()
        pl_module.teacher.model.train()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        self.student |= {part.training for part in pl_module.student.modules()}
        self.teacher |= {part.training for part in pl_module.teacher.model.modules()}
        assert not any(p.requires_grad for p in pl_module.teacher.model.parameters())


def test_the_student_trains_and_the_teacher_evaluates_whatever_mode_is_set(tmp_path: Path) -> None:
    modes = Modes()
    module = toy.module()
    module.student.eval()  # like a model of Hugging Face
    toy.trainer(tmp_path, callbacks=[modes]).fit(module, toy.loader(8))
    assert modes.student == {True}
    assert modes.teacher == {False}


@pytest.mark.filterwarnings("ignore:You.re using the WeightAveraging callback:UserWarning")
def test_the_teacher_is_outside_the_module_tree(tmp_path: Path) -> None:
    module = toy.module()
    parts = [
        *(name for name, _ in module.named_modules()),
        *(name for name, _ in module.named_parameters()),
        *module.state_dict(),
    ]
    assert not [name for name in parts if "teacher" in name and "metrics" not in name]
    averaging = WeightAveraging()
    toy.trainer(tmp_path, callbacks=[averaging]).fit(module, toy.loader(8))
    assert averaging._average_model is not None
    copied = averaging._average_model.module
    assert copied.teacher is module.teacher  # type: ignore[union-attr]
    assert not [name for name in averaging._average_model.state_dict() if "teacher" in name]


def test_a_checkpoint_holds_plain_data_and_resumes(tmp_path: Path) -> None:
    def fit(epochs: int, resume: str | None = None) -> tuple[DistillationModule, Trainer]:
        torch.manual_seed(0)
        module = toy.module(Weighted({"kd": TAID(), "ce": CrossEntropy()}))
        run = toy.trainer(tmp_path, max_epochs=epochs, callbacks=[AdaptiveTAID(alpha=0.5)])
        run.fit(module, toy.loader(8), ckpt_path=resume)
        return module, run

    def save(epochs: int) -> str:
        _, run = fit(epochs)
        run.save_checkpoint(tmp_path / "half.ckpt")
        return str(tmp_path / "half.ckpt")

    checkpoint = torch.load(save(1), weights_only=True)
    assert {key.split(".")[0] for key in checkpoint["state_dict"]} == {"student", "objective"}
    assert len(checkpoint["optimizer_states"]) == 1
    assert [key for key in checkpoint["callbacks"] if "AdaptiveTAID" in key]
    assert not set(checkpoint["hyper_parameters"]) & {"student", "teacher", "objective"}

    tested = toy.trainer(tmp_path, callbacks=[AdaptiveTAID(alpha=0.5)]).test(
        toy.module(Weighted({"kd": TAID(), "ce": CrossEntropy()})),
        toy.loader(8),
        ckpt_path=str(tmp_path / "half.ckpt"),
        verbose=False,
    )
    assert tested[0]["test/forward_kl"] > 0
    resumed, run = fit(2, str(tmp_path / "half.ckpt"))
    assert run.global_step == 8


class Scaled(Objective):
    """A loss times a parameter, which counts sequences."""

    unit = "sequence"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Any) -> Any:
        loss = ForwardKL()(inputs)
        return loss._replace(total=loss.total * self.scale)


def test_parameters_of_the_objective_are_a_group_of_their_own(tmp_path: Path) -> None:
    objective = Scaled()
    run = toy.trainer(tmp_path)
    run.fit(toy.module(objective), toy.loader(8))
    assert len(run.optimizers[0].param_groups) == 2
    assert objective.scale.item() != 1.0


SIGNALS = torch.randn(2, 4)


@pytest.mark.parametrize(
    ("batch", "key"),
    [((SIGNALS, torch.tensor([0, 1])), 0), ({"x": SIGNALS, "labels": torch.tensor([0, 1])}, "x")],
    ids=["tuple", "mapping"],
)
@pytest.mark.parametrize("network", ["student", "teacher"])
def test_a_network_that_reads_one_entry_is_pointed_to_single_input(
    network: str, batch: Any, key: Any, tmp_path: Path
) -> None:
    networks: dict[str, Any] = dict.fromkeys(
        ["student", "teacher"], SingleInput(nn.Linear(4, 3), key=key)
    )
    networks[network] = nn.Linear(4, 3)
    module = DistillationModule(**networks, objective=ForwardKL())
    batches: DataLoader = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=f"Linear was called with the whole.*SingleInput.network, key={key!r}"
    ):
        toy.trainer(tmp_path).fit(module, batches)


def test_any_pair_of_callables(tmp_path: Path) -> None:
    """Networks that return tensors, and a batch without labels."""

    class Unlabeled(DistillationModule):
        def labels(self, batch: Any) -> None:
            return None

    module = Unlabeled(
        student=nn.Linear(4, 3),
        teacher=FrozenTeacher(lambda x: x[:, :3].square()),  # type: ignore[arg-type]
        objective=ForwardKL(),
    )
    data = torch.utils.data.DataLoader(torch.randn(16, 4), batch_size=4)  # type: ignore[arg-type]
    run = toy.trainer(tmp_path)
    run.fit(module, data)
    assert run.global_step == 4
    assert isinstance(SingleInput(nn.Linear(4, 3)), nn.Module)
    assert issubclass(CausalLM, nn.Module)


def test_metrics_are_measured_at_the_temperature_of_the_objective() -> None:
    assert toy.module(ForwardKL(temperature=3.0)).metrics.temperature == 3.0
    assert toy.module(ForwardKL(temperature=3.0), temperature=1.0).metrics.temperature == 1.0
    assert toy.module(CrossEntropy()).metrics.temperature == 1.0


def test_the_model_summary_counts_no_teacher() -> None:
    module = toy.module()
    student = sum(p.numel() for p in module.student.parameters())
    assert ModelSummary(module, max_depth=-1).total_parameters == student
