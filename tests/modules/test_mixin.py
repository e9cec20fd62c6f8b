"""The mixin adds a teacher to a LightningModule and leaves the rest of it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationMixin, DistillationModule, SingleInput
from kdlight.callbacks import HyperparameterScheduler
from kdlight.objectives import CrossEntropy, ForwardKL, LearnableTemperature, Objective, Weighted
from kdlight.schedules import Linear
from tests.support import toy
from tests.support.own_module import CLASSES, WIDTH, Classifier, Distilled, net
from tests.support.projecting import Projecting


def mixture() -> Objective:
    return Weighted({"kd": ForwardKL(temperature=2.0), "ce": CrossEntropy()}, weights={"ce": 0.5})


def distilled(objective: Objective | None = None, **options: Any) -> Distilled:
    kd = ForwardKL(temperature=2.0) if objective is None else objective
    return Distilled().distill(kd, net(9, seed=2), **options)


def loader(size: int = 4) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(22, WIDTH, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (22,), generator=generator)), size)


def fit(folder: Path, module: LightningModule, size: int = 4, **options: Any) -> Any:
    path = options.pop("ckpt_path", None)
    run = toy.trainer(folder, num_sanity_val_steps=0, **options)
    run.fit(module, loader(size), loader(), ckpt_path=path)
    return run


def largest_difference(first: nn.Module, second: nn.Module) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def test_the_mixin_equals_a_distillation_module_to_the_bit(tmp_path: Path) -> None:
    mixed = distilled(mixture(), task_weight=0.0)
    module = DistillationModule(
        student=SingleInput(net(5, seed=1)),
        teacher=SingleInput(net(9, seed=2)),
        objective=mixture(),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )
    for each in (mixed, module):
        fit(tmp_path, each, accumulate_grad_batches=3, max_epochs=2)
    assert largest_difference(mixed.net, module.student) == 0
    assert largest_difference(mixed.net, Classifier().net) > 1e-2


def test_the_modules_own_loss_equals_a_term_of_a_mixture(tmp_path: Path) -> None:
    """The training step is a cross-entropy, which is also the other term of the mixture."""
    own = distilled(task_weight=0.5)
    term = distilled(mixture(), task_weight=0.0)
    for each in (own, term):
        fit(tmp_path, each, accumulate_grad_batches=2)
    assert largest_difference(own, term) < 1e-6


@pytest.mark.parametrize("task_weight", [0.0, 1.0])
def test_accumulation_changes_nothing(task_weight: float, tmp_path: Path) -> None:
    at_once = distilled(task_weight=task_weight).double()
    accumulated = distilled(task_weight=task_weight).double()
    for each, size, accumulate in ((at_once, 8, 1), (accumulated, 2, 4)):
        each.teacher.model.double()  # type: ignore[union-attr]
        data = DataLoader([(x.double(), y) for x, y in loader(size)], None)  # type: ignore[arg-type]
        options = {"num_sanity_val_steps": 0, "accumulate_grad_batches": accumulate}
        toy.trainer(tmp_path, max_epochs=2, **options).fit(each, data)
    assert largest_difference(at_once, accumulated) < 1e-10


def test_an_objective_of_weight_zero_changes_nothing(tmp_path: Path) -> None:
    """Neither weights nor the momentum of the optimizer."""
    objective = Weighted({"kd": ForwardKL()}, weights={"kd": 0.0})
    with_mixin, without = distilled(objective), Classifier()
    for each in (with_mixin, without):
        fit(tmp_path, each)
    assert largest_difference(with_mixin, without) < 1e-7


def test_logs_metrics_and_hooks_of_the_module_stay(tmp_path: Path) -> None:
    module = distilled()
    run = fit(tmp_path, module, accumulate_grad_batches=2)
    logged = run.callback_metrics
    assert {"val_accuracy", "train/loss", "distillation/loss", "distillation/task"} <= set(logged)
    assert not [name for name in logged if name.startswith("val/")]
    assert logged["distillation/task"] != logged["distillation/loss"]
    assert module.hooks == ["epoch", "used", "used", "step"]


def test_the_module_without_the_mixin_loads_the_checkpoint(tmp_path: Path) -> None:
    module = distilled()
    run = fit(tmp_path, module)
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    assert module.state_dict().keys() == Classifier().state_dict().keys()
    assert not [name for name, _ in module.named_modules() if "teacher" in name]
    assert sum(len(g["params"]) for g in run.optimizers[0].param_groups) == 4
    saved = torch.load(path, weights_only=True)
    assert saved["own_entry"] == 1
    assert saved["gradient_normalizers"]["student"]["seen"] == 22
    for kind in (Classifier, Distilled):  # the latter is not set up for distillation
        again = kind.load_from_checkpoint(path)
        assert largest_difference(again, module) == 0
        toy.trainer(tmp_path).validate(again, loader(), verbose=False)


def test_an_interrupted_fit_resumes_to_the_same_bits(tmp_path: Path) -> None:
    uninterrupted, half, resumed = distilled(), distilled(), distilled()
    run = fit(tmp_path, uninterrupted, max_epochs=4)
    fit(tmp_path, half, max_epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    resumed_run = fit(tmp_path, resumed, max_epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert largest_difference(uninterrupted, resumed) == 0
    seen = "distillation/samples_seen"
    assert run.callback_metrics[seen] == resumed_run.callback_metrics[seen] == 4 * 22


def test_a_scheduler_changes_its_objective(tmp_path: Path) -> None:
    module = distilled()
    fit(tmp_path, module, callbacks=[HyperparameterScheduler("temperature", Linear(4.0, 1.0))])
    assert module.objective.temperature == 1.0


@pytest.mark.parametrize("in_mixture", [False, True])
def test_a_bound_network_of_an_objective_is_trained_and_saved(
    in_mixture: bool, tmp_path: Path
) -> None:
    objective = Projecting()
    module = distilled(Weighted({"kd": objective}) if in_mixture else objective)
    assert [tuple(p.shape) for p in objective.parameters()][::2] == [(9, CLASSES), (CLASSES, 9)]
    before = [p.clone() for p in objective.parameters()]
    run = fit(tmp_path, module)
    optimized = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert {id(p) for p in objective.parameters()} <= optimized
    assert not any(map(torch.equal, objective.parameters(), before))
    run.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    name = "objective.terms.kd.projector" if in_mixture else "objective.projector"
    assert torch.equal(saved[f"{name}.0.weight"], [*objective.parameters()][0])


def test_the_modules_optimizer_trains_the_objective(tmp_path: Path) -> None:
    module = distilled(LearnableTemperature())
    before = module.objective.g.item()  # type: ignore[union-attr]
    fit(tmp_path, module)
    assert module.objective.g.item() != before  # type: ignore[union-attr]


class LeavesOutObjective(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.1)


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class ReturnsText(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> str:
        return "loss"


def mixed(base: type[Classifier]) -> Any:
    return type("Mixed", (Distilled, base), {})()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (Distilled, ValueError, r"call distill\(objective, teacher\) before the fit"),
        (lambda: Distilled().distill(ForwardKL()), ValueError, "needs a teacher"),
        (
            lambda: mixed(LeavesOutObjective).distill(LearnableTemperature(), net(3, seed=0)),
            ValueError,
            r"parameters g, which no optimizer has; add self\.objective\.parameters\(\)",
        ),
        (
            lambda: mixed(Manual).distill(ForwardKL(), net(3, seed=0)),
            ValueError,
            "automatic_optimization is False",
        ),
        (
            lambda: mixed(ReturnsText).distill(ForwardKL(), net(3, seed=0)),
            TypeError,
            r"returned 'loss'.*task_weight=0",
        ),
        (
            lambda: type("Bare", (DistillationMixin, Classifier), {})().distill(
                ForwardKL(), SingleInput(net(3, seed=0))
            ),
            NotImplementedError,
            r"define student_logits\(self, batch\)",
        ),
    ],
)
def test_a_fit_that_cannot_work_raises_with_the_reason(
    make: Any, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        fit(tmp_path, make())


def test_a_negative_task_weight_raises() -> None:
    with pytest.raises(ValueError, match="task_weight must be 0 or above and finite, got -1"):
        distilled(task_weight=-1.0)
