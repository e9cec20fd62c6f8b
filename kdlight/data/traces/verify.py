"""Scoring traces: built-in verifiers, a user's own, and what becomes of the unfinished."""

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

from kdlight.data.traces.prompts import import_gym
from kdlight.data.traces.record import Trace

Verifier = Callable[[Trace], "float | bool"]
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def exact(trace: Trace) -> bool:
    r"""Whether the last line of the response is the answer.

    >>> exact(Trace("Capital of France?", "Let me think.\nParis", answer="Paris"))
    True
    """
    return final_line(trace) == str(_wanted(trace)).strip()


def number(trace: Trace) -> bool:
    """Whether the last number of the response is the answer.

    >>> number(Trace("3 + 4 =", "It is 3 + 4 = 7.", answer=7))
    True
    """
    found = NUMBER.findall(trace.response)
    try:
        wanted = float(str(_wanted(trace)).replace(",", ""))
    except ValueError as error:
        raise ValueError(
            f"the answer to prompt {trace.prompt_id!r} is no number, got {trace.answer!r}; use"
            " another verifier"
        ) from error
    return bool(found) and float(found[-1].replace(",", "")) == wanted


def reasoning_gym(trace: Trace) -> float:
    """What the task that the prompt comes from says of the last line, or of ``<answer>...``."""
    tagged = re.findall(r"<answer>(.*?)</answer>", trace.response, flags=re.DOTALL)
    entry = {"answer": trace.answer, "metadata": trace.meta["metadata"], "question": trace.prompt}
    score = import_gym().get_score_answer_fn(trace.meta["task"])
    return float(score(tagged[-1].strip() if tagged else final_line(trace), entry))


def _wanted(trace: Trace) -> Any:
    if trace.answer is None:
        raise ValueError(f"prompt {trace.prompt_id!r} comes without an answer to compare with")
    return trace.answer


def final_line(trace: Trace) -> str:
    """The last line of the response that is not empty."""
    lines = trace.response.strip().splitlines()
    return lines[-1].strip() if lines else ""


VERIFIERS: dict[str, Verifier] = {
    function.__name__: function for function in (exact, number, reasoning_gym)
}


def find_verifier(name: str) -> Verifier:
    """A verifier by its name in `VERIFIERS`, or as ``module:function`` or ``file.py:function``.

    Raises:
        ValueError: there is none.
    """
    if name in VERIFIERS:
        return VERIFIERS[name]
    home, _, attribute = name.partition(":")
    try:
        module: Any = _load(Path(home)) if home.endswith(".py") else import_module(home)
        return getattr(module, attribute)
    except (ImportError, AttributeError, OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"no verifier {name!r} ({error}); known: {', '.join(VERIFIERS)}, or one of yours as"
            " module:function or file.py:function, from a Trace to a score"
        ) from error


def _load(path: Path) -> Any:
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
    threshold: float = 0.9,
    keep_unfinished: bool = False,
) -> tuple[list[Trace], list[Trace], list[Trace]]:
    """Right traces, wrong ones, and those that are neither, each with its score.

    An answer that was cut off is not right. It is no lesson in what is wrong either, since nobody
    knows how it would have ended: it is left out, unless ``keep_unfinished`` counts it as wrong.

    Example:
        >>> traces = [Trace("1 + 1 =", said, answer="2") for said in ("2", "3")]
        >>> right, wrong, neither = verify_traces(traces, exact)
        >>> [trace.response for trace in right], [trace.score for trace in wrong]
        (['2'], [0.0])
    """
    right, wrong, neither = [], [], []
    for trace in tqdm(traces, desc="verifying traces", delay=2):
        score = 0.0 if trace.finished is False else float(verifier(trace))
        scored = replace(trace, score=score)
        if score >= threshold:
            right.append(scored)
        elif trace.finished is False and not keep_unfinished:
            neither.append(scored)
        else:
            wrong.append(scored)
    return right, wrong, neither
