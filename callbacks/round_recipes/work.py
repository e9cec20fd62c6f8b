"""What a recipe works with in one round: prompts, answers that are kept on disk, a call once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from kdlight.callbacks.generation.answering import answer_on_ranks, gather_results
from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.round_recipes.first_rank import from_first_rank
from kdlight.callbacks.round_recipes.journaled import journaled
from kdlight.callbacks.round_recipes.pool import from_json
from kdlight.checks import check_type
from kdlight.data.context_check import networks
from kdlight.data.traces.chat import prompt_ids, tokenize
from kdlight.data.traces.trace import Trace, to_lines
from kdlight.data.traces.verification.verifiers import Verifier
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.data.written_files import write_files
from kdlight.distributed.ranks import data_parallel_size
from kdlight.models.context import context_length
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase

Measure = Callable[[Sequence[Trace]], list[Trace]]


@dataclass
class RoundWork:
    """One round. Its methods are called on all ranks alike, and return the same on all of them.

    What they make is kept in files of the round's folder, and is read from there when a round that
    was interrupted is repeated.

    Attributes:
        trainer: the trainer.
        module: the module, whose student answers.
        tokenizer: the tokenizer of the student.
        folder: folder of the round.
        number: number of the round, from 1.
        prompts: the prompts, with an empty response.
        taken: contents of the traces that are trained on or validated on already.
        taken_prompts: contents of their prompts.
        sampling: how the student generates.
        batch_size: number of answers generated at once.
        chat: whether to apply the chat template of the tokenizer.
        figures: numbers to log, which a recipe adds to.
        outcome: what happened, in a few words, which a recipe sets.
    """

    trainer: Trainer
    module: DistillationBase
    tokenizer: Any
    folder: Path
    number: int
    prompts: list[Trace]
    taken: set[Hashable]
    taken_prompts: set[Hashable]
    sampling: Sampling
    batch_size: int
    chat: bool
    figures: dict[str, float] = field(default_factory=dict)
    outcome: str = ""

    def seed(self, step: str) -> int:
        """Return the seed of a step of this round."""
        name = f"{self.sampling.seed}:{self.number}:{step}"  # a hash: seeds are not correlated
        return int(sha256(name.encode()).hexdigest()[:8], 16)

    def fits(self, trace: Trace) -> bool:
        """Return whether the tokens of a trace fit into the contexts of all networks."""
        row = tokenize(trace, self.tokenizer, chat=self.chat)
        return len(row.prompt) + len(row.completion) <= self._context

    def can_answer(self, prompt: Trace) -> bool:
        """Return whether a prompt has tokens, and leaves room for an answer."""
        options: Any = {"chat": self.chat, "tools": prompt.tools}
        tokens = len(prompt_ids(prompt.prompt, self.tokenizer, **options))
        return 0 < tokens <= self._context - (self.sampling.max_new_tokens or 0)

    @property
    def _context(self) -> float:
        lengths = [context_length(network) for _, network in networks(self.module)]
        return min((length for length in lengths if length is not None), default=inf)

    def answers(
        self,
        step: str,
        tasks: Sequence[Trace],
        *,
        critic: Verifier,
        network: Any = None,
        measure: Measure | None = None,
    ) -> list[Trace]:
        """Return answers of the student, or another network, with their scores.

        The ranks divide the batches among them. The answers do not depend on their number.

        Args:
            step: name of the step, and of its file.
            tasks: prompts, each with the number of its answer in ``meta["generation"]``.
            critic: computes the score of an answer; an unfinished one gets 0.
            network: who answers, whole on every rank; None for the student.
            measure: from the answers of a rank to the same with further numbers in ``meta``. It
                also runs on a rank without answers.
        """
        sampling = replace(self.sampling, seed=self.seed(step))

        def make(part: Sequence[Trace], done: int) -> list[Trace]:
            with inference_context(self.trainer, self.module):
                own = answer_on_ranks(
                    self.trainer,
                    self.module,
                    self.tokenizer,
                    part,
                    sampling=sampling,
                    batch_size=self.batch_size,
                    chat=self.chat,
                    network=network,
                    offset=done,
                )
                own = own if measure is None else measure(own)
            self._seed(step, done)
            return in_order_of(part, gather_results(self.trainer, lambda: scored(own, critic)))

        return self._journaled(step, tasks, make, batches=data_parallel_size(self.trainer))

    def called(
        self,
        step: str,
        tasks: Sequence[Trace],
        answer: Callable[[list[Trace]], Sequence[Any]],
        *,
        critic: Verifier,
    ) -> list[Trace]:
        """Return answers of a function with their scores; it is called on rank 0 only.

        Args:
            step: name of the step, and of its file.
            tasks: as for `answers`.
            answer: from a list of prompts to as many texts, or traces with a response.
            critic: as for `answers`.

        Raises:
            TypeError: If ``answer`` returns something else.
            ValueError: If it returns another number of answers.
        """

        def make(part: Sequence[Trace], done: int) -> list[Trace]:
            def compute() -> list[Trace]:
                self._seed(step, done)
                made = responses(list(part), answer(list(part)))
                return in_order_of(part, scored(made, critic))

            return from_first_rank(self.trainer, compute)

        return self._journaled(step, tasks, make, batches=1)

    def once(self, step: str, compute: Callable[[], Sequence[Trace]]) -> list[Trace]:
        """Return what a function of rank 0 returns; it is not called again on a repetition."""
        path = self.folder / f"{step}.jsonl"

        def read_or_write() -> list[Trace]:
            if not path.exists():
                write_files({path: to_lines(compute())})
            lines = path.read_bytes().decode().split("\n")
            return [from_json(line) for line in lines if line]

        return from_first_rank(self.trainer, read_or_write)

    def _seed(self, step: str, done: int) -> None:
        """Seed functions of the user that draw, so that a repetition draws the same."""
        torch.manual_seed(self.seed(f"{step} {done}"))

    def _journaled(self, step: str, tasks: Sequence[Trace], make: Any, *, batches: int) -> Any:
        path = self.folder / f"{step}.jsonl"
        options = {"batch_size": self.batch_size, "batches": batches}
        return journaled(self.trainer, path, tasks, make, **options)


def numbered(prompts: Sequence[Trace], samples: int | Sequence[int] = 1) -> list[Trace]:
    """Return each prompt as often as it is to be answered, with the numbers of its answers.

    Example:
        >>> [task.meta for task in numbered([Trace("1 + 1 =", "")], samples=2)]
        [{'generation': 0}, {'generation': 1}]
    """
    counts = [samples] * len(prompts) if isinstance(samples, int) else samples
    return [
        replace(prompt, meta={**prompt.meta, "generation": number})
        for prompt, count in zip(prompts, counts, strict=True)
        for number in range(count)
    ]


def scored(answers: Sequence[Trace], critic: Verifier) -> list[Trace]:
    """Return answers with their scores, in the same order; an unfinished one gets 0."""
    parts = verify_traces(answers, critic)
    return in_order_of(answers, [trace for part in parts for trace in part])


def in_order_of(tasks: Sequence[Trace], traces: Sequence[Trace]) -> list[Trace]:
    """Return traces in the order of the tasks that they were made of."""
    places = {_place(task): i for i, task in enumerate(tasks)}
    return sorted(traces, key=lambda trace: places[_place(trace)])


def responses(tasks: Sequence[Trace], answers: Any) -> list[Trace]:
    """Return the answers of a function to tasks as traces.

    Raises:
        TypeError: If they are neither texts nor traces.
        ValueError: If their number is another one.

    Example:
        >>> responses(numbered([Trace("1 + 1 =", "")]), ["2"])[0].response
        '2'
    """
    check_type("the result of answer", answers, (list, tuple), "a list of texts or traces")
    if len(answers) != len(tasks):
        raise ValueError(
            f"answer must return one answer to each of {len(tasks)} prompts, got {len(answers)}"
        )
    for each in answers:
        if not isinstance(each, (str, Trace)):
            raise TypeError(
                f"answer must return texts, or traces with a response, got {type(each).__name__}"
            )
    return [
        replace(task, response=each)
        if isinstance(each, str)
        else replace(
            task,
            response=each.response,
            response_fields=each.response_fields,
            finished=each.finished,
            teacher=each.teacher,
            n_tokens=each.n_tokens,
        )
        for task, each in zip(tasks, answers, strict=True)
    ]


def _place(trace: Trace) -> tuple[str, int]:
    return trace.prompt_id, trace.meta["generation"]
