"""Verifiers take a time that is linear in the length of a response, whatever it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.verification.numbers import read_number
from kdlight.data.traces.verification.solve_rates import text_key
from kdlight.data.traces.verification.verifiers import exact, math, number

SIZE = 1_000_000
SECONDS = 2.0

PIECES = [
    *("1", "1,", ",222", "1,234", "1 ", " 222", "1 234", "-", "- ", "+1", ".", ".1", "1.", "1e"),
    *("9e9", "e9", "1 / ", "1/1/", "/", "1 1/2 ", "1 1/", "(1", "(1,", "1)", "1:", "=", "= 1"),
    *("\\frac", "\\frac{", "\\frac{1}", "\\frac{1}{2}", "\\frac{1", "\\frac12", "½", "1½", "²"),
    *("\\boxed{", "\\boxed{1}", "\\boxed", "\\boxed{}", "{", "}", "{}", "\\{", "\\", "\\ ", "^{"),
    *("×10^5", "1×10^{", "\\times", "\\text{", "\\text{a}", "**", "*", "$", "-$", "$1", "`", "#"),
    *("<answer>", "</answer>", "<answer></answer>", "<answer>1</answer>", "<think>", "</think>"),
    *("answer is ", "answer:", "answer", "a", "a ", " a", " ", "\n", "\t", "1\n", "\u2009", "####"),
    *("million ", "1 million", "or 1 ", "万", "٣", "\N{GRINNING FACE}", "cm^2", "1 m^2", "1 cm^"),
    *("1 apple ", "10²", "10^", "≈", "(", "$$\n", "---\n", "```\n", "```"),
    *("\\[\n", "#### ", "#### 1"),
    *("x = 1, ", "x=1,", "x=", "= ,", "x = 1 or ", "\\quad ", "\\\\ ", "is:\n", "answer is:\n$$\n"),
    *("1 m per ", "1 miles per hour", "----\nanswer:", "\\lor", ":**\n"),
]  # fmt: skip
WHOLE = [
    "1e" + "9" * SIZE,
    "1e999999999",
    "1e-999999999",
    "1/" + "3" * (SIZE // 2),
    "9" * (SIZE // 2) + "/" + "9" * (SIZE // 2),
    "\\boxed{" * (SIZE // 14) + "1" + "}" * (SIZE // 2),
    "\\boxed{" + "9" * SIZE + "}",
    "\\boxed{" + "{" * (SIZE // 2) + "1" + "}" * (SIZE // 2) + "}",
    "\\boxed{1" + " " * SIZE + "}",
    "\\frac{" + "1" * (SIZE // 2) + "}{" + "2" * (SIZE // 2) + "}",
    "1 " + "1" * (SIZE // 2) + "/" + "2" * (SIZE // 2),
    "answer is" + " " * SIZE,
    "<answer>" + "1," * (SIZE // 2) + "</answer>",
]


def read_by(*functions: Callable[[str], Any], texts: Iterable[str], seconds: float) -> None:
    """Let each function read each text, in the time of the processor that it has."""
    for text in texts:
        for function in functions:
            start = time.process_time()
            function(text)
            assert time.process_time() - start < seconds, text[:40]


def numbers(text: str) -> bool:
    return number(Trace("p", text, answer="7"))


def words(text: str) -> bool:
    return exact(Trace("p", text, answer="blue"))


def key(text: str) -> Any:
    return text_key(Trace("p", text))


@pytest.mark.slow
def test_no_response_of_a_megabyte_takes_long_or_fails() -> None:
    texts = (piece * (SIZE // len(piece)) for piece in PIECES)
    read_by(numbers, words, texts=texts, seconds=SECONDS)
    read_by(numbers, words, read_number, key, texts=WHOLE, seconds=SECONDS)


@pytest.mark.parametrize(
    "around", ["{}", "\\frac{{1{}x", "\\boxed{{{}}}}}}}}}", "<answer>{}</answer>"]
)
def test_the_time_is_linear_in_the_length(around: str) -> None:
    texts = (around.format(piece * (SIZE // 20 // len(piece))) for piece in PIECES)
    read_by(numbers, words, read_number, key, texts=texts, seconds=SECONDS / 5)


def test_hostile_text_beside_an_answer_does_not_hide_it() -> None:
    for piece in ("{", "1,", "\\frac{", "<think>1</think>"):
        text = piece * (SIZE // 10 // len(piece)) + "\n"
        assert number(Trace("p", text + "It is 7.", answer=7))
        assert not number(Trace("p", text + "It is 8.", answer=7))
        assert exact(Trace("p", text + "blue", answer="blue"))


@pytest.mark.parametrize("digits", [1, 400, 5000, 19_000])
def test_a_number_of_many_digits_is_equal_to_itself_only(digits: int) -> None:
    many = "7" * digits
    for text in (many, f"so {many}.", rf"\boxed{{{many}}}", f"{many}/1"):
        assert number(Trace("p", text, answer=many))
        assert not number(Trace("p", text, answer=many[:-1] + "8"))
        assert not number(Trace("p", text, answer=many + "7"))


@pytest.mark.parametrize("text", ["7" * SIZE, "1e" + "9" * 400, "1e999999999", "1e-999999999"])
def test_a_number_of_any_size_is_not_another_one(text: str) -> None:
    for answer in ("7", "0", "1", "7" * 19_000):
        assert not number(Trace("p", text, answer=answer))
        assert not number(Trace("p", rf"\boxed{{{text}}}", answer=answer))


def test_an_answer_of_the_size_of_a_book_is_not_sent_to_math_verify() -> None:
    start = time.perf_counter()
    for text in ("(" * SIZE, "\\boxed{" + "x+" * SIZE + "x}", "1" * SIZE):
        assert not math(Trace("p", text, answer="7"))
    assert time.perf_counter() - start < 3 * SECONDS
