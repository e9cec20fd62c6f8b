"""Parts of a run that do not fit each other, before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.strategies import DeepSpeedStrategy, SingleDeviceStrategy

from kdlight import DistillationModule
from kdlight.modules.fit_checks import check_strategy
from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.online_fit import module


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


def test_different_vocabularies_raise_before_training(tmp_path: Path) -> None:
    this = module()
    this.teacher.vocab_size = 12  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="vocabularies differ"):
        toy.trainer(tmp_path).fit(this, toy.RaggedModule(8))


def deepspeed(stage: int) -> DeepSpeedStrategy:
    """The strategy as its settings make it, without the package that it asks for."""
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
