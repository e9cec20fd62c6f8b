"""MultiLevelOT: transport per token and per sequence, between two tokenizers."""

from __future__ import annotations

from typing import cast

import torch
from torch.utils.checkpoint import checkpoint

from kdlight.losses.log_space import widen
from kdlight.losses.optimal_transport.multi_level_ot import (
    Ranked,
    check_multi_level_ot,
    rank_columns,
    ranked_values,
)
from kdlight.losses.optimal_transport.points import Points, sequences
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss
from kdlight.sources import Dense, LogitsSource


class MultiLevelOT(Objective):
    """Transport between ranked columns and between sequences, `kdlight.losses.multi_level_ot`.

    Cui et al., "Multi-Level Optimal Transport for Universal Cross-Tokenizer Knowledge Distillation
    on Language Models", 2025. Choose it if student and teacher have different tokenizers.

    The count is the number of pairs of positions, in the unit of tokens. The sum is that of the
    paper, which adds it to the cross-entropy with a weight of 0.15. All logits of a sequence are
    computed at once, and only the ranked columns are kept.

    Args:
        k: number of columns kept of each sequence.
        beta: weight of the cross-entropy of ranked columns. Callbacks may change it.
        gamma: weight of the distance between sequences. Callbacks may change it.
        temperature: divides both logits in the first two terms. Callbacks may change it.
        sinkhorn_temperature: divides both logits in the third term.
        epsilon: of the third term, see `kdlight.losses.sinkhorn`.
        iterations: of the third term, see `kdlight.losses.sinkhorn`.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> MultiLevelOT(k=4)(LossInputs(torch.zeros(2, 3, 5), torch.zeros(2, 4, 7))).count
        tensor(6)
    """

    def __init__(
        self,
        *,
        k: int = 50,
        beta: float = 0.1,
        gamma: float = 0.1,
        temperature: float = 1.0,
        sinkhorn_temperature: float = 2.0,
        epsilon: float = 0.1,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        check_multi_level_ot(
            k=k,
            beta=beta,
            gamma=gamma,
            temperature=temperature,
            sinkhorn_temperature=sinkhorn_temperature,
            epsilon=epsilon,
            iterations=iterations,
        )
        self.k = k
        self.beta = float(beta)
        self.gamma = float(gamma)
        self.temperature = float(temperature)
        self.sinkhorn_temperature = float(sinkhorn_temperature)
        self.epsilon = float(epsilon)
        self.iterations = iterations

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum the loss over the pairs of positions of all sequences."""
        self.check(inputs)
        assert inputs.teacher is not None
        student, teacher = inputs.student, inputs.teacher
        teacher_mask = inputs.valid_teacher_mask
        of_student = self._ranked(inputs, student, sequences(student.shape, inputs.mask))
        with torch.no_grad():
            of_teacher = self._ranked(
                inputs, teacher, sequences(teacher.shape, teacher_mask, side="teacher")
            )
        if not of_student and not of_teacher:
            zero = widen(student.logits()).sum()  # of no sequences: 0 with a graph
            return Loss(zero, torch.zeros_like(zero, dtype=torch.long).detach())
        with torch.autocast(student.device.type, enabled=False):
            values, lengths = ranked_values(
                of_student,
                of_teacher,
                beta=self.beta,
                gamma=self.gamma,
                epsilon=self.epsilon,
                iterations=self.iterations,
            )
        return Loss(values.sum(), torch.full((), sum(lengths), device=values.device))

    def _ranked(
        self, inputs: LossInputs, source: LogitsSource, positions: list[Points]
    ) -> list[Ranked]:
        """Keep the columns of highest mass of each sequence of ``source``."""
        assert inputs.teacher is not None
        k = min(self.k, inputs.student.shape[-1], inputs.teacher.shape[-1])

        def rank(rows: LogitsSource) -> Ranked:
            logits = rows.logits()
            return rank_columns(logits, k, self.temperature, self.sinkhorn_temperature)

        parts = [source.select(each.index) for each in positions]
        if isinstance(source, Dense) or inputs.chunked is False or not torch.is_grad_enabled():
            return [rank(part) for part in parts]
        # the backward pass computes the logits of a sequence again
        return [cast(Ranked, checkpoint(rank, part, use_reentrant=False)) for part in parts]
