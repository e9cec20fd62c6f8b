"""What fills a field of traces, a part of a file at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.scoring.judge import Judgement, judge, level_of, problem_of
from kdlight.data.traces.scoring.pass_rate import check_levels, pass_rate_difficulty
from kdlight.data.traces.scoring.perplexity import perplexities, why_none
from kdlight.data.traces.scoring.response_tokens import count_tokens
from kdlight.data.traces.trace import Trace


class Filler(ABC):
    """Fills a field of traces.

    Attributes:
        field: name of the field.
    """

    field = ""

    @abstractmethod
    def values(self, traces: Sequence[Trace]) -> Sequence[float | None]:
        """Return the value of each trace; None where there is none."""

    def why_none(self, trace: Trace) -> str:
        """Return why a trace has no value, of which only some fillers leave any."""
        return "unknown"

    def recall(  # noqa: B027 - only some fillers use what is known
        self, traces: Sequence[Trace], values: Sequence[float | None]
    ) -> None:
        """Take the values that an earlier run found, before those of other traces are asked."""

    @property
    def notes(self) -> list[str]:
        """Return what else there is to say of the values."""
        return []


class TokensFiller(Filler):
    """Counts the tokens of responses, see `count_tokens`."""

    field = "n_tokens"

    def __init__(self, tokenizer: Any, *, chat: bool) -> None:
        self.tokenizer, self.chat = tokenizer, chat

    def values(self, traces: Sequence[Trace]) -> Sequence[float | None]:
        """Return the number of tokens of each response."""
        return count_tokens(self.tokenizer, traces, chat=self.chat)


class PerplexityFiller(Filler):
    """Computes the perplexity of responses, see `perplexities`."""

    field = "perplexity"

    def __init__(self, model: Any, tokenizer: Any, *, chat: bool, batch_size: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.chat, self.batch_size = chat, batch_size

    def values(self, traces: Sequence[Trace]) -> Sequence[float | None]:
        """Return the perplexity of each response."""
        return perplexities(
            self.model, self.tokenizer, traces, chat=self.chat, batch_size=self.batch_size
        )

    def why_none(self, trace: Trace) -> str:
        """Return why a trace has no perplexity."""
        row = tokenize(trace, self.tokenizer, chat=self.chat)
        return why_none(trace, row, self.model) or super().why_none(trace)


class PassRateFiller(Filler):
    """Looks up the difficulty of prompts by pass rate, see `pass_rate_difficulty`.

    Args:
        traces: all traces.
        threshold: the smallest score of a correct trace.
        levels: number of levels, or None.
    """

    field = "difficulty"

    def __init__(self, traces: Sequence[Trace], *, threshold: float, levels: int | None) -> None:
        found = pass_rate_difficulty(traces, threshold=threshold, levels=levels)
        ids = [trace.prompt_id for trace in traces]
        self.by_prompt = dict(zip(ids, found, strict=True))
        self.lowest = 0.0 if levels is None else 1.0
        self.incomplete = _incomplete_prompts(traces)

    def values(self, traces: Sequence[Trace]) -> Sequence[float | None]:
        """Return the difficulty of the prompt of each trace."""
        return [self.by_prompt[trace.prompt_id] for trace in traces]

    @property
    def notes(self) -> list[str]:
        """Say where incorrect or unfinished traces seem to have been left out."""
        notes = []
        if not any(value > self.lowest for value in self.by_prompt.values()):
            notes.append(
                "no prompt is difficult, since all traces are correct; the pass rate needs the"
                " incorrect ones, too"
            )
        if self.incomplete:
            notes.append(
                f"of {self.incomplete:,} prompts some generated traces are lacking, by the number"
                " in their meta; the pass rate needs them all, the unfinished ones included"
            )
        return notes


def _incomplete_prompts(traces: Sequence[Trace]) -> int:
    """Return of how many prompts a response with a lower number than others is lacking."""
    numbers: dict[tuple[str, str | None], set[int]] = {}
    for trace in traces:
        number = trace.meta.get("generation")
        if isinstance(number, int):
            numbers.setdefault((trace.prompt_id, trace.teacher), set()).add(number)
    return len({name for (name, _), found in numbers.items() if max(found) >= len(found)})


class JudgeFiller(Filler):
    """Asks a judge for the difficulty of each prompt once, see `judge_difficulty`."""

    field = "difficulty"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        chat: bool,
        batch_size: int,
        instruction: str,
        levels: int | None,
    ) -> None:
        check_levels(levels)
        self.model, self.tokenizer, self.levels = model, tokenizer, levels
        self.options = {"chat": chat, "batch_size": batch_size, "instruction": instruction}
        judge(model, tokenizer, [], **self.options)  # which checks them
        self.known: dict[str, float | None] = {}
        self.judged = self.unanswered = 0

    def values(self, traces: Sequence[Trace]) -> Sequence[float | None]:
        """Return the difficulty of the prompt of each trace."""
        problems = [problem_of(trace.prompt) for trace in traces]
        new = [each for each in dict.fromkeys(problems) if each not in self.known]
        found = judge(self.model, self.tokenizer, new, **self.options)
        self.known |= zip(new, map(self._value, found), strict=True)
        return [self.known[problem] for problem in problems]

    def _value(self, judgement: Judgement | None) -> float | None:
        if judgement is None:
            return None
        self.judged += 1
        self.unanswered += not judgement.answered
        return level_of(judgement.difficulty, self.levels)

    def why_none(self, trace: Trace) -> str:
        """Return why a prompt has no difficulty."""
        return "prompt longer than the context of the judge"

    def recall(self, traces: Sequence[Trace], values: Sequence[float | None]) -> None:
        """Do not judge a prompt again, whose difficulty would differ by rounding."""
        for trace, value in zip(traces, values, strict=True):
            self.known.setdefault(problem_of(trace.prompt), value)

    @property
    def notes(self) -> list[str]:
        """Count the prompts on which the judge said nothing."""
        if not self.unanswered:
            return []
        return [
            f"to {self.unanswered:,} of {self.judged:,} prompts judged in this run, neither 0 nor 1"
            " is among the two most likely tokens of the judge: their difficulty is 0"
        ]
