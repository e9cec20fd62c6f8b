"""Find faults of a committed notebook, by itself and in comparison with a run of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from math import isclose
from typing import Any

from nbformat import NotebookNode

from tests.support.notebooks import ROOT, clean

READ = ("text/plain", "text/html", "text/markdown", "text/latex")
"""Kinds of output whose text is compared; a picture only has to exist."""

SHOWN = (*READ, "image/svg+xml")
FOLDERS = r"(?<![\w.:/])/(home|root|tmp|opt|usr|var|mnt|Users)/|\b[A-Z]:\\"
UNWANTED = {
    "a path of a machine": f"{FOLDERS}|{re.escape(str(ROOT))}",
    "a progress bar": r"\d%\||\bit/s\b|\r(?!\n)",
    "an address in memory": r"\bat 0x[0-9a-f]{6,}",
}
BYTES = 400_000

# Processors add up in different orders: with the instructions of an older one (MKL_CBWR=AVX2
# ATEN_CPU_CAPABILITY=default) the 12 steps of 01_first_distillation end 1.3 % apart. A difference
# of one in the last printed digit is rounding; values below ABSOLUTE are rounding errors.
RELATIVE, ABSOLUTE = 0.05, 1e-5
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?", re.IGNORECASE)


def faults(notebook: NotebookNode) -> Iterator[str]:
    """Yield the faults of ``notebook`` that are visible without a run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield "not run from top to bottom in a clean kernel"
    if not any(kind.startswith("image/") for each in outputs for kind in _data(each)):
        yield "no picture: committed without its outputs?"
    for output in outputs:
        if output.output_type == "error":
            yield f"a cell raised {output.ename}: {output.evalue}"
        elif output.get("name") == "stderr":
            yield f"a warning: {output.text}"
    texts = [cell.source for cell in notebook.cells]
    texts += [_data(each)[kind] for each in outputs for kind in SHOWN if kind in _data(each)]
    for what, pattern in UNWANTED.items():
        for match in filter(None, (re.search(pattern, text) for text in texts)):
            yield f"{what}: {match.string[max(match.start() - 20, 0) : match.end() + 20]!r}"
    if clean(notebook) != notebook:
        yield "metadata (of an editor, a picture, a widget) that `make notebooks` clears away"
    if len({cell.get("id") for cell in notebook.cells}) < len(notebook.cells):
        yield "two cells have one id"


def differences(committed: NotebookNode, run: NotebookNode) -> Iterator[str]:
    """Yield where the outputs of ``committed`` differ from those of a ``run`` of it."""
    for number, (before, now) in enumerate(zip(committed.cells, run.cells, strict=True)):
        pairs = zip_longest(before.get("outputs", []), now.get("outputs", []), fillvalue={})
        for one, other in pairs:
            expected, actual = _data(one), _data(other)
            if expected.keys() != actual.keys():
                yield f"cell {number} shows {sorted(expected)}, a run of it {sorted(actual)}"
                continue
            for kind in (kind for kind in READ if kind in expected):
                if not same_text(expected[kind], actual[kind]):
                    yield f"cell {number} shows\n{expected[kind]}\na run of it\n{actual[kind]}"


def same_text(one: str, other: str) -> bool:
    """Return whether words are equal and numbers nearly equal.

    A number without a point, an exponent or a % is a count, and must be equal.
    """
    (words, numbers), (others, also) = _split(one), _split(other)
    return words == others and all(map(_same_number, numbers, also))


def _split(text: str) -> tuple[list[str], list[str]]:
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
    # rules and spaces of a table are as wide as its cells
    words = re.sub("-{2,}", "-", NUMBER.sub(" # ", text)).split()
    return words, NUMBER.findall(text)


def _same_number(one: str, other: str) -> bool:
    if not (measured := [each for each in (one, other) if re.search("[.e%]", each.lower())]):
        return one == other
    a, b = (float(each.rstrip("%").replace(",", "").replace("−", "-")) for each in (one, other))
    return isclose(a, b, rel_tol=RELATIVE, abs_tol=max(ABSOLUTE, *map(_last_digit, measured)))


def _last_digit(number: str) -> float:
    mantissa, _, exponent = number.lower().rstrip("%").partition("e")
    return 1.01 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def _data(output: Any) -> dict[str, Any]:
    if "text" in output:
        return {"text/plain": output["text"]}
    return dict(output.get("data", {}))
