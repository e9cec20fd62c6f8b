"""The perplexities of a student and its teacher on the validation text of each domain."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import losses
from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.distributed.ranks import copy_from_first_rank, data_parallel_sum, gather_numbers
from kdlight.metrics.distillation import ROWS
from kdlight.modules.base import DistillationBase
from kdlight.objectives import LossInputs
from kdlight.sources import LogitsSource, TopK

LARGEST_NLL = 700.0
"""Exponentials of larger numbers are infinite."""


class Perplexities(NamedTuple):
    """Perplexities by the name of the domain, the same on all ranks.

    Attributes:
        student: of the student.
        teacher: of the teacher; empty where it was not asked.
    """

    student: dict[str, float]
    teacher: dict[str, float]


def domain_perplexities(
    trainer: Trainer,
    module: DistillationBase,
    loaders: Mapping[str, DataLoader],
    *,
    with_teacher: bool,
) -> Perplexities:
    """Measure the student, and the teacher, on the batches of each domain.

    All ranks run the same number of batches, as sharded networks need. Random generators and modes
    are restored.

    Args:
        trainer: the trainer.
        module: the module.
        loaders: the validation batches of each domain on this rank.
        with_teacher: whether to measure the teacher.

    Raises:
        ValueError: The batches have no labels; or a cached teacher does not know the probability of
            each label. On all ranks.
    """
    sums = {name: torch.zeros(4, dtype=torch.float64) for name in loaders}
    fault: ValueError | None = None
    with inference_context(trainer, module), module.outside_of_steps():
        module.is_first_batch = False  # labels of validation text are as they are
        for name, loader in loaders.items():
            for batch in loader:
                moved = trainer.strategy.batch_to_device(batch, module.device)
                teacher = None
                if with_teacher and fault is None:
                    try:
                        teacher = module.teacher_logits(moved)
                    except ValueError as error:  # the other ranks are told of it below
                        fault = error
                sums[name] += nll_sums(logit_inputs(module, moved, teacher))
    _raise_on_all_ranks(trainer, fault)
    rows = data_parallel_sum(trainer, torch.stack([*sums.values()]))
    copy_from_first_rank(trainer, [rows])  # so that all draw the same to the last bit
    measured = dict(zip(sums, rows.tolist(), strict=True))
    unknown = {name: (int(row[3]), int(row[2])) for name, row in measured.items() if row[3]}
    if unknown:
        raise ValueError(
            "DomainReweighting needs the teacher's perplexity, but the cache holds no probability"
            f" of some labels (labels without, all): {unknown}; write the cache with all tokens"
            " (--k null), or give teacher_perplexity"
        )
    return Perplexities(
        {name: _perplexity(row[0], row[2]) for name, row in measured.items()},
        {name: _perplexity(row[1], row[2]) for name, row in measured.items() if with_teacher},
    )


def nll_sums(inputs: LossInputs) -> Tensor:
    """Return sums over the valid positions, (4,).

    They are: the negative log-likelihood of the student; that of the teacher, 0 without one; the
    number of positions; the number of those at which the teacher's is unknown.

    Raises:
        ValueError: There are no labels.

    Example:
        >>> logits = torch.zeros(3, 4)
        >>> nll_sums(LossInputs(logits, logits, labels=torch.tensor([0, 1, 2])))
        tensor([4.1589, 4.1589, 3.0000, 0.0000], dtype=torch.float64)
    """
    if inputs.labels is None:
        raise ValueError(
            "DomainReweighting compares perplexities, but the batches have no labels; let the data"
            " and the module have labels of the next tokens"
        )
    total = torch.zeros(4, dtype=torch.float64)
    for rows in inputs.valid_positions().split(ROWS):
        labels = inputs.labels.flatten()[rows]
        student = inputs.student.select(rows).logits()
        total[0] += losses.cross_entropy(student, labels).sum().cpu().double()
        total[2] += len(rows)
        if inputs.teacher is not None:
            values = _teacher_nll(inputs.teacher.select(rows), student, labels)
            total[1] += values.nansum().cpu().double()
            total[3] += int(values.isnan().sum())
    return total


def _teacher_nll(source: LogitsSource, student: Tensor, labels: Tensor) -> Tensor:
    """Return the teacher's negative log-likelihood of each label; NaN where it is unknown."""
    if not isinstance(source, TopK):
        return losses.cross_entropy(source.without_labels().given_student(student), labels)
    stored = (source.ids == labels.unsqueeze(-1)) & source.log_probs.isfinite()
    values = -source.log_probs.masked_fill(~stored, 0.0).sum(-1)
    return values.masked_fill(~stored.any(-1), torch.nan)


def _perplexity(total: float, count: float) -> float:
    return exp(min(total / max(count, 1.0), LARGEST_NLL))


def _raise_on_all_ranks(trainer: Trainer, fault: ValueError | None) -> None:
    faults = sum(gather_numbers(trainer, float(fault is not None)))
    if faults:
        words = "another rank has the details" if fault is None else str(fault)
        raise ValueError(
            "DomainReweighting asks the teacher for its perplexity on the validation text of each"
            f" domain, and it cannot answer: {words}. Write the cache with the data of this run,"
            " or give teacher_perplexity"
        ) from fault


def check_perplexities(values: Any, names: list[str]) -> dict[str, float]:
    """Return the perplexities of domains, in the order of their names.

    Raises:
        ValueError: They are of other domains.

    Example:
        >>> check_perplexities({"code": 9, "help": 22.5}, ["help", "code"])
        {'help': 22.5, 'code': 9.0}
    """
    if set(values) != set(names):
        raise ValueError(
            f"teacher_perplexity must have a number for each of the domains {names}, got"
            f" {sorted(values)}"
        )
    return {name: float(values[name]) for name in names}
