"""Do the parts of a run fit each other? Asked before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import DeepSpeedStrategy

from kdlight.objectives import TokenObjective, check_vocabularies

if TYPE_CHECKING:
    from kdlight.modules.distillation import DistillationModule


def check_fit(module: DistillationModule) -> None:
    """Raise a ValueError for parts that do not fit; parts that do not tell are let through."""
    objective, student, teacher = module.objective, module.student, module.teacher
    network = getattr(teacher, "model", None)
    if objective.needs_teacher and teacher is None:
        raise ValueError(
            f"objective {type(objective).__name__} needs a teacher, but teacher is None; give the"
            " DistillationModule a teacher, or an objective that needs none, such as CrossEntropy"
        )
    sizes = [getattr(part, "vocab_size", None) for part in (student, network)]
    compares = any(isinstance(m, TokenObjective) and m.needs_teacher for m in objective.modules())
    if compares and None not in sizes:
        check_vocabularies(*sizes)  # type: ignore[arg-type]
    _check_context(module.trainer.datamodule, {"student": student, "teacher": network})  # type: ignore[attr-defined]
    if module.normalization == "global" and isinstance(module.trainer.strategy, DeepSpeedStrategy):
        raise ValueError(
            "normalization='global' divides the gradients once per optimizer step, but DeepSpeed's"
            " engine owns the gradients; set normalization='local' with this strategy"
        )


def _check_context(datamodule: Any, networks: dict[str, Any]) -> None:
    block = getattr(datamodule, "block_size", None)
    for name, network in networks.items():
        context = getattr(network, "context_length", None)
        if block is not None and context is not None and block > context:
            raise ValueError(
                f"block_size is {block}, but the context of the {name} is {context} tokens; set"
                f" data.block_size to {context} or less"
            )
