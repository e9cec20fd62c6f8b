"""Rounds that make new prompts like those at which the student falls short of its teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.round_recipes.origins import as_prompt, prompt_content, unique, with_origin
from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.callbacks.round_recipes.teacher_network import check_answers, teacher_network
from kdlight.callbacks.round_recipes.work import RoundWork, numbered
from kdlight.checks import check_finite, check_range, check_type
from kdlight.data.splits import shuffle
from kdlight.data.traces.functions import find_function
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.trace import Trace, hash_prompt
from kdlight.data.traces.trace_checks import check_number
from kdlight.data.traces.verification.verifiers import Verifier, find_verifier
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


class CompetitiveRound(RoundRecipe):
    r"""Adds the teacher's answers to new prompts like those that are hard for the student.

    Student and teacher answer the prompts, and an assessor scores both. A prompt is hard if

    .. math:: score(teacher) - score(student) \ge threshold

    New prompts are made of the hard ones only, and the teacher answers them. Beside them, answers
    of the teacher to prompts that are not hard are added, so that the student does not forget.

    Li et al., "Unlock the Power: Competitive Distillation for Multi-Modal Large Language Models",
    2023 (CoMD), after Jiang et al., "Lion: Adversarial Distillation of Proprietary Large Language
    Models", 2023. The threshold and the equal shares are those of Lion, whose scores are from 1 to
    10; Lion makes new prompts of the easy ones, too. Choose it where a teacher can answer new
    prompts, and where something can make them: a generator of tasks, or a language model.

    Args:
        answer: how the teacher answers: a function from a list of prompts (traces with an empty
            response) to as many texts or traces, as ``module:function`` or ``file.py:function``.
            None lets the live teacher of the module generate. The function is called on one rank.
        assess: the score of an answer, as the ``critic`` of a `SelfImitationRound`: a verifier, or
            a function that asks a judge.
        augment: makes new prompts: a function from the list of hard prompts and a seed, an
            integer, to a list of traces, whose ``response`` is ignored. It is called on one rank.
        threshold: the smallest gap of a hard prompt, above 0.
        hard_share: fraction of the added traces that answer new prompts, in (0, 1]; 1 adds no
            others.
        min_score: the smallest score of an answer of the teacher that is added.

    Raises:
        TypeError: An argument of the wrong kind; in a round, ``answer`` or ``augment`` that return
            something else.
        ValueError: A number outside its range; an unknown function; before training, no ``answer``
            and no live teacher that generates.

    Example:
        >>> from kdlight.data.traces.sums import SimilarSums, solve_sums
        >>> CompetitiveRound(solve_sums, "number", SimilarSums(per_prompt=2)).hard_share
        0.5
    """

    def __init__(
        self,
        answer: str | Callable[[list[Trace]], Sequence[Any]] | None,
        assess: str | Callable[[Trace], Any],
        augment: str | Callable[[list[Trace], int], Sequence[Trace]],
        threshold: float = 1.0,
        hard_share: float = 0.5,
        min_score: float = CORRECT,
    ) -> None:
        functions = (str, Callable)
        check_type("answer", answer, (*functions, type(None)), "a function, its name, or None")
        check_type("assess", assess, functions, "a verifier, or a function")
        check_type("augment", augment, functions, "a function, or its name")
        check_number("threshold", threshold)
        check_number("hard_share", hard_share)
        check_number("min_score", min_score)
        if threshold <= 0:
            raise ValueError(
                f"threshold must be above 0, got {threshold}: a prompt without a gap is not hard"
            )
        check_finite("threshold", threshold)
        check_range("hard_share", hard_share, 0, 1)
        if not hard_share:
            raise ValueError("hard_share must be above 0, got 0: nothing new would be added")
        self.answer = None if answer is None else find_function(
            answer, {}, what="function", does="from a list of Trace to their answers"
        )  # fmt: skip
        self.assess: Verifier = find_verifier(assess)
        self.augment = find_function(
            augment, {}, what="function", does="from a list of Trace and a seed to new ones"
        )
        self.threshold, self.hard_share, self.min_score = threshold, hard_share, min_score

    def check(self, trainer: Trainer, module: DistillationBase, sampling: Sampling) -> None:
        """Check that the teacher can answer new prompts."""
        if self.answer is None:
            check_answers("CompetitiveRound", module)

    def run(self, work: RoundWork) -> list[Trace]:
        """Return the teacher's answers to new prompts, and to some that are not hard."""
        tasks = numbered(work.prompts)
        attempts = work.answers("student", tasks, critic=self.assess)
        models = self._teacher_answers(work, "teacher", tasks)
        gaps = [_score(b) - _score(a) for a, b in zip(attempts, models, strict=True)]
        hard = [task for task, gap in zip(work.prompts, gaps, strict=True) if self._is_hard(gap)]
        new = self._new_prompts(work, hard)
        made = self._accepted(self._teacher_answers(work, "new", numbered(new)))
        largest = max(gaps, default=0.0)
        work.figures["hard"] = len(hard) / max(len(gaps), 1)
        work.figures["gap"] = sum(gaps) / max(len(gaps), 1)
        work.outcome = (
            f"{len(hard)} of {len(gaps)} prompts have a gap of at least {self.threshold} (the"
            f" largest is {largest:g}), of which {len(new)} new prompts were made, and the teacher"
            f" has {len(made)} accepted answers to them"
        )
        easy = [each for each, gap in zip(models, gaps, strict=True) if not self._is_hard(gap)]
        easy = unique(self._accepted(easy), work.taken)
        count = round(len(made) * (1 - self.hard_share) / self.hard_share)
        kept = shuffle(easy, seed=work.seed("easy"))[:count]
        return [with_origin(each, work.number, "teacher") for each in (*made, *kept)]

    def _is_hard(self, gap: float) -> bool:
        return gap >= self.threshold

    def _teacher_answers(self, work: RoundWork, step: str, tasks: Sequence[Trace]) -> list[Trace]:
        if self.answer is not None:
            return work.called(step, tasks, self.answer, critic=self.assess)
        network = teacher_network(work.module)
        return work.answers(step, tasks, critic=self.assess, network=network)

    def _new_prompts(self, work: RoundWork, hard: list[Trace]) -> list[Trace]:
        """Return prompts that can be answered and are not in the data yet, each once."""

        def augment() -> list[Trace]:
            made = self.augment(list(hard), work.seed("augment")) if hard else []
            check_type("augment", made, Sequence, "a function that returns a list of Trace")
            return [_checked(each) for each in made]

        made = unique(work.once("prompts", augment), work.taken_prompts, prompt_content)
        return [each for each in made if work.can_answer(each)]

    def _accepted(self, answers: Sequence[Trace]) -> list[Trace]:
        finished = (each for each in answers if each.finished is not False)
        return [each for each in finished if _score(each) >= self.min_score]


def _checked(made: Any) -> Trace:
    """Return a new prompt with an id of its own."""
    if not isinstance(made, Trace):
        raise TypeError(f"augment must return a list of Trace, got {type(made).__name__} in it")
    prompt = as_prompt(made)
    return replace(prompt, prompt_id=hash_prompt(prompt.prompt, prompt.tools))


def _score(trace: Trace) -> float:
    return trace.score or 0.0
