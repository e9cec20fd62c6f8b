"""Verifiers: functions from a trace to a score, built in or one's own."""

from __future__ import annotations

from collections.abc import Callable

from kdlight.data.traces.functions import find_function
from kdlight.data.traces.prompts import import_gym
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.verification.answers import (
    find_answer,
    find_number,
    stated_lines,
    without_reasoning,
)
from kdlight.data.traces.verification.math_process import MATH
from kdlight.data.traces.verification.numbers import read_number

Verifier = Callable[[Trace], "float | bool"]


def exact(trace: Trace) -> bool:
    r"""Return whether the text that the response states as its answer is the reference answer.

    Where the answer stands is told by `find_answer`: in a box, in tags, behind "answer is", else in
    the last line. A full stop at its end may be missing in the reference. A reference of several
    lines is compared with as many lines at the end. A response that is the reference and nothing
    else is right, whatever it says.

    Raises:
        ValueError: The trace has no reference answer.

    Example:
        >>> exact(Trace("Capital of France?", "Let me think.\nParis", answer="Paris"))
        True
        >>> exact(Trace("Capital of France?", r"\boxed{Paris}, on the Seine", answer="Paris"))
        True
    """
    text, place = find_answer(trace.response)
    expected = reference_answer(trace)
    if expected in (text, text.removesuffix(".")):
        return True
    response = without_reasoning(trace.response)
    if response.strip() == expected:
        return True
    lines = [line.strip() for line in expected.splitlines()]
    if len(lines) < 2 or place in ("box", "tag"):
        return False
    return [line.strip() for line in stated_lines(response)[-len(lines) :]] == lines


def number(trace: Trace) -> bool:
    r"""Return whether the number that the response states is the answer, without rounding.

    Where the answer stands is told by `find_answer`, which leaves out reasoning in ``<think>``:

    - in a box or in tags there must be one number, alone, behind an equals sign, or with a unit:
      ``\boxed{x = 7 \text{ km}}``;
    - behind "answer is", "answer:" or ``####``, the last number of the line counts;
    - else the last number of the response counts.

    Numbers are

    - integers and decimals: ``7``, ``-7``, ``.5``, ``1,234.5``, ``1 000 000``;
    - fractions: ``3/4``, ``\frac{3}{4}``, ``½``, and mixed numbers, ``1 1/2``;
    - with exponents: ``1e5``, ``10^5``, ``3 \times 10^{-5}``, ``3 × 10⁻⁵``;
    - with words for a power of ten: ``5 million``, ``2.5 thousand``;
    - after a minus sign, unless it stands between two numbers: the last one of ``5-3`` is 3.

    Units, percent and currencies are no part of a number: ``$7``, ``7%``, ``7 km`` and ``7 apples``
    are 7. But if the reference has a unit or a percent sign, the response must have the same or
    none.

    What is not clear is not the answer: a number in a formula (``7x``, ``x^7``, ``2\pi``,
    ``\sqrt{7}``, ``x + 7``), an inequality, one of several (``7 or 8``, ``(7, 8)``), "not 7", a
    time or a ratio (``7:30``), ``7 dozen``, more than 20,000 digits. Use the verifier ``math`` for
    formulas.

    Raises:
        ValueError: The reference answer is missing, or no number.

    Example:
        >>> number(Trace("3 + 4 =", "It is 3 + 4 = 7.", answer=7))
        True
        >>> number(Trace("3 + 4 =", r"\boxed{7}. Check step 3.", answer="7"))
        True
    """
    expected = read_number(reference_answer(trace))
    if expected is None:
        raise ValueError(
            f"the answer to prompt {trace.prompt_id!r} must be a number, got {trace.answer!r}; use"
            " another verifier"
        )
    found = find_number(trace.response)
    return found is not None and found.is_answer(expected)


def math(trace: Trace) -> bool:
    r"""Return whether the answer of the response is equal to the reference as a formula.

    The package math-verify (extra ``math``) parses both and compares them by sympy. Where the
    answer stands is told by `find_answer`. The comparison runs in another process, with limits of
    its time and its memory; an answer beyond them, or of more than 2000 characters, is wrong. So it
    works in any thread, and in processes of a data loader.

    The package takes a number out of a sentence less strictly than `number` does. Ask for answers
    in a box. It compares words as products of letters, and what it cannot parse as text.

    Raises:
        ValueError: The package is not installed, or its process does not start; the reference
            answer is missing, or is no formula that the package can compare within the limits.

    Example:
        >>> math(Trace("Half of 2 (x + 1)?", r"\boxed{1 + x}", answer="x + 1"))
        True
    """
    expected, answer = reference_answer(trace), find_answer(trace.response)
    inside = answer.place in ("box", "tag")
    outcome = MATH.compare(expected, rf"\boxed{{{answer.text}}}" if inside else answer.text)
    if outcome == "unreadable":
        raise ValueError(
            f"the answer to prompt {trace.prompt_id!r} must be a formula that math-verify can read,"
            f" and compare within its limits, got {trace.answer!r:.100}; use another verifier"
        )
    return outcome == "right"


def reasoning_gym(trace: Trace) -> float:
    """Return the score of reasoning-gym for the answer of the response, see `find_answer`."""
    if not {"task", "metadata"} <= set(trace.meta):
        raise ValueError(
            f"prompt {trace.prompt_id!r} is no task of reasoning-gym: its meta has no 'task' and"
            " 'metadata'; use another verifier"
        )
    entry = {"answer": trace.answer, "metadata": trace.meta["metadata"], "question": trace.prompt}
    score = import_gym().get_score_answer_fn(trace.meta["task"])
    return float(score(find_answer(trace.response).text, entry))


def reference_answer(trace: Trace) -> str:
    r"""Return the reference answer of a trace, without a box or a derivation around it.

    Raises:
        ValueError: The trace has none.

    Example:
        >>> reference_answer(Trace("p", "", answer="48 + 24 = 72\n#### 72"))
        '72'
    """
    expected = "" if trace.answer is None else str(trace.answer).strip()
    if not expected:
        raise ValueError(
            f"prompt {trace.prompt_id!r} has no answer to compare the response with; set `answer`"
            " or use another verifier"
        )
    stated = find_answer(expected)
    return expected if stated.place == "line" or not stated.text else stated.text


VERIFIERS: dict[str, Verifier] = {
    function.__name__: function for function in (exact, number, math, reasoning_gym)
}


def find_verifier(name: str | Verifier) -> Verifier:
    """Return a verifier by its name in `VERIFIERS`, ``module:function`` or ``file.py:function``.

    A function is returned as it is.

    Raises:
        ValueError: If there is no such verifier.
    """
    return find_function(name, VERIFIERS, what="verifier", does="from a Trace to a score")
