"""MultiLevelOT as an objective: teacher and student may have different tokenizers."""

from __future__ import annotations

from typing import cast

import torch
from torch.utils.checkpoint import checkpoint

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
    on Language Models", 2025. Choose it where the tokenizers differ.

    It counts pairs of positions, as tokens: its sum is that of the paper, which adds it to the
    cross-entropy with a weight of 0.15. Of a sequence all logits are made at once, and only the
    ranked columns are kept.

    Args:
        k: columns that are kept of each sequence.
        beta: weight of the cross-entropy of ranked columns. May be moved by a callback.
        gamma: weight of the distance between sequences. May be moved.
        temperature: divides both logits in the first two terms. May be moved.
        sinkhorn_temperature: divides both in the third.
        epsilon: of the third, see `kdlight.losses.sinkhorn`.
        iterations: of the third.

    Raises:
        ValueError: a hyper-parameter out of range.

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
        """Sum over the pairs of positions of all sequences."""
        self.check(inputs)
        assert inputs.teacher is not None
        student, teacher = inputs.student, inputs.teacher
        mask = inputs.valid_teacher_mask
        ours = self._ranked(inputs, student, sequences(student.shape, inputs.mask))
        with torch.no_grad():
            theirs = self._ranked(inputs, teacher, sequences(teacher.shape, mask, side="teacher"))
        with torch.autocast(ours[0].points.device.type, enabled=False):
            values, lengths = ranked_values(
                ours,
                theirs,
                beta=self.beta,
                gamma=self.gamma,
                epsilon=self.epsilon,
                iterations=self.iterations,
            )
        return Loss(values.sum(), torch.tensor(sum(lengths), device=values.device))

    def _ranked(
        self, inputs: LossInputs, source: LogitsSource, found: list[Points]
    ) -> list[Ranked]:
        assert inputs.teacher is not None
        k = min(self.k, inputs.student.shape[-1], inputs.teacher.shape[-1])

        def rank(rows: LogitsSource) -> Ranked:
            logits = rows.logits()
            return rank_columns(logits, k, self.temperature, self.sinkhorn_temperature)

        parts = [source.select(each.index) for each in found]
        if isinstance(source, Dense) or inputs.chunked is False or not torch.is_grad_enabled():
            return [rank(part) for part in parts]
        # the logits of a sequence are made again in the backward pass
        return [cast(Ranked, checkpoint(rank, part, use_reentrant=False)) for part in parts]
