"""Parts of a run that do not fit each other, before any work is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, SingleDeviceStrategy
from torch import nn

from kdlight import DistillationModule, SingleInput
from kdlight.modules.fit_checks import (
    check_context,
    check_optimized,
    check_strategy,
    compares_vocabularies,
)
from kdlight.objectives import ULD, CrossEntropy, ForwardKL, LearnableTemperature, Weighted
from tests.support import online_fit, toy


def test_different_vocabularies_raise_before_training(tmp_path: Path) -> None:
    module = toy.module()
    module.student.vocab_size = 12  # type: ignore[assignment]
    with pytest.raises(ValueError, match="teacher and student vocabularies differ: 11 and 12"):
        toy.trainer(tmp_path).fit(module, toy.loader(8))


def test_a_missing_teacher_raises_before_training(tmp_path: Path) -> None:
    module = DistillationModule(student=toy.ToyLM(), objective=ForwardKL())
    with pytest.raises(ValueError, match="ForwardKL needs a teacher"):
        toy.trainer(tmp_path).fit(module, toy.loader(8))


def test_blocks_longer_than_the_context_raise_before_training(tmp_path: Path) -> None:
    module = toy.module()
    module.student.context_length = 16  # type: ignore[assignment]
    data = toy.RaggedModule(4)
    data.block_size = 32  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="block_size is 32, but the context of the student is 16"):
        toy.trainer(tmp_path).fit(module, data)


def test_different_vocabularies_of_online_networks_raise(tmp_path: Path) -> None:
    module = online_fit.module()
    module.teacher.vocab_size = 12  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="vocabularies differ"):
        toy.trainer(tmp_path).fit(module, toy.RaggedModule(8))


def deepspeed(stage: int) -> DeepSpeedStrategy:
    """Return the strategy with a stage, without the package that it requires."""
    strategy = DeepSpeedStrategy.__new__(DeepSpeedStrategy)
    strategy.config = {"zero_optimization": {"stage": stage}}
    return strategy


def test_deepspeed_needs_local_normalization_and_a_stage_below_3() -> None:
    teacher = toy.module().teacher
    check_strategy(deepspeed(2), teacher, "local")
    with pytest.raises(ValueError, match="normalization='local' with this strategy"):
        check_strategy(deepspeed(2), teacher, "global")
    with pytest.raises(ValueError, match=r"ZeRO-3 .* Use ZeRO stage 1 or 2"):
        check_strategy(deepspeed(3), teacher, "local")
    check_strategy(deepspeed(3), None, "local")


def test_a_sharded_teacher_needs_fsdp2() -> None:
    with pytest.raises(ValueError, match=r"shard=True.*SingleDeviceStrategy.*FSDP2Strategy"):
        check_strategy(SingleDeviceStrategy(), toy.module(shard=True).teacher, "global")


def test_objectives_that_compare_vocabularies() -> None:
    assert compares_vocabularies(ForwardKL())
    assert compares_vocabularies(Weighted({"ce": CrossEntropy(), "kd": ForwardKL()}))
    assert not compares_vocabularies(CrossEntropy())
    assert not compares_vocabularies(ULD())


def test_parameters_of_an_objective_must_be_in_an_optimizer() -> None:
    objective = Weighted({"kd": LearnableTemperature(), "ce": CrossEntropy()})
    strategy = SingleDeviceStrategy(torch.device("cpu"))
    with_objective, without = (
        torch.optim.SGD(parameters, lr=0.1)
        for parameters in (objective.parameters(), nn.Linear(2, 2).parameters())
    )
    check_optimized(objective, [without, with_objective], strategy)
    with pytest.raises(ValueError, match=r"parameters terms\.kd\.g, which no optimizer has"):
        check_optimized(objective, [without], strategy)
    check_optimized(objective, [without], deepspeed(2))  # which flattens parameters
    objective.requires_grad_(False)
    check_optimized(objective, [without], strategy)


def test_blocks_may_be_as_long_as_the_context() -> None:
    network = SingleInput(nn.Linear(4, 3))
    network.context_length = 16  # type: ignore[assignment]
    check_context(SimpleNamespace(block_size=16), [("student", network)])
    check_context(SimpleNamespace(), [("student", network)])
    check_context(SimpleNamespace(block_size=17), [("student", nn.Linear(4, 3))])
    with pytest.raises(ValueError, match="context of the third is 16 tokens; set data.block_size"):
        check_context(SimpleNamespace(block_size=17), [("third", network)])
