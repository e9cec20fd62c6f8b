"""All checks of a run: parts, data, a step on fake tensors, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch import nn

from kdlight.doctor.available_memory import check_memory, memory_of_a_rank
from kdlight.doctor.data_checks import NoBatchError, check_amount, first_batch, open_data
from kdlight.doctor.fake_step import live_networks
from kdlight.doctor.fast_path import fast_paths
from kdlight.doctor.feature_shapes import recorded_features
from kdlight.doctor.findings import Finding
from kdlight.doctor.logits_bytes import logits_bytes, position_count
from kdlight.doctor.memory_rows import MemoryRow, step_rows, teacher_rows, weight_rows
from kdlight.doctor.module_parts import student_part, teacher_part
from kdlight.doctor.optimizer_state import optimizer_bytes
from kdlight.doctor.output_checks import check_outputs
from kdlight.doctor.report import Report
from kdlight.doctor.run_checks import check_parts
from kdlight.doctor.run_environment import RunEnvironment
from kdlight.doctor.served_teachers import served_teachers, unusable_servers
from kdlight.doctor.shard_factors import shard_factors
from kdlight.doctor.step_check import check_step
from kdlight.doctor.student_checks import check_student
from kdlight.doctor.vocabulary_checks import check_ids, check_labels, check_tokenizers
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.modules.base import DistillationBase


def examine(
    module: DistillationBase,
    data: LightningDataModule | None,
    trainer: Trainer,
    environment: RunEnvironment | None = None,
    *,
    paths: bool = False,
) -> Report:
    """Check a run before it starts; nothing is trained, and no file is left.

    Args:
        module: the module to be trained.
        data: the data; None if the module has its own dataloaders.
        trainer: the Trainer; if it cannot be created on this machine, one that can.
        environment: strategy, ranks and precision of the run; None for those of ``trainer``.
        paths: list the paths and shapes of the features of student and teacher.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import ForwardKL
        >>> student, teacher = SingleInput(nn.Linear(4, 3)), SingleInput(nn.Linear(4, 3))
        >>> module = DistillationModule(student=student, teacher=teacher, objective=ForwardKL())
        >>> report = examine(module, None, Trainer(logger=False, accelerator="cpu"))
        >>> report.facts[2]
        ('objective', 'ForwardKL')
    """
    environment = environment or RunEnvironment.from_trainer(trainer)
    module.trainer = trainer
    trainer.datamodule = data  # type: ignore[attr-defined]
    if data is not None:
        data.trainer = trainer
    report = Report(facts=_facts(module, environment))
    unusable = [*unusable_servers(module.teacher)]
    report.add(*unusable)
    if unusable:  # what follows asks the server again
        return report
    report.add(*check_student(student_part(module)), *check_parts(module, trainer, environment))
    report.add(*check_outputs(trainer))
    try:
        loader = open_data(data or module)
        report.add(*check_amount(loader, trainer, environment))
        batch = first_batch(loader)
    except NoBatchError as failure:
        report.add(Finding("error", str(failure)))
        rows_of_a_step = step_rows(None, None)
    else:
        report.add(*check_ids(module, data, batch), *check_tokenizers(module, data))
        for found in served_teachers(module.teacher, batch):
            report.add(found) if isinstance(found, Finding) else report.facts.append(found)
        networks = _networks(module) if paths else {}
        rows_of_a_step = _check_batch(module, batch, environment, report, networks)
    state = optimizer_bytes(module, weight_dtype=environment.weight_dtype)
    if isinstance(state, Finding):
        report.add(state)
        state = None
    factors = shard_factors(environment)
    report.rows += weight_rows(module, factors, environment, state=state)
    device = trainer.strategy.root_device
    report.rows += [*teacher_rows(module, factors, device), *rows_of_a_step]
    if environment.is_available:
        report.memory = memory_of_a_rank(trainer)
        report.add(*check_memory(report.rows, report.memory))
    return report


def _check_batch(
    module: DistillationBase,
    batch: Any,
    environment: RunEnvironment,
    report: Report,
    networks: Mapping[str, nn.Module],
) -> list[MemoryRow]:
    """Check a step on ``batch``, add the findings to ``report``, and return its memory.

    The features of ``networks`` are recorded as well.
    """
    with recorded_features(networks) as report.features:
        step = check_step(module, batch, environment)
    if isinstance(step, Finding):
        report.add(step)
        return step_rows(None, None)
    inputs, labels = step.inputs, module.aligned_labels(batch)
    valid = position_count(inputs) if labels is None else int((labels != IGNORE_INDEX).sum())
    *shape, classes = inputs.student.shape
    sizes = " x ".join(map(str, shape))
    report.facts += fast_paths(module, batch)
    report.facts.append(("batch", f"{sizes} positions, {valid} valid, {classes} logits each"))
    report.add(*check_labels(labels, valid=valid, classes=classes))
    try:
        with suppress(RuntimeError):  # the check may read values, which the step does not have
            module.objective.check(inputs)
        logits = logits_bytes(
            inputs,
            valid=valid,
            autocast_dtype=environment.autocast_dtype,
            device=module.trainer.strategy.root_device,
        )
    except ValueError as failure:
        report.add(Finding("error", str(failure)))
        return step_rows(step.activations, None)
    how = "in chunks" if logits.in_chunks else "all at once"
    report.facts.append(("logits", f"computed {how}: {logits.why}"))
    return step_rows(step.activations, logits)


def _networks(module: DistillationBase) -> dict[str, nn.Module]:
    teachers = live_networks(module.teacher)
    names = ["teacher"] if len(teachers) == 1 else [f"teacher {i}" for i in range(len(teachers))]
    return {"student": module.feature_network(), **dict(zip(names, teachers, strict=True))}


def _facts(module: DistillationBase, environment: RunEnvironment) -> list[tuple[str, str]]:
    teacher, strategy = teacher_part(module), environment.strategy
    name = "not available" if strategy is None else type(strategy).__name__
    ranks = "1 rank" if environment.ranks == 1 else f"{environment.ranks} ranks"
    return [
        ("student", _describe(student_part(module))),
        ("teacher", "none" if teacher is None else _describe(teacher)),
        ("objective", type(module.objective).__name__),
        ("strategy", f"{name}, {ranks}, precision {environment.precision}"),
    ]


def _describe(part: Any) -> str:
    if not isinstance(part, nn.Module):
        return type(part).__name__
    parameters = list(part.parameters())
    count = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return f"{type(part).__name__}, {count:,} parameters, {trainable:,} trainable"
