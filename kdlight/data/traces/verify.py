"""Scores of traces, from built-in verifiers or a function of one's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.prompts import import_gym
from kdlight.data.traces.trace import Trace

Verifier = Callable[[Trace], "float | bool"]
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def exact(trace: Trace) -> bool:
    r"""Return whether the last line of the response is the answer.

    >>> exact(Trace("Capital of France?", "Let me think.\nParis", answer="Paris"))
    True
    """
    return final_line(trace) == str(_answer(trace)).strip()


def number(trace: Trace) -> bool:
    """Return whether the last number of the response is the answer.

    >>> number(Trace("3 + 4 =", "It is 3 + 4 = 7.", answer=7))
    True
    """
    numbers, answer = NUMBER.findall(trace.response), _answer(trace)
    try:
        expected = float(str(answer).replace(",", ""))
    except ValueError as error:
        raise ValueError(
            f"the answer to prompt {trace.prompt_id!r} must be a number, got {trace.answer!r}; use"
            " another verifier"
        ) from error
    return bool(numbers) and float(numbers[-1].replace(",", "")) == expected


def reasoning_gym(trace: Trace) -> float:
    """Return the score of reasoning-gym for the last line, or for the text in ``<answer>``."""
    tagged = re.findall(r"<answer>(.*?)</answer>", trace.response, flags=re.DOTALL)
    entry = {"answer": trace.answer, "metadata": trace.meta["metadata"], "question": trace.prompt}
    score = import_gym().get_score_answer_fn(trace.meta["task"])
    return float(score(tagged[-1].strip() if tagged else final_line(trace), entry))


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
        return getattr(module, attribute)
    except (ImportError, AttributeError, OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"no verifier {name!r} ({error}); known: {', '.join(VERIFIERS)}, or your own as"
            " module:function or file.py:function, from a Trace to a score"
        ) from error


def _import_file(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def verify_traces(
    traces: Iterable[Trace],
    verifier: Verifier,
    *,
    threshold: float = CORRECT,
    keep_unfinished: bool = False,
) -> tuple[list[Trace], list[Trace], list[Trace]]:
    """Return correct traces, incorrect traces, and unfinished traces, each with its score.

    An unfinished response is not correct. It is not a good example of an incorrect response either,
    since its end is unknown. So unfinished traces are returned separately, unless
    ``keep_unfinished`` counts them as incorrect.

    Args:
        traces: traces.
        verifier: computes the score of a trace.
        threshold: the smallest score of a correct trace.
        keep_unfinished: whether unfinished traces count as incorrect.

    Example:
        >>> traces = [Trace("1 + 1 =", text, answer="2") for text in ("2", "3")]
        >>> correct, incorrect, unfinished = verify_traces(traces, exact)
        >>> [trace.response for trace in correct], [trace.score for trace in incorrect]
        (['2'], [0.0])
    """
    correct, incorrect, unfinished = [], [], []
    for trace in tqdm(traces, desc="verifying traces", delay=2):
        score = 0.0 if trace.finished is False else float(verifier(trace))
        scored = replace(trace, score=score)
        if score >= threshold:
            correct.append(scored)
        elif trace.finished is False and not keep_unfinished:
            unfinished.append(scored)
        else:
            incorrect.append(scored)
    return correct, incorrect, unfinished
