"""How often a model solves prompts: by one answer, by a vote of several, by the shortest ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from kdlight.checks import check_integer
from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.verification.answers import find_answer, find_number
from kdlight.data.traces.verification.numbers import Fraction, read_number

Key: TypeAlias = "Fraction | str | None"
"""What answers are compared by in a vote; None if a response has no answer."""


class SolveRates(NamedTuple):
    """Shares of prompts and answers, in [0, 1].

    Attributes:
        solve_rate: share of the answers that are correct, the mean over prompts.
        tokens_per_answer: mean length of an answer in tokens.
        unfinished: share of the answers that do not end, none of which is correct.
        majority: share of the prompts that are solved by a majority vote of all answers.
        short: share of the prompts that are solved by a vote of the shortest answers; None unless
            it is asked for.
    """

    solve_rate: float
    tokens_per_answer: float
    unfinished: float
    majority: float
    short: float | None = None


def solve_rates(
    traces: Sequence[Trace],
    *,
    shortest: int | None = None,
    threshold: float = CORRECT,
    key: Callable[[Trace], Key] | None = None,
) -> SolveRates:
    """Return how often verified answers solve their prompts.

    The vote of the m shortest of k answers is short-m@k of Hassid et al., "Don't Overthink it.
    Preferring Shorter Thinking Chains for Improved LLM Reasoning", 2025. There the m answers that
    end first vote, and generation stops. Here all k are generated, so that both can be compared.

    An answer that does not end has no vote, and neither has one that states nothing. Of answers
    with equally many votes the one with the shortest response is taken, as in the paper.

    Args:
        traces: answers with scores, see `verify_traces`, and lengths in tokens.
        shortest: the number m of answers that vote; None to leave out this figure.
        threshold: the smallest score of a correct answer.
        key: what answers are compared by; by default `text_key`.

    Raises:
        ValueError: There are no answers; one has no score or no length; ``shortest`` is above the
            number of answers to a prompt.

    Example:
        >>> said = [("7", 2), ("7", 3), ("8", 1)]
        >>> answers = [
        ...     Trace("3 + 4 =", text, score=float(text == "7"), n_tokens=n) for text, n in said
        ... ]
        >>> rates = solve_rates(answers, shortest=1)
        >>> round(rates.solve_rate, 2), rates.majority, rates.short
        (0.67, 1.0, 0.0)
    """
    if shortest is not None:
        check_integer("shortest", shortest, 1)
    if not traces:
        raise ValueError("traces must hold at least one answer, got none")
    for trace in traces:
        if trace.n_tokens is None:
            raise ValueError(
                f"an answer to prompt {trace.prompt_id!r} has no length in tokens; set `n_tokens`"
            )
    groups = list(group_by_prompt(traces).values())
    fewest = min(map(len, groups))
    if shortest is not None and shortest > fewest:
        raise ValueError(
            f"shortest must be at most the number of answers to a prompt, {fewest}, got {shortest}"
        )
    compared = text_key if key is None else key
    shares = [_mean([_is_solved(each, threshold) for each in group]) for group in groups]
    votes = [_is_solved(majority(group, compared), threshold) for group in groups]
    first = [_is_solved(majority(_first(group, shortest), compared), threshold) for group in groups]
    return SolveRates(
        _mean(shares),
        _mean([trace.n_tokens or 0 for trace in traces]),
        _mean([trace.finished is False for trace in traces]),
        _mean(votes),
        None if shortest is None else _mean(first),
    )


def majority(traces: Sequence[Trace], key: Callable[[Trace], Key]) -> Trace | None:
    r"""Return the shortest response with the answer that most responses have.

    Of answers with equally many votes, the one with the shortest response is taken. None if no
    response has an answer.

    Args:
        traces: responses to one prompt.
        key: what answers are compared by; None has no vote.

    Example:
        >>> texts = ["Is it 8?\n8.0", "I think 8\n8", "7"]
        >>> traces = [Trace("p", text, n_tokens=len(text)) for text in texts]
        >>> majority(traces, text_key).response
        'I think 8\n8'
    """
    groups: list[tuple[Key, list[Trace]]] = []
    for trace in _by_length(traces):
        own = key(trace)
        if own is None or trace.finished is False:
            continue
        same = next((group for other, group in groups if _equal(own, other)), None)
        if same is None:
            groups.append((own, [trace]))
        else:
            same.append(trace)
    if not groups:
        return None
    # the groups are in the order of their shortest responses, and `max` takes the first of equals
    return max((group for _, group in groups), key=len)[0]


def text_key(trace: Trace) -> Key:
    r"""Return the answer that a response states: a number if it is one, else its text.

    Example:
        >>> text_key(Trace("p", "I think:\nParis  is it")), text_key(Trace("p", ""))
        ('paris is it', None)
    """
    text = find_answer(trace.response).text
    number = read_number(text)
    return number if number is not None else " ".join(text.casefold().rstrip(".").split()) or None


def number_key(trace: Trace) -> Key:
    """Return the number that a response states, as the verifier ``number`` finds it.

    Example:
        >>> number_key(Trace("p", "So it is 3 + 4 = 7.")).top
        Decimal('7')
    """
    return find_number(trace.response)


def _by_length(traces: Sequence[Trace]) -> list[Trace]:
    return sorted(traces, key=lambda trace: (trace.n_tokens or 0, trace.response))


def _first(traces: Sequence[Trace], count: int | None) -> list[Trace]:
    return _by_length([trace for trace in traces if trace.finished is not False])[:count]


def _equal(first: Key, second: Key) -> bool:
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first.equals(second)
    return type(first) is type(second) and first == second


def _is_solved(trace: Trace | None, threshold: float) -> bool:
    return trace is not None and trace.finished is not False and is_correct(trace, threshold)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
