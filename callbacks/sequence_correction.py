"""SCRG: the student writes, the teacher corrects its worst token, the student goes on."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import partial
from math import inf
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kdlight.callbacks.generation.rows import Row, put_rows
from kdlight.callbacks.on_policy import OnPolicy
from kdlight.losses.checks import check_range
from kdlight.losses.correction import DIRECTIONS, Direction, disagreement, worst
from kdlight.modules import StandaloneModule
from kdlight.objectives import LossInputs
from kdlight.reduce import token_values
from kdlight.schedules import Law


class SequenceCorrection(OnPolicy):
    r"""Sequence correction and re-generation of what the student writes.

    .. math:: j = \arg\max_{i:\, y_i \ne \arg\max p_i} \operatorname{KL}(p_i \| q_i), \qquad
              y_j \leftarrow \arg\max p_j, \qquad y_{>j} \sim q

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024,
    eq. (3). All of `OnPolicy`, and then one pass of teacher and student over each response: among
    the tokens that the teacher would not have chosen, the one where the two differ most is replaced
    by the teacher's, and the student writes the rest anew. The teacher only reads, and need not
    generate.
    Prompts are never touched; a response in which the teacher agrees with every token stays.
    The choice of the token is known of the paper, at second hand; the direction of the KL, that the
    teacher's token is its likeliest, and one pass are choices made here.

    Logged beside the figures of `OnPolicy`, as ``train/correction/...``: ``share`` of the responses
    corrected, ``position`` of the token within its response, from 0 to 1, and the ``divergence``
    there, means over all passes.

    Args:
        fraction: of the batches that are replaced, or a law of it.
        frequency: passes of correction over each response.
        divergence: ``"forward"`` or ``"reverse"`` KL.
        min_divergence: leave a response alone whose worst token is below.
        max_new_tokens: of `OnPolicy`, as all that follows.
        prompt_tokens: see there.
        temperature: see there.
        top_p: see there.
        refresh_every: see there; the buffer holds corrected responses.
        capacity: see there.
        end: see there.
        seed: see there.

    Raises:
        ValueError: a number outside its range, and what `OnPolicy` refuses; no teacher.

    Example:
        >>> SequenceCorrection(frequency=2, max_new_tokens=32).divergence
        'forward'
    """

    def __init__(
        self,
        fraction: float | Law = 1.0,
        frequency: int = 1,
        divergence: Direction = "forward",
        min_divergence: float = 0.0,
        max_new_tokens: int | None = None,
        prompt_tokens: int = 16,
        temperature: float = 1.0,
        top_p: float = 1.0,
        refresh_every: int = 1,
        capacity: int = 1000,
        end: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            fraction=fraction,
            max_new_tokens=max_new_tokens,
            prompt_tokens=prompt_tokens,
            temperature=temperature,
            top_p=top_p,
            refresh_every=refresh_every,
            capacity=capacity,
            end=end,
            seed=seed,
        )
        if frequency < 1:
            raise ValueError(f"frequency must be at least 1, got {frequency}")
        if divergence not in DIRECTIONS:
            raise ValueError(f"divergence must be one of {(*DIRECTIONS,)}, got {divergence!r}")
        check_range("min_divergence", min_divergence, 0.0, inf)
        self.frequency, self.min_divergence = frequency, min_divergence
        self.divergence: Direction = divergence

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Besides what `OnPolicy` asks for: a teacher."""
        super().setup(trainer, pl_module, stage)
        if pl_module.teacher is None:
            raise ValueError("SequenceCorrection needs a teacher that corrects, and there is none")

    def write(
        self,
        trainer: Trainer,
        module: StandaloneModule,
        batch: MutableMapping[str, Any],
        rows: list[Row],
    ) -> list[Row]:
        """Responses of the student's, corrected."""
        rows = super().write(trainer, module, batch, rows)
        found: list[tuple[float, float]] = []
        for _ in range(self.frequency):
            found += self._correct(trainer, module, rows, like=batch)
        written = sum(row.prompt > 0 for row in rows) * self.frequency
        if written:
            self.figures["correction/share"] = len(found) / written
        if found:
            positions, divergences = zip(*found, strict=True)
            self.figures["correction/position"] = sum(positions) / len(found)
            self.figures["correction/divergence"] = sum(divergences) / len(found)
        return rows

    def _correct(
        self, trainer: Trainer, module: StandaloneModule, rows: list[Row], like: Any
    ) -> list[tuple[float, float]]:
        """Correct rows in place; where in its response each error stood, and how bad it was."""
        sequences = {"input_ids": like["input_ids"]}  # nothing else is said of the new text
        put_rows(sequences, rows)
        teacher = module.teacher_logits(sequences)
        assert teacher is not None
        labels = module.labels(sequences)
        assert labels is not None
        written = torch.tensor([row.prompt > 0 for row in rows], device=labels.device)
        mask = (labels != -100) & written[:, None]
        step = LossInputs(
            module.student_logits(sequences), teacher, labels, mask, chunked=module.chunked
        )
        errors = find_errors(step, divergence=self.divergence, at_least=self.min_divergence)
        prefixes, room, corrected, found = [], [], [], []
        for i, (at, token, score) in enumerate(zip(*(x.tolist() for x in errors), strict=True)):
            if at < 0:
                continue
            row, place = rows[i], at + 1  # logits stand before the token that they are of
            ids = torch.cat([row.ids[:place], torch.tensor([token])])
            response = len(row.ids) - row.prompt
            found.append(((place - row.prompt) / max(response - 1, 1), score))
            rows[i] = row.respond(ids)
            if len(ids) < row.limit and token not in self.ends(trainer, module):
                prefixes.append(ids)
                room.append(row.limit - len(ids))
                corrected.append(i)
        texts = self.continue_text(trainer, module, prefixes, room)
        for i, text in zip(corrected, texts, strict=True):
            rows[i] = rows[i].respond(text)
        return found


class Errors(NamedTuple):
    """The worst token of each row, (B,).

    Attributes:
        position: of the logits that it came from; -1 for none.
        token: what the teacher would have said.
        score: the divergence there.
    """

    position: Tensor
    token: Tensor
    score: Tensor


@torch.no_grad()
def find_errors(step: LossInputs, *, divergence: Direction, at_least: float) -> Errors:
    """The worst token of each sequence of a step whose labels are what the student said."""
    assert step.teacher is not None
    assert step.mask is not None
    rule = partial(disagreement, divergence=divergence)
    values = token_values(
        rule, step.student, step.teacher, step.labels, step.mask, chunked=step.chunked
    )
    scores = values.new_full(step.mask.shape, -torch.inf)
    scores[step.mask] = values
    position = worst(scores, at_least=at_least)
    flat = torch.arange(len(position), device=position.device) * scores.shape[1]
    there = position.clamp(min=0)
    token = step.teacher.select(flat + there).logits().argmax(-1)
    return Errors(position, token, scores.gather(1, there[:, None]).squeeze(1))
