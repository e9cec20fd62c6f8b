"""Verifiers: functions from a trace to a score, built in or one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from kdlight.data.traces.numbers import last_number, read_number
from kdlight.data.traces.prompts import import_gym
from kdlight.data.traces.trace import Trace

Verifier = Callable[[Trace], "float | bool"]


def exact(trace: Trace) -> bool:
    r"""Return whether the last line of the response is the answer.

    >>> exact(Trace("Capital of France?", "Let me think.\nParis", answer="Paris"))
    True
    """
    return final_line(trace) == str(_answer(trace)).strip()


def number(trace: Trace) -> bool:
    """Return whether the last number of the response is the answer, without rounding.

    Numbers are read as `kdlight.data.traces.numbers.last_number` does.

    >>> number(Trace("3 + 4 =", "It is 3 + 4 = 7.", answer=7))
    True
    """
    expected = read_number(str(_answer(trace)))
    if expected is None:
        raise ValueError(
            f"the answer to prompt {trace.prompt_id!r} must be a number, got {trace.answer!r}; use"
            " another verifier"
        )
    found = last_number(trace.response)
    return found is not None and found.equals(expected)


def reasoning_gym(trace: Trace) -> float:
    """Return the score of reasoning-gym for the last line, or for the text in ``<answer>``."""
    if not {"task", "metadata"} <= set(trace.meta):
        raise ValueError(
            f"prompt {trace.prompt_id!r} is no task of reasoning-gym: its meta has no 'task' and"
            " 'metadata'; use another verifier"
        )
    entry = {"answer": trace.answer, "metadata": trace.meta["metadata"], "question": trace.prompt}
    score = import_gym().get_score_answer_fn(trace.meta["task"])
    tagged = tagged_answer(trace.response)
    return float(score(final_line(trace) if tagged is None else tagged, entry))


def tagged_answer(response: str) -> str | None:
    """Return the text in the last ``<answer>`` that is closed; None if there is none.

    >>> tagged_answer("<answer>1</answer> No: <answer>2</answer>")
    '2'
    """
    before, closed, _ = response.rpartition("</answer>")
    _, opened, inside = before.rpartition("<answer>")
    return inside.partition("</answer>")[0].strip() if closed and opened else None


def _answer(trace: Trace) -> Any:
    if trace.answer is None:
        raise ValueError(
            f"prompt {trace.prompt_id!r} has no answer to compare the response with; set `answer`"
            " or use another verifier"
        )
    return trace.answer


def final_line(trace: Trace) -> str:
    """Return the last line of the response that is not empty."""
    lines = trace.response.strip().splitlines()
    return lines[-1].strip() if lines else ""


VERIFIERS: dict[str, Verifier] = {
    function.__name__: function for function in (exact, number, reasoning_gym)
}


def find_verifier(name: str) -> Verifier:
    """Return a verifier by its name in `VERIFIERS`, ``module:function`` or ``file.py:function``.

    Raises:
        ValueError: If there is no such verifier.
    """
    if name in VERIFIERS:
        return VERIFIERS[name]
    location, _, attribute = name.partition(":")
    try:
        if location.endswith(".py"):
            module = _import_file(Path(location))
        else:
            module = import_module(location)
        verifier: Verifier = getattr(module, attribute)
    except Exception as error:  # the file of a user can fail in any way
        raise _unknown(name, f"{type(error).__name__}: {error}") from error
    if not callable(verifier):
        raise _unknown(name, f"it is {verifier!r}, which is no function")
    return verifier


def _unknown(name: str, reason: str) -> ValueError:
    return ValueError(
        f"no verifier {name!r} ({reason}); known: {', '.join(VERIFIERS)}, or your own as"
        " module:function or file.py:function, from a Trace to a score"
    )


def _import_file(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
