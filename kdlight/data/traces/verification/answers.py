"""The part of a response that states its answer."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal, NamedTuple

from kdlight.data.traces.verification.numbers import Fraction, last_number, read_number

THINKING_ENDS = re.compile(r"</think(?:ing)?>|\[/THINK\]")
THINKING_BEGINS = re.compile(r"<think(?:ing)?>|\[THINK\]")
BOX_TOKENS = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{|\\.|[{}]", re.DOTALL)
MARKS = re.compile(r"\banswer(?: is\b|\*{0,2}[:：]\*{0,2}|：)|答案是|答案[:：]", re.IGNORECASE)
HASHES = re.compile(r"(?<!#)####(?!#)")
ONLY_NUMBER = re.compile(r"[ \t*]*[-+$€£]{0,2}[ \t]?\d(?:[\d.,/]{0,99}\d)?[%°]?[ \t*]*")
# Lines that begin or end a formula, code or a paragraph, and state nothing themselves.
FENCE = re.compile(
    r"\${2}|\\[\[\]()]|[`~]{3,}[a-zA-Z]{0,20}|\\(?:begin|end)\{[a-zA-Z]{1,20}\*?\}|-{3,}"
    r"|(?:is|therefore|thus|simply|given by|as follows|the following|)[:：]\*{2}"
    r"|(?:is|therefore|thus|simply|given by|as follows|the following)[:：]|"
)


class Answer(NamedTuple):
    """The answer of a response.

    Attributes:
        text: the answer.
        place: where it stands: ``"box"``, ``"tag"``, behind a ``"mark"``, or in the last
            ``"line"``.
    """

    text: str
    place: Literal["box", "tag", "mark", "line"]


def find_answer(response: str) -> Answer:
    r"""Return the answer that a response states.

    Reasoning between ``<think>`` and ``</think>`` is left out, see `without_reasoning`. Of what
    remains, the answer is the first of these that is there:

    1. the content of the last ``\boxed{}`` (or ``\fbox{}``) that is closed and not empty;
    2. the content of the last ``<answer>`` tags that are closed and not empty;
    3. what is behind the last "answer is", "answer:" or ``####`` in its line, or in the next one
       that states something;
    4. the last line that states something.

    A line with nothing but ``$$``, ``\[``, a fence of code, a rule or a colon states nothing.
    ``####`` is the mark of GSM8K in the last line of a response, or if it is the only one and a
    number follows it; elsewhere it is a heading of Markdown, as is a longer run of ``#``.

    Example:
        >>> find_answer(r"It is \boxed{\frac{1}{2}}. Check step 3.")
        Answer(text='\\frac{1}{2}', place='box')
        >>> find_answer("The answer is 7.\nI counted twice.").text
        '7.'
    """
    response = without_reasoning(response)
    if boxed := boxed_answer(response):
        return Answer(boxed, "box")
    if tagged := tagged_answer(response):
        return Answer(tagged, "tag")
    if (end := _end_of_mark(response)) is not None:
        lines = (line.strip() for line in response[end:].splitlines())
        stated = (line.strip(" \t:：*") for line in lines if not FENCE.fullmatch(line))
        return Answer(next((text for text in stated if text), ""), "mark")
    lines = stated_lines(response)
    return Answer(lines[-1].strip() if lines else "", "line")


def stated_lines(response: str) -> list[str]:
    r"""Return the lines of a text up to the last one that states something.

    Example:
        >>> stated_lines("So\n\\[\n7\n\\]\n")
        ['So', '\\[', '7']
    """
    lines = response.strip().splitlines()
    for count in range(len(lines), 0, -1):
        if not FENCE.fullmatch(lines[count - 1].strip()):
            return lines[:count]
    return lines


def _end_of_mark(response: str) -> int | None:
    """Return where the last mark of an answer ends; None if there is none."""
    ends = []
    if any(word in response.casefold() for word in ("answer", "答案")):  # the pattern is slow
        ends = [mark.end() for mark in deque(MARKS.finditer(response), maxlen=1)]
    hashes = deque(HASHES.finditer(response), maxlen=2) if "####" in response else ()
    if hashes:
        rest = response[hashes[-1].end() :].rstrip()
        line = rest.partition("\n")[0]
        last = bool(rest) and line == rest
        if last or (len(hashes) == 1 and ONLY_NUMBER.fullmatch(line.rstrip())):
            ends.append(hashes[-1].end())
    return max(ends, default=None)


def find_number(response: str) -> Fraction | None:
    r"""Return the number that a response states as its answer; None if it is not clear.

    A box must hold a number and nothing else, see `read_number`. Tags can hold a sentence with one
    number. Behind a mark, and in a response with none of these, the last number counts, see
    `last_number`.

    Example:
        >>> find_number(r"\boxed{42}. Check step 3.").top, find_number("It is 3 + 4 = 7.").top
        (Decimal('42'), Decimal('7'))
        >>> find_number(r"\boxed{2\pi}") is None
        True
    """
    answer = find_answer(response)
    if answer.place == "line":  # which can be a remark behind the answer
        return last_number(without_reasoning(response))
    number = read_number(answer.text)
    if number is not None or answer.place == "box":
        return number
    return last_number(answer.text, only=answer.place == "tag")


def without_reasoning(response: str) -> str:
    """Return the text behind the reasoning of a response.

    Reasoning stands between ``<think>`` and ``</think>`` (or ``<thinking>``, ``[THINK]``); the
    first of the two can be a part of the prompt. If nothing follows the reasoning, it is returned
    itself. Reasoning that does not end has no answer.

    Example:
        >>> without_reasoning("<think>6? No: 7.</think>It is 7.")
        'It is 7.'
        >>> without_reasoning("<think>6? No: ")
        ''
    """
    if "think" not in response and "THINK" not in response:
        return response
    ends = deque(THINKING_ENDS.finditer(response), maxlen=1)
    rest = response[ends[0].end() :] if ends else response
    if ends and not rest.strip():
        return response[: ends[0].start()]
    begin = THINKING_BEGINS.search(rest)
    return rest if begin is None else rest[: begin.start()]


def boxed_answer(response: str) -> str | None:
    r"""Return the text in the last ``\boxed{}`` that is closed and not empty, or None.

    Of a box in a box, the outer one counts.

    Example:
        >>> boxed_answer(r"\boxed{1}, no: \boxed{\frac{1}{2}}, and \boxed{3")
        '\\frac{1}{2}'
    """
    if "box" not in response:
        return None
    open_braces: list[int] = []  # where the content of a box begins; -1 for any other brace
    start = end = 0
    for token in BOX_TOKENS.finditer(response):
        if token[0] == "}":
            begin = open_braces.pop() if open_braces else -1
            if begin >= 0 and response[begin : begin + 200].strip()[:1] not in ("", "}"):
                start, end = begin, token.start()
        elif token[0] == "{":
            open_braces.append(-1)
        elif token[0].endswith("{") and len(token[0]) > 2:
            open_braces.append(token.end())
    return response[start:end].strip() or None


def tagged_answer(response: str) -> str | None:
    """Return the text in the last ``<answer>`` that is closed; None if there is none.

    Example:
        >>> tagged_answer("<answer>1</answer> No: <answer>2</answer>")
        '2'
    """
    before, closed, _ = response.rpartition("</answer>")
    _, opened, inside = before.rpartition("<answer>")
    return inside.partition("</answer>")[0].strip() if closed and opened else None
