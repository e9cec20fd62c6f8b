"""One optimizer over several: rates of their own, steps by hand, schedules and exact resumes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

from kdlight import DistillationModule
from kdlight.modules import PartitionedOptimizer
from kdlight.objectives import ForwardKL, LearnableTemperature, Objective
from tests.callbacks.test_exact_resume import STRATEGIES, check_same, launch, result
from tests.support import toy


def pair() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(3, 2), nn.Linear(2, 1)


def optimizers(first: nn.Module, second: nn.Module) -> list[Optimizer]:
    return [
        AdamW(first.parameters(), lr=0.1, weight_decay=0.3),
        SGD(second.parameters(), lr=0.5, momentum=0.9),
    ]


def train(networks: tuple[nn.Linear, nn.Linear], steps: int, *used: Optimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = networks[1](networks[0](torch.randn(4, 3, generator=generator))).square().mean()
        for optimizer in used:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in used:
            optimizer.step()


def weights(networks: tuple[nn.Linear, nn.Linear]) -> list[torch.Tensor]:
    return [p.detach().clone() for network in networks for p in network.parameters()]


def test_a_step_is_a_step_of_each() -> None:
    together, apart = pair(), pair()
    train(together, 5, PartitionedOptimizer(optimizers(*together)))
    train(apart, 5, *optimizers(*apart))
    assert all(map(torch.equal, weights(together), weights(apart)))


def test_a_state_dict_restores_all_of_them() -> None:
    whole, half = pair(), pair()
    train(whole, 6, PartitionedOptimizer(optimizers(*whole)))
    first = PartitionedOptimizer(optimizers(*half))
    train(half, 3, first)
    for group in first.param_groups:
        group["lr"] *= 1.0  # a schedule changes the groups that the optimizers within use
    second = PartitionedOptimizer(optimizers(*half))
    second.load_state_dict(first.state_dict())
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        x = torch.randn(4, 3, generator=generator)
        if step >= 3:
            second.zero_grad()
            half[1](half[0](x)).square().mean().backward()
            second.step()
    assert all(map(torch.equal, weights(whole), weights(half)))
    assert [group["lr"] for group in second.param_groups] == [0.1, 0.5]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: ExponentialLR(optimizer, 0.5),
        lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        lambda optimizer: OneCycleLR(optimizer, [0.2, 0.4], total_steps=9, cycle_momentum=False),
    ],
)
def test_a_schedule_changes_the_rates_that_are_used(schedule: Any) -> None:
    networks = pair()
    both = PartitionedOptimizer(optimizers(*networks))
    scheduler = schedule(both)
    before = [group["lr"] for group in both.param_groups]
    train(networks, 1, both)
    scheduler.step()
    after = [group["lr"] for each in both.optimizers for group in each.param_groups]
    assert after == [group["lr"] for group in both.param_groups]
    assert all(a != b for a, b in zip(after, before, strict=True))


def test_a_group_without_an_optimizer_is_refused() -> None:
    both = PartitionedOptimizer(optimizers(*pair()))
    with pytest.raises(ValueError, match="takes no further parameter group"):
        both.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


# ---- in a module


def adamw(groups: Any) -> Optimizer:
    return AdamW(groups, lr=0.01)


def g(objective: Objective) -> torch.Tensor:
    return objective.get_parameter("g").detach().clone()


def module(**options: Any) -> DistillationModule:
    return DistillationModule(
        **{
            "student": toy.ToyLM(seed=1),
            "teacher": toy.ToyLM(9, seed=2),
            "objective": LearnableTemperature(),
            **options,
        }
    )


def test_parts_have_rates_of_their_own(tmp_path: Path) -> None:
    optimizer = {"student": adamw, "objective": lambda groups: SGD(groups, lr=0.5)}
    this = module(optimizer=optimizer)
    start = g(this.objective)
    run = toy.trainer(tmp_path, max_steps=1)
    run.fit(this, toy.RaggedModule(8))
    assert isinstance(run.optimizers[0], PartitionedOptimizer)
    assert [group["lr"] for group in run.optimizers[0].param_groups] == [0.01, 0.5]
    gradient = this.objective.get_parameter("g").grad
    assert gradient is not None
    torch.testing.assert_close(g(this.objective), start - 0.5 * gradient)


def test_equal_rates_are_one_optimizer(tmp_path: Path) -> None:
    """A mapping of the same factory gives the numbers of the factory alone, to the bit."""
    found = []
    for optimizer in (adamw, {"student": adamw, "objective": adamw}):
        this = module(optimizer=optimizer)
        toy.trainer(tmp_path, max_steps=3, gradient_clip_val=0.1).fit(this, toy.RaggedModule(8))
        found.append([*(p.detach() for p in this.student.parameters()), g(this.objective)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_it_works_in_any_precision(tmp_path: Path, precision: Any) -> None:
    this = module(optimizer={"student": adamw, "objective": adamw})
    start = [p.detach().clone() for p in this.parameters()]
    toy.trainer(tmp_path, max_steps=2, precision=precision, accumulate_grad_batches=2).fit(
        this, toy.RaggedModule(4)
    )
    moved = [not torch.equal(a, b) for a, b in zip(start, this.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": {"student": adamw}}, r"entries for \['student'\], .*'objective'"),
        (
            {"optimizer": {"student": adamw, "objective": adamw, "other": adamw}},
            r"'other'.*parts with parameters are \['objective', 'student'\]",
        ),
        (
            {"lr_scheduler": lambda optimizer: ReduceLROnPlateau(optimizer)},
            "ReduceLROnPlateau needs the name of a logged metric.*monitor",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        toy.trainer(tmp_path).fit(module(**options), toy.RaggedModule(8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"every": 3}, r"lr_scheduler_config has \['every'\], but its options are \['interval'"),
        ({"interval": "batch"}, "interval must be 'step' or 'epoch', got 'batch'"),
    ],
)
def test_options_that_lightning_does_not_have(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(lr_scheduler_config=config)


def test_an_optimizer_without_parameters_is_told_of(tmp_path: Path) -> None:
    this = module(objective=ForwardKL(), optimizer={"student": adamw, "objective": adamw})
    with pytest.warns(UserWarning, match="optimizer of objective is not used"):
        toy.trainer(tmp_path, max_steps=1).fit(this, toy.RaggedModule(8))


# ---- schedules


def rates(tmp_path: Path, **options: Any) -> list[float]:
    """The learning rate of every step of two epochs of four."""
    logger = CSVLogger(tmp_path)
    monitor = LearningRateMonitor("step")
    run = toy.trainer(
        tmp_path, max_epochs=2, logger=logger, log_every_n_steps=1, callbacks=[monitor]
    )
    run.fit(module(optimizer=lambda groups: SGD(groups, lr=1.0), **options), toy.RaggedModule(8))
    (lines,) = (path.read_text().splitlines() for path in tmp_path.rglob("metrics.csv"))
    column = next(i for i, name in enumerate(lines[0].split(",")) if name.startswith("lr-"))
    return [float(value) for line in lines[1:] if (value := line.split(",")[column])]


def halving(optimizer: Optimizer) -> ExponentialLR:
    return ExponentialLR(optimizer, 0.5)


@pytest.mark.parametrize(
    ("config", "exponents"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"frequency": 3}, [0, 0, 0, 1, 1, 1, 1, 2]),  # Lightning counts within an epoch
        ({"interval": "epoch"}, [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_interval_and_frequency(tmp_path: Path, config: Any, exponents: list[int]) -> None:
    found = rates(tmp_path, lr_scheduler=halving, lr_scheduler_config=config)
    assert found == [0.5**exponent for exponent in exponents]


def test_a_plateau_is_looked_for_once_an_epoch(tmp_path: Path) -> None:
    def plateau(optimizer: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=1e9)

    config = {"monitor": "val/forward_kl"}
    found = rates(tmp_path, lr_scheduler=plateau, lr_scheduler_config=config)
    assert found[:4] == [1.0] * 4
    assert found[4:] in ([1.0] * 4, [0.1] * 4)  # the first value is the best so far


# ---- resumes


@pytest.mark.parametrize("options", [STRATEGIES[0], STRATEGIES[-1]])
def test_all_optimizers_are_resumed_to_the_same_bits(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Killed within a window of accumulated gradients, in one process and on two ranks."""
    options = {**options, "own_optimizers": True}
    killed = launch(tmp_path / "run", signal={"batch": 7, "name": "SIGKILL"}, **options)
    assert -signal.SIGKILL in killed.codes, killed.stderr[-3000:]
    last = tmp_path / "run" / "checkpoints" / "step=4.ckpt"
    resumed = result(tmp_path / "run", resume=str(last), **options)
    whole = result(tmp_path / "whole", **options)
    assert "terms.ctkd.g" in whole["parameters"]
    check_same(resumed, whole, logged=len(whole["rows"]) - 3, name="killed")
