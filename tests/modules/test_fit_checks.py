"""Parts of a run that do not fit each other, before any work is done."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    SingleDeviceStrategy,
)
from torch import nn

from kdlight import DistillationModule, SingleInput
from kdlight.distributed import FSDP2Strategy
from kdlight.models import Quantized
from kdlight.modules.fit_checks import (
    check_context,
    check_optimized,
    check_peer_heads,
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


@pytest.mark.parametrize(("chunked", "is_refused"), [(True, True), ("auto", False), (False, False)])
def test_networks_with_divided_heads_cannot_learn_from_each_other_in_chunks(
    chunked: Any, is_refused: bool
) -> None:
    module, strategy = online_fit.module(chunked=chunked), FSDP2Strategy(2, divide_head=True)
    check_peer_heads(FSDP2Strategy(2), module.learners(), chunked)
    alone = {name: (network, CrossEntropy()) for name, (network, _) in module.learners().items()}
    check_peer_heads(strategy, alone, chunked)
    with (
        pytest.raises(ValueError, match=r"chunked=True with divide_head=True.*chunked='auto'")
        if is_refused
        else nullcontext()
    ):
        check_peer_heads(strategy, module.learners(), chunked)


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
    teacher, network = toy.module().teacher, toy.ToyLM()
    check_strategy(deepspeed(2), teacher, "local", network)
    with pytest.raises(ValueError, match="normalization='local' with this strategy"):
        check_strategy(deepspeed(2), teacher, "global", network)
    with pytest.raises(ValueError, match=r"ZeRO-3 .* Use ZeRO stage 1 or 2"):
        check_strategy(deepspeed(3), teacher, "local", network)
    check_strategy(deepspeed(3), None, "local", network)


def test_a_sharded_teacher_needs_fsdp2() -> None:
    teacher = toy.module(shard=True).teacher
    with pytest.raises(ValueError, match=r"shard=True.*SingleDeviceStrategy.*FSDP2Strategy"):
        check_strategy(SingleDeviceStrategy(), teacher, "global", toy.ToyLM())


@pytest.mark.parametrize("strategy", [FSDPStrategy(), deepspeed(2)])
def test_quantized_weights_stay_whole(strategy: Any, tmp_path: Path) -> None:
    module = toy.module(normalization="local")
    module.student = Quantized(module.student).build()
    check_strategy(SingleDeviceStrategy(), module.teacher, "local", module.student)
    check_strategy(FSDP2Strategy(), module.teacher, "local", module.student)
    words = rf"quantized weights.*{type(strategy).__name__}; train it on one device, with DDP"
    with pytest.raises(ValueError, match=words):
        check_strategy(strategy, module.teacher, "local", module.student)
    check_strategy(strategy, module.teacher, "local", toy.ToyLM())


def test_tensor_parallelism_would_divide_quantized_weights() -> None:
    student = Quantized(toy.ToyLM()).build()
    with pytest.raises(ValueError, match="tensor_parallel_size=2 would divide"):
        check_strategy(FSDP2Strategy(tensor_parallel_size=2), None, "global", student)


def test_every_module_asks_before_training(tmp_path: Path) -> None:
    """DDP with a strategy class of another library in its place, as no accelerator is here."""

    class Other(DeepSpeedStrategy):
        def __init__(self) -> None:
            DDPStrategy.__init__(self, accelerator=CPUAccelerator())
            self.config = {"zero_optimization": {"stage": 1}}

    module = toy.module(normalization="local")
    module.student = Quantized(module.student).build()
    trainer = toy.trainer(tmp_path)
    module.trainer = trainer
    trainer._accelerator_connector.strategy = Other()
    with pytest.raises(ValueError, match="quantized weights.*Other; train it on one device"):
        module.prepare_run()


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
