"""SCRG: the teacher corrects one token of a generated response, and the student continues."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import nullcontext
from math import inf
from typing import Any

import torch
from lightning.pytorch import Trainer

from kdlight.callbacks.generation.errors import find_errors
from kdlight.callbacks.generation.rows import Row, put_rows
from kdlight.callbacks.on_policy import OnPolicy
from kdlight.checks import check_range
from kdlight.losses.correction import DIRECTIONS, Direction
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.modules.base import DistillationBase
from kdlight.modules.server_errors import answered_on_all_ranks
from kdlight.objectives import LossInputs
from kdlight.teachers import Teacher


class SequenceCorrection(OnPolicy):
    r"""Sequence correction and re-generation (SCRG) of the responses that the student generates.

    .. math:: j = \arg\max_{i:\, y_i \ne \arg\max p_i} \operatorname{KL}(p_i \| q_i), \qquad
              y_j \leftarrow \arg\max p_j, \qquad y_{>j} \sim q

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024,
    eq. (3). Does all that `OnPolicy` does. Then student and teacher compute logits for each
    response. Among the tokens that are not the teacher's most likely ones, the one with the largest
    divergence is replaced by the teacher's most likely token, and the student generates the rest
    again. The teacher only computes logits, and need not be able to generate.

    Prompts are never changed. A response in which the teacher agrees with every token is not
    changed either. The choice of the token is taken from the paper, known at second hand. The
    direction of the KL, taking the teacher's most likely token, and a single pass are choices of
    this implementation.

    Logged in addition to the figures of `OnPolicy`, as ``train/correction/...``, means over all
    passes: ``share`` of the responses that were corrected, ``position`` of the token within its
    response, from 0 to 1, and the ``divergence`` at that position.

    Args:
        frequency: number of passes of correction over each response.
        divergence: ``"forward"`` or ``"reverse"`` KL.
        min_divergence: do not correct a response whose largest divergence is below.
        **options: the arguments of `OnPolicy`: ``fraction``, ``sampling``, ``prompt_tokens``,
            ``refresh_every`` (the buffer holds corrected responses), ``capacity``, ``end``
            and ``engine``.

    Raises:
        ValueError: A number outside its range; a run that `OnPolicy` cannot work with; no teacher.

    Example:
        >>> SequenceCorrection(frequency=2, fraction=0.5).divergence
        'forward'
    """

    def __init__(
        self,
        frequency: int = 1,
        divergence: Direction = "forward",
        min_divergence: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if frequency < 1:
            raise ValueError(f"frequency must be at least 1, got {frequency}")
        if divergence not in DIRECTIONS:
            raise ValueError(f"divergence must be one of {(*DIRECTIONS,)}, got {divergence!r}")
        check_range("min_divergence", min_divergence, 0.0, inf)
        self.frequency, self.min_divergence = frequency, min_divergence
        self.divergence: Direction = divergence

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Check that there is a teacher, and what `OnPolicy` checks."""
        super().setup(trainer, pl_module, stage)
        if pl_module.teacher is None:
            raise ValueError("SequenceCorrection needs a module with a teacher, got teacher=None")

    def generate_responses(
        self,
        trainer: Trainer,
        module: DistillationBase,
        batch: MutableMapping[str, Any],
        rows: list[Row],
    ) -> list[Row]:
        """Return the rows with responses that the student generates and the teacher corrects."""
        rows = super().generate_responses(trainer, module, batch, rows)
        errors: list[tuple[float, float]] = []
        for number in range(1, self.frequency + 1):
            seed = self.text_seed(trainer, number)
            errors += self._correct(trainer, module, rows, like=batch, seed=seed)
        passes = sum(row.prompt > 0 for row in rows) * self.frequency
        if passes:
            self.figures["correction/share"] = len(errors) / passes
        if errors:
            positions, divergences = zip(*errors, strict=True)
            self.figures["correction/position"] = sum(positions) / len(errors)
            self.figures["correction/divergence"] = sum(divergences) / len(errors)
        return rows

    def _correct(
        self, trainer: Trainer, module: DistillationBase, rows: list[Row], *, like: Any, seed: int
    ) -> list[tuple[float, float]]:
        """Correct rows in place; return the relative position and the divergence of each error."""
        inputs = self._loss_inputs(module, rows, like)
        errors = find_errors(inputs, divergence=self.divergence, at_least=self.min_divergence)
        prefixes, room, corrected, found = [], [], [], []
        for i, (at, token, score) in enumerate(zip(*(x.tolist() for x in errors), strict=True)):
            if at < 0:
                continue
            row, place = rows[i], at + 1  # logits precede the token that they predict
            ids = torch.cat([row.ids[:place], torch.tensor([token])])
            response = len(row.ids) - row.prompt
            found.append(((place - row.prompt) / max(response - 1, 1), score))
            rows[i] = row.respond(ids)
            if len(ids) < row.limit and token not in self.end_tokens(trainer, module):
                prefixes.append(ids)
                room.append(row.limit - len(ids))
                corrected.append(i)
        texts = self.continue_text(trainer, module, prefixes, room, seed=seed)
        for i, text in zip(corrected, texts, strict=True):
            rows[i] = rows[i].respond(text)
        return found

    def _loss_inputs(self, module: DistillationBase, rows: list[Row], like: Any) -> LossInputs:
        batch = {"input_ids": like["input_ids"]}  # other entries describe the old text
        put_rows(batch, rows)
        is_remote = isinstance(module.teacher, Teacher) and module.teacher.is_remote
        with answered_on_all_ranks(module.trainer) if is_remote else nullcontext():
            teacher = module.teacher_logits(batch)
        student = module.student_logits(batch)
        if module.frozen_teacher is not None:  # which may know fewer tokens than the student
            student = module.frozen_teacher.mask_student(student)
        labels = module.aligned_labels(batch)
        assert teacher is not None
        assert labels is not None
        generated = torch.tensor([row.prompt > 0 for row in rows], device=labels.device)
        mask = (labels != IGNORE_INDEX) & generated[:, None]
        return LossInputs(student, teacher, labels, mask, chunked=module.chunked)
