"""One look at everything: parts, data, a step without numbers, sizes, memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch import nn

from kdlight.doctor.data_checks import NoBatch, check_amount, first_batch, open_data
from kdlight.doctor.findings import Finding
from kdlight.doctor.logits import logits_bytes, positions
from kdlight.doctor.machine import check_memory, memory_of_a_rank
from kdlight.doctor.optimizer_state import optimizer_bytes
from kdlight.doctor.report import Report
from kdlight.doctor.run_checks import check_parts
from kdlight.doctor.setting import Setting
from kdlight.doctor.sharing import sharing
from kdlight.doctor.sizes import Row, step_rows, teacher_rows, weight_rows
from kdlight.doctor.student_checks import check_student
from kdlight.doctor.trial import try_step
from kdlight.doctor.vocabulary import check_ids, check_labels, check_tokenizers
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.modules import StandaloneModule


def examine(
    module: StandaloneModule,
    data: LightningDataModule | None,
    trainer: Trainer,
    setting: Setting | None = None,
) -> Report:
    """Look at a run before it starts; nothing is trained, and no file is written.

    Args:
        module: what is to be trained.
        data: what on; None where the module brings its own.
        trainer: by what. Where it cannot be made on this machine, one that can.
        setting: where; None for that of ``trainer``.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import ForwardKL
        >>> student, teacher = SingleInput(nn.Linear(4, 3)), SingleInput(nn.Linear(4, 3))
        >>> module = DistillationModule(student=student, teacher=teacher, objective=ForwardKL())
        >>> report = examine(module, None, Trainer(logger=False, accelerator="cpu"))
        >>> report.facts[2]
        ('objective', 'ForwardKL')
    """
    setting = setting or Setting.of(trainer)
    module.trainer = trainer
    trainer.datamodule = data  # type: ignore[attr-defined]
    if data is not None:
        data.trainer = trainer
    report = Report(facts=_facts(module, setting))
    report.add(*check_student(module.student), *check_parts(module, trainer, setting))
    try:
        loader = open_data(data or module)
        report.add(*check_amount(loader, trainer, setting))
        batch = first_batch(loader)
    except NoBatch as failure:
        report.add(Finding("error", str(failure)))
        in_a_step = step_rows(None, None)
    else:
        report.add(*check_ids(module, data, batch), *check_tokenizers(module, data))
        in_a_step = _step(module, batch, setting, report)
    state = optimizer_bytes(module, held_in=setting.held_in)
    if isinstance(state, Finding):
        report.add(state)
        state = None
    shares = sharing(setting)
    report.rows += weight_rows(module, shares, setting, state=state)
    device = trainer.strategy.root_device
    report.rows += [*teacher_rows(module, shares, device), *in_a_step]
    if setting.here:
        report.memory = memory_of_a_rank(trainer)
        report.add(*check_memory(report.rows, report.memory))
    return report


def _step(module: StandaloneModule, batch: Any, setting: Setting, report: Report) -> list[Row]:
    """Try a step on ``batch``, add what is found, and return what it holds."""
    dry = try_step(module, batch, setting)
    if isinstance(dry, Finding):
        report.add(dry)
        return step_rows(None, None)
    step, labels = dry.step, module.labels(batch)
    kept = positions(step) if labels is None else int((labels != IGNORE_INDEX).sum())
    shape = " x ".join(map(str, step.student.shape[:-1]))
    words = f"{shape} positions, {kept} of them count, {step.student.shape[-1]} logits each"
    report.facts.append(("batch", words))
    report.add(*check_labels(labels, kept=kept, classes=step.student.shape[-1]))
    try:
        with suppress(RuntimeError):  # it may look at numbers, and the step has none
            module.objective.check(step)
        device = module.trainer.strategy.root_device
        logits = logits_bytes(step, kept=kept, autocast=setting.autocast, device=device)
    except ValueError as failure:
        report.add(Finding("error", str(failure)))
        return step_rows(dry.activations, None)
    how = "in chunks" if logits.in_chunks else "all at once"
    report.facts.append(("logits", f"made {how}: {logits.why}"))
    return step_rows(dry.activations, logits)


def _facts(module: StandaloneModule, setting: Setting) -> list[tuple[str, str]]:
    network = module.parts()["teacher"]
    strategy = type(setting.strategy).__name__ if setting.strategy else "not available"
    ranks = "1 rank" if setting.ranks == 1 else f"{setting.ranks} ranks"
    return [
        ("student", _describe(module.student)),
        ("teacher", "none" if network is None else _describe(network)),
        ("objective", type(module.objective).__name__),
        ("strategy", f"{strategy}, {ranks}, precision {setting.precision}"),
    ]


def _describe(part: Any) -> str:
    if not isinstance(part, nn.Module):
        return type(part).__name__
    parameters = list(part.parameters())
    count = sum(p.numel() for p in parameters)
    learn = sum(p.numel() for p in parameters if p.requires_grad)
    return f"{type(part).__name__}, {count:,} parameters, {learn:,} of them learn"
