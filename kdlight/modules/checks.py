"""Do the parts of a run fit each other? Asked before any work is done."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch import nn
from torch.utils.data import DistributedSampler

from kdlight.modules.ranks import on_each_rank
from kdlight.objectives import TokenObjective, check_vocabularies
from kdlight.teachers import FrozenTeacher

if TYPE_CHECKING:
    from kdlight.modules.distillation import DistillationModule


class NonFiniteLossError(RuntimeError):
    """The loss of an optimizer step is not a finite number."""


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
    check_strategy(module, module.trainer.strategy)


def check_strategy(module: DistillationModule, strategy: Strategy) -> None:
    """Raise a ValueError for what a strategy cannot do."""
    teacher = module.teacher
    if isinstance(strategy, DeepSpeedStrategy):
        if module.normalization == "global":
            raise ValueError(
                "normalization='global' divides the gradients once per optimizer step, but"
                " DeepSpeed's engine owns the gradients; set normalization='local' with this"
                " strategy"
            )
        network = getattr(teacher, "model", None)
        if strategy.zero_stage_3 and isinstance(network, nn.Module):
            raise ValueError(
                "DeepSpeed ZeRO-3 has one engine, which divides the student; a live teacher in the"
                " same process is outside it. Use ZeRO stage 1 or 2 (trainer.strategy.stage), or"
                " FSDP2 (kdlight.modules.FSDP2Strategy), where the teacher is sharded too by"
                " FrozenTeacher(shard=True)"
            )
    sharded = isinstance(teacher, FrozenTeacher) and teacher.shard
    if sharded and not isinstance(strategy, ModelParallelStrategy):
        raise ValueError(
            "the teacher is to be sharded (shard=True), which FSDP2 does, but the strategy is"
            f" {type(strategy).__name__}; use kdlight.modules.FSDP2Strategy, or shard=False"
        )


def check_gradients(student: nn.Module) -> None:
    """Raise a RuntimeError where nothing that is sharded got a gradient.

    FSDP2 looks for the end of the forward pass in the tensors that a network returns. A logits
    source of one's own that is no dataclass hides them, older versions of torch look into no
    dataclass, and the student would stay as it is without a word.
    """
    if all(p.grad is None for p in student.parameters() if p.requires_grad):
        raise RuntimeError(
            f"no gradient reached the sharded student ({type(student).__name__}): its forward must"
            " return tensors, or a logits source that is a dataclass; with torch below 2.9 put its"
            " layers into a torch.nn.ModuleList"
        )


def check_finite(trainer: Trainer, loss: float) -> None:
    """Where the loss of an optimizer step is no number, save the state before it and raise."""
    if isfinite(loss):
        return
    step = trainer.global_step
    path = Path(trainer.default_root_dir) / f"non_finite_step={step}.ckpt"
    trainer.save_checkpoint(path)
    raise NonFiniteLossError(
        f"the loss of optimizer step {step} is {loss}; the state before this step is saved in"
        f" {path}. Look at: the learning rate and gradient clipping, half precision (try"
        " bf16-mixed or 32), columns at -inf on one side only (an infinite divergence), and"
        " the batch itself"
    )


def check_training_batches(trainer: Trainer) -> None:
    """Raise a ValueError, on all ranks, where some have more training batches than others.

    Each optimizer step is taken together, so the rank with one more would wait for ever. Data
    without a length cannot be asked.
    """
    counts = on_each_rank(trainer, trainer.num_training_batches)
    _check_equal(counts, "training", "trainer.limit_train_batches")


def check_evaluation_batches(trainer: Trainer) -> None:
    """Raise a ValueError, on all ranks, where ranks that gather weights together would part.

    Warn where a sampler fills up the ranks with samples that are evaluated already.
    """
    loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    for loader in CombinedLoader(loaders).flattened:
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            _warn_of_repeats(sampler)
    if not isinstance(trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
        return  # each rank evaluates by itself; metrics are reduced once, when all are done
    counts = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
    for batches in counts:
        _check_equal(on_each_rank(trainer, batches), "evaluation", "trainer.limit_val_batches")


def _warn_of_repeats(sampler: DistributedSampler) -> None:
    samples, repeats = len(sampler.dataset), sampler.total_size - len(sampler.dataset)  # type: ignore[arg-type]
    if repeats > 0:
        rank_zero_warn(
            f"{repeats} of {samples} evaluation samples count twice, since {sampler.num_replicas}"
            " ranks do not divide them evenly. For exact numbers evaluate on one device, or use a"
            " sampler of your own that repeats none (use_distributed_sampler=False)"
        )


def _check_equal(counts: list[float], kind: str, limit: str) -> None:
    fewest = min(counts)
    if max(counts) > fewest:
        raise ValueError(
            f"the ranks have different numbers of {kind} batches, {[*map(_show, counts)]}, and"
            " would wait for each other for ever; let Lightning share out the data"
            " (use_distributed_sampler=True), use a DistributedSampler, or set"
            f" {limit}={_show(fewest)}"
        )


def _show(count: float) -> int | float:
    return int(count) if count < float("inf") else count


def _check_context(datamodule: Any, networks: dict[str, Any]) -> None:
    block = getattr(datamodule, "block_size", None)
    for name, network in networks.items():
        context = getattr(network, "context_length", None)
        if block is not None and context is not None and block > context:
            raise ValueError(
                f"block_size is {block}, but the context of the {name} is {context} tokens; set"
                f" data.block_size to {context} or less"
            )
