"""Do the parts of a run fit each other? Asked before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch import nn

from kdlight.modules.tokens import check_tokens
from kdlight.objectives import TokenObjective, check_vocabularies
from kdlight.teachers import live_teachers

if TYPE_CHECKING:
    from kdlight.modules.online import OnlineDistillationModule
    from kdlight.modules.taught import TaughtModule


def check_fit(module: TaughtModule) -> None:
    """Raise a ValueError for parts that do not fit; parts that do not tell are let through."""
    student, objective = module.learners()[""]
    teacher = module.teacher
    network = getattr(teacher, "model", None)
    if objective.needs_teacher and teacher is None:
        raise ValueError(
            f"objective {type(objective).__name__} needs a teacher, but teacher is None; give"
            " one, or an objective that needs none, such as CrossEntropy"
        )
    if _compares(objective):
        answers = network if network is not None else teacher
        _check_vocabularies(student, answers)
        check_tokens(module.trainer.datamodule, {"student": student, "teacher": answers})  # type: ignore[attr-defined]
    _check_context(module.trainer.datamodule, {"student": student, "teacher": network})  # type: ignore[attr-defined]
    check_strategy(module, module.trainer.strategy)


def check_optimized(module: TaughtModule) -> None:
    """Raise a ValueError where the objective has parameters that no optimizer knows.

    Strategies that put parameters into flat ones cannot be asked.
    """
    if not isinstance(module.trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        return
    optimizers = module.trainer.optimizers
    known = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
    learned = dict(module.objective.named_parameters())
    lost = [name for name, p in learned.items() if p.requires_grad and id(p) not in known]
    if lost:
        raise ValueError(
            f"the objective {type(module.objective).__name__} learns {', '.join(lost)}, which no"
            " optimizer has; add self.objective.parameters() in configure_optimizers"
        )


def check_strategy(module: TaughtModule, strategy: Strategy) -> None:
    """Raise a ValueError for what a strategy cannot do."""
    teacher = module.teacher
    if isinstance(strategy, DeepSpeedStrategy):
        if module.normalization == "global":
            raise ValueError(
                "normalization='global' divides the gradients once per optimizer step, but"
                " DeepSpeed's engine owns the gradients; set normalization='local' with this"
                " strategy"
            )
        live = any(isinstance(each.model, nn.Module) for each in live_teachers(teacher))
        if strategy.zero_stage_3 and live:
            raise ValueError(
                "DeepSpeed ZeRO-3 has one engine, which divides the student; a live teacher in the"
                " same process is outside it. Use ZeRO stage 1 or 2 (trainer.strategy.stage), or"
                " FSDP2 (kdlight.modules.FSDP2Strategy), where the teacher is sharded too by"
                " FrozenTeacher(shard=True)"
            )
    sharded = any(each.shard for each in live_teachers(teacher))
    if sharded and not isinstance(strategy, ModelParallelStrategy):
        raise ValueError(
            "the teacher is to be sharded (shard=True), which FSDP2 does, but the strategy is"
            f" {type(strategy).__name__}; use kdlight.modules.FSDP2Strategy, or shard=False"
        )


def check_online(module: OnlineDistillationModule) -> None:
    """Raise a ValueError for networks that cannot learn from each other, as far as they tell."""
    learners = {name or "student": each for name, each in module.learners().items()}
    for name, (network, objective) in learners.items():
        for other, (teacher, _) in learners.items():
            if other != name and _compares(objective):
                _check_vocabularies(network, teacher)
    networks = {name: network for name, (network, _) in learners.items()}
    _check_context(module.trainer.datamodule, networks)  # type: ignore[attr-defined]
    check_strategy(module, module.trainer.strategy)


def _compares(objective: nn.Module) -> bool:
    return any(isinstance(m, TokenObjective) and m.needs_teacher for m in objective.modules())


def _check_vocabularies(student: Any, teacher: Any) -> None:
    sizes = [getattr(part, "vocab_size", None) for part in (student, teacher)]
    if None not in sizes:
        check_vocabularies(*sizes)  # type: ignore[arg-type]


def _check_context(datamodule: Any, networks: dict[str, Any]) -> None:
    block = getattr(datamodule, "block_size", None)
    for name, network in networks.items():
        context = getattr(network, "context_length", None)
        if block is not None and context is not None and block > context:
            raise ValueError(
                f"block_size is {block}, but the context of the {name} is {context} tokens; set"
                f" data.block_size to {context} or less"
            )
