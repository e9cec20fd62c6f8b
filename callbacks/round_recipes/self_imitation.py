"""Rounds in which the student learns from its own answers that a critic accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.round_recipes.acceptance import is_accepted
from kdlight.callbacks.round_recipes.origins import with_origin
from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.callbacks.round_recipes.sampling_check import check_samples
from kdlight.callbacks.round_recipes.work import RoundWork, numbered
from kdlight.checks import check_integer
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number
from kdlight.data.traces.verification.verifiers import find_verifier
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


class SelfImitationRound(RoundRecipe):
    """Adds the student's own answers that a critic accepts.

    Bhagavatula et al., "I2D2: Inductive Knowledge Distillation with NeuroLogic and Self-Imitation",
    2022, whose critic is a classifier; Pang et al., "BOLT: Bootstrap Long Chain-of-Thought in
    Language Models without Distillation", 2025, whose critic checks format and answer. Choose it
    where answers can be judged, and no teacher is at hand. What a paper does besides, such as
    constrained decoding (I2D2) or a preference stage (BOLT), is left out.

    Args:
        critic: the score of an answer: ``number``, ``exact``, ``math``, ``reasoning_gym``, or a
            function of one's own from a trace to a number, as for `kdlight.callbacks.SolveRate`.
        threshold: the smallest score of an answer that is added.
        samples: number of answers to each prompt.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A number outside its range; an unknown critic; before training, several samples
            with greedy generation.

    Example:
        >>> SelfImitationRound("number").samples
        4
    """

    def __init__(
        self,
        critic: str | Callable[[Trace], Any],
        threshold: float = CORRECT,
        samples: int = 4,
    ) -> None:
        check_number("threshold", threshold)
        check_integer("samples", samples, 1)
        self.critic, self.threshold, self.samples = find_verifier(critic), threshold, samples

    def check(self, trainer: Trainer, module: DistillationBase, sampling: Sampling) -> None:
        """Check that the answers to a prompt can differ."""
        check_samples("samples", self.samples, sampling)

    def run(self, work: RoundWork) -> list[Trace]:
        """Return the answers that are accepted."""
        tasks = numbered(work.prompts, self.samples)
        answers = work.answers("student", tasks, critic=self.critic)
        accepted = [each for each in answers if is_accepted(each, self.threshold)]
        work.figures["accepted"] = len(accepted) / max(len(answers), 1)
        work.outcome = (
            f"{len(accepted)} of {len(answers)} answers of the student have a score of at least"
            f" {self.threshold}"
        )
        return [with_origin(each, work.number, "student") for each in accepted]
