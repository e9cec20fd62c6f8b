"""Answers of vLLM that arrive whole and are wrong.

A fault is a function of a right answer, which it may change in place. Each answer is to two rows
at least, of different tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.faulty_proxy import Fault
from tests.support.http_server import Asked, Reply

Position = dict[str, dict[str, Any]]


def json_fault(change: Callable[[Any], Any]) -> Fault:
    """Return the fault that changes the JSON value of an answer."""

    def fault(asked: Asked, reply: Reply) -> Reply:
        value = json.loads(reply.body)
        changed = change(value)
        return Reply(value if changed is None else changed)

    return fault


def of_position(change: Callable[[Position], Any]) -> Callable[[Any], None]:
    """Return the change of one position in the middle of the second row."""

    def changed(answer: Any) -> None:
        scored = answer["choices"][1]["prompt_logprobs"]
        new = change(scored[2])
        if new is not None:
            scored[2] = None if new is REMOVED else new

    return changed


REMOVED = object()


def of_value(value: Any) -> Callable[[Any], None]:
    """Return the change of one log-probability."""

    def change(position: Position) -> None:
        next(iter(position.values()))["logprob"] = value

    return of_position(change)


def of_id(name: Callable[[str], str]) -> Callable[[Any], None]:
    """Return the change of the id of the most likely token."""

    def change(position: Position) -> Position:
        first, *_ = position
        return {name(token) if token == first else token: e for token, e in position.items()}

    return of_position(change)


def exchange_scores(answer: Any) -> None:
    """Each row gets the scores of the other one, as far as both have positions."""
    one, other = answer["choices"][:2]
    one["prompt_logprobs"], other["prompt_logprobs"] = (
        other["prompt_logprobs"],
        one["prompt_logprobs"],
    )


def exchange_numbers(answer: Any) -> None:
    one, other = answer["choices"][:2]
    one["index"], other["index"] = other["index"], one["index"]


def shift(answer: Any) -> None:
    """The scores of a row are those of the position before."""
    scored = answer["choices"][1]["prompt_logprobs"]
    scored[1:] = [scored[1], *scored[1:-1]]


def delete(*path: Any) -> Callable[[Any], None]:
    def change(answer: Any) -> None:
        at = answer
        for name in path[:-1]:
            at = at[name]
        del at[path[-1]]

    return change


def first_of(position: Position) -> Position:
    """All but the most likely token."""
    return dict([*position.items()][1:])


def one_more(position: Position) -> None:
    for number in range(40):
        if str(number) not in position:
            position[str(number)] = {"logprob": -20.0, "rank": 39}
            position[str(number + 40)] = {"logprob": -20.0, "rank": 40}
            return


VLLM: dict[str, Callable[[Any], Any]] = {
    "NaN": of_value(float("nan")),
    "infinity": of_value(float("inf")),
    "above 0": of_value(0.5),
    "a value of 1e400": of_value(10**400),
    "more than 1 in sum": of_position(lambda p: [e.update(logprob=-0.1) for e in p.values()] and p),
    "a text as a value": of_value("high"),
    "null as a value": of_value(None),
    "a list as a value": of_value([-1.0]),
    "all impossible": of_position(
        lambda p: [e.update(logprob=-float("inf")) for e in p.values()] and p
    ),
    "no value": of_position(lambda p: [e.pop("logprob") for e in p.values()] and p),
    "an id of another vocabulary": of_id(lambda token: "49151"),
    "a negative id": of_id(lambda token: "-3"),
    "an id that is no number": of_id(lambda token: "the"),
    "an id of 30 digits": of_id(lambda token: "1" * 30),
    "an id twice": of_position(lambda p: {**first_of(p), f"0{[*p][1]}": p[[*p][1]]}),
    "one token too few": of_position(first_of),
    "two tokens too many": of_position(one_more),
    "no token": of_position(lambda p: {}),
    "null in the middle": of_position(lambda p: REMOVED),
    "a list of tokens": of_position(lambda p: [*p]),
    "a position less": lambda answer: answer["choices"][1]["prompt_logprobs"].pop(2) and None,
    "a position more": lambda answer: answer["choices"][1]["prompt_logprobs"].append({}),
    "no null at the beginning": delete("choices", 1, "prompt_logprobs", 0),
    "no scores": lambda answer: answer["choices"][0].update(prompt_logprobs=None),
    "a choice less": delete("choices", 1),
    "a choice more": lambda answer: answer["choices"].append(answer["choices"][0]),
    "a choice twice": lambda answer: answer["choices"].__setitem__(1, answer["choices"][0]),
    "no numbers of choices": delete("choices", 0, "index"),
    "no choices": delete("choices"),
    "choices that are no list": lambda answer: answer.update(choices=7),
    "scores of rows exchanged": exchange_scores,
    "numbers of rows exchanged": exchange_numbers,
    "scores shifted by one": shift,
}
