"""Check that the parts of a run fit each other, before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.optim import Optimizer

from kdlight.distributed.whole import keeps_networks_whole
from kdlight.models.context import context_length
from kdlight.modules.captured_features import check_features
from kdlight.modules.tokenizer_checks import check_tokenizers
from kdlight.objectives import Objective, RoutedKD, TokenObjective, check_vocabularies
from kdlight.quantization import is_quantized
from kdlight.reduce.plan import Chunked
from kdlight.teachers import (
    FrozenTeacher,
    SelectiveTeacher,
    Teacher,
    TeacherEnsemble,
    remote_teachers,
)


def check_fit(objective: Objective, student: nn.Module, teacher: Any, datamodule: Any) -> None:
    """Raise a ValueError for parts that do not fit; parts that do not tell are accepted.

    Args:
        objective: what is trained.
        student: the network that is trained.
        teacher: a `kdlight.teachers.Teacher`, or None.
        datamodule: the data module of the run, or None.
    """
    if "teacher" in objective.needs and teacher is None:
        raise ValueError(
            f"objective {type(objective).__name__} needs a teacher, but teacher is None; give"
            " one, or an objective that needs none, such as CrossEntropy"
        )
    check_features(objective, student, teacher)
    _check_teachers_apart(objective, teacher)
    if compares_vocabularies(objective):
        _check_vocabulary_sizes(student, teacher)
        check_tokenizers(datamodule, student, teacher)
    readers: list[tuple[str, Any]] = [("student", student)]
    if isinstance(teacher, Teacher):
        readers += [("teacher", each) for each in teacher.networks()]
        readers += [("served teacher", each) for each in remote_teachers(teacher)]
    check_context(datamodule, readers)


def check_peers(learners: Mapping[str, tuple[nn.Module, Objective]], datamodule: Any) -> None:
    """Raise a ValueError for networks that cannot learn from each other, as far as they tell."""
    for name, (network, objective) in learners.items():
        for other, (teacher, _) in learners.items():
            if other != name and compares_vocabularies(objective):
                _check_vocabulary_sizes(network, teacher)
    check_context(datamodule, [(name, network) for name, (network, _) in learners.items()])


def check_peer_heads(
    strategy: Strategy, learners: Mapping[str, tuple[nn.Module, Objective]], chunked: Chunked
) -> None:
    """Raise a ValueError where networks with divided heads are to learn in chunks from each other.

    Ranks divide the rows of a loss only where the teacher is whole, and each of these networks is
    the teacher of the others.
    """
    learns = any("teacher" in objective.needs for _, objective in learners.values())
    if learns and getattr(strategy, "divide_head", False) and chunked not in (False, "auto"):
        raise ValueError(
            f"chunked={chunked} with divide_head=True: networks that learn from each other, whose"
            " heads are divided among ranks, need all logits at once; set chunked='auto', or"
            " divide_head=False in the strategy"
        )


def check_optimized(
    objective: Objective, optimizers: Iterable[Optimizer], strategy: Strategy
) -> None:
    """Raise a ValueError where the objective has parameters that no optimizer has.

    Strategies that flatten parameters are not checked.
    """
    if not keeps_networks_whole(strategy):
        return
    known = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
    parameters = dict(objective.named_parameters())
    lost = [name for name, p in parameters.items() if p.requires_grad and id(p) not in known]
    if lost:
        raise ValueError(
            f"the objective {type(objective).__name__} has trainable parameters"
            f" {', '.join(lost)}, which no optimizer has; add self.objective.parameters() in"
            " configure_optimizers"
        )


def check_strategy(
    strategy: Strategy, teacher: Any, normalization: str, network: nn.Module
) -> None:
    """Raise a ValueError for what a strategy cannot do.

    Args:
        strategy: the strategy of the run.
        teacher: a `kdlight.teachers.Teacher`, or None.
        normalization: ``"global"`` or ``"local"``.
        network: the network that is trained, or a module that holds all of them.
    """
    if is_quantized(network):
        _check_quantized(strategy)
    has_network = isinstance(teacher, Teacher) and bool(teacher.networks())
    if isinstance(strategy, DeepSpeedStrategy):
        if normalization == "global":
            raise ValueError(
                "normalization='global' divides the gradients once per optimizer step, but"
                " DeepSpeed's engine owns the gradients; set normalization='local' with this"
                " strategy"
            )
        if strategy.zero_stage_3 and has_network:
            raise ValueError(
                "DeepSpeed ZeRO-3 has one engine, which divides the student; a live teacher in the"
                " same process is outside it. Use ZeRO stage 1 or 2 (trainer.strategy.stage), or"
                " FSDP2 (kdlight.distributed.FSDP2Strategy), where the teacher is sharded too by"
                " FrozenTeacher(shard=True)"
            )
    is_sharded = isinstance(teacher, Teacher) and teacher.is_sharded
    if is_sharded and not isinstance(strategy, ModelParallelStrategy):
        raise ValueError(
            "the teacher is to be sharded (shard=True), which FSDP2 does, but the strategy is"
            f" {type(strategy).__name__}; use kdlight.distributed.FSDP2Strategy, or shard=False"
        )


def _check_quantized(strategy: Strategy) -> None:
    """Raise a ValueError where the weights that are quantized would not be whole."""
    advice = (
        "train it on one device, with DDP, or with FSDP2 (kdlight.distributed.FSDP2Strategy with"
        " tensor_parallel_size=1)"
    )
    if isinstance(strategy, ModelParallelStrategy):
        size = strategy._tensor_parallel_size
        if isinstance(size, int) and size > 1:
            raise ValueError(
                f"the network has quantized weights, which tensor_parallel_size={size} would"
                f" divide, so that buckets would have other minima and maxima; {advice}"
            )
    elif not keeps_networks_whole(strategy):
        raise ValueError(
            "the network has quantized weights, which kdlight trains with no strategy that owns or"
            f" flattens the weights, such as {type(strategy).__name__}; {advice}"
        )


def check_context(datamodule: Any, networks: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise a ValueError where the blocks of the data are longer than the context of a network."""
    block = getattr(datamodule, "block_size", None)
    for name, network in networks:
        context = context_length(network)
        if block is not None and context is not None and block > context:
            raise ValueError(
                f"block_size is {block}, but the context of the {name} is {context} tokens; set"
                f" data.block_size to {context} or less"
            )


def compares_vocabularies(objective: nn.Module) -> bool:
    """Return whether an objective compares student and teacher entry by entry."""
    return any(isinstance(m, TokenObjective) and "teacher" in m.needs for m in objective.modules())


def _check_teachers_apart(objective: nn.Module, teacher: Any) -> None:
    """Raise a ValueError where a gate has no teachers to choose from, as far as they tell."""
    if isinstance(teacher, TeacherEnsemble):
        names = [*teacher.by_name] if teacher.route_by is None else []
    elif isinstance(teacher, (FrozenTeacher, SelectiveTeacher)):
        names = []
    else:  # one of the user, which may keep teachers apart
        return
    for part in objective.modules():
        if isinstance(part, RoutedKD):
            part.check_teachers(names)


def _check_vocabulary_sizes(student: Any, teacher: Any) -> None:
    own, other = (getattr(part, "vocab_size", None) for part in (student, teacher))
    if own is not None and other is not None:
        own = teacher.student_size(own) if isinstance(teacher, Teacher) else own
        check_vocabularies(own, other)
