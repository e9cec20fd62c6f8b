"""Rounds that spend a budget of answers where they reduce the variance of the gradient most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from kdlight.callbacks.round_recipes.acceptance import is_accepted
from kdlight.callbacks.round_recipes.origins import with_origin
from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.callbacks.round_recipes.sampling_check import check_samples
from kdlight.callbacks.round_recipes.work import RoundWork, numbered
from kdlight.checks import check_integer
from kdlight.data.traces.budget import allocate_budget
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.scoring.batches import batch_logits
from kdlight.data.traces.scoring.head_gradients import check_head, head_gradient_norms
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number
from kdlight.data.traces.verification.verifiers import find_verifier
from kdlight.models.evaluating import evaluating
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase

NORM = "gradient_norm"


class BudgetedRound(RoundRecipe):
    """Adds the student's own answers that a critic accepts, more to prompts that teach more.

    The student answers each prompt ``probe`` times. From these answers come the accept rate of a
    prompt, and the mean norm of the gradient of the output head over its accepted ones
    (`kdlight.data.traces.scoring.head_gradients.head_gradient_norms`). Both divide a ``total`` of
    answers among the prompts (`kdlight.data.traces.allocate_budget`), of which those that the
    critic accepts are added. The answers of the probe only measure.

    Yao et al., "Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization in
    Rejection Sampling and RL" (GVM), 2025. Choose it over a `SelfImitationRound` where the accept
    rates of prompts differ much. A prompt that the student never solves in the probe gets nothing.

    Args:
        critic: as for `SelfImitationRound`.
        total: number of answers that are divided among the prompts; the probe is extra.
        probe: number of answers to each prompt to measure with; 8 in the paper.
        threshold: the smallest score of an answer that is accepted.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A number outside its range; an unknown critic; before training, several answers
            with greedy generation; a student that is sharded over ranks, or whose logits are not an
            output head applied to hidden states.

    Example:
        >>> BudgetedRound("number", total=800).probe
        8
    """

    def __init__(
        self,
        critic: str | Callable[[Trace], Any],
        total: int,
        probe: int = 8,
        threshold: float = CORRECT,
    ) -> None:
        check_integer("total", total, 1)
        check_integer("probe", probe, 1)
        check_number("threshold", threshold)
        self.critic, self.total = find_verifier(critic), total
        self.probe, self.threshold = probe, threshold

    def check(self, trainer: Trainer, module: DistillationBase, sampling: Sampling) -> None:
        """Check that the answers to a prompt can differ, and that the student is whole."""
        check_samples("probe", self.probe, sampling)
        check_samples("total", self.total, sampling)
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "BudgetedRound needs a student that is whole on every rank, but"
                f" {type(trainer.strategy).__name__} shards it; use DDP, or a SelfImitationRound"
            )
        student: Any = module.student_network()
        with torch.no_grad(), evaluating(student):
            check_head(student, batch_logits(student, [[0, 0]]))

    def run(self, work: RoundWork) -> list[Trace]:
        """Return the accepted answers of the budget."""

        def measure(answers: Sequence[Trace]) -> list[Trace]:
            student: Any = work.module.student_network()
            # a text may have more tokens than were generated of it, and be too long to be read
            read = [each for each in answers if each.finished and work.fits(each)]
            found = head_gradient_norms(student, work.tokenizer, read, chat=work.chat)
            norms = dict(zip(map(id, read), found, strict=True))
            return [
                replace(each, meta={**each.meta, NORM: norms.get(id(each), 0.0)})
                for each in answers
            ]

        tasks = numbered(work.prompts, self.probe)
        tried = work.answers("probe", tasks, critic=self.critic, measure=measure)
        counts = self.allocate(work.prompts, tried)
        spent = sum(counts)
        answers = work.answers("student", numbered(work.prompts, counts), critic=self.critic)
        accepted = [each for each in answers if self._accepts(each)]
        solved = sum(self._accepts(each) for each in tried)
        work.figures["accepted"] = len(accepted) / max(spent, 1)
        work.figures["probe_accepted"] = solved / max(len(tried), 1)
        work.outcome = (
            f"{solved} of {len(tried)} answers of the probe have a score of at least"
            f" {self.threshold}, and {len(accepted)} of the {spent} answers of the budget"
        )
        return [with_origin(each, work.number, "student") for each in accepted]

    def allocate(self, prompts: Sequence[Trace], tried: Sequence[Trace]) -> list[int]:
        """Return the number of answers to each prompt, all 0 if no answer of the probe is right."""
        rates: dict[str, list[float]] = defaultdict(list)
        norms: dict[str, list[float]] = defaultdict(list)
        for each in tried:
            rates[each.prompt_id].append(float(self._accepts(each)))
            if self._accepts(each):
                norms[each.prompt_id].append(each.meta[NORM])
        rate = {name: fmean(values) for name, values in rates.items()}
        norm = {name: fmean(norms[name]) if norms[name] else 0.0 for name in rates}
        if not any(rate[name] and norm[name] for name in rate):
            return [0] * len(prompts)
        numbers = allocate_budget(norm, rate, self.total)
        return [numbers[prompt.prompt_id] for prompt in prompts]

    def _accepts(self, answer: Trace) -> bool:
        return is_accepted(answer, self.threshold)
