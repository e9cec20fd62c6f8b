"""What is wrong with a committed notebook, by its looks and beside a run of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from math import isclose
from typing import Any

from nbformat import NotebookNode

from tests.support.notebooks import ROOT, clean

READ = ("text/plain", "text/html", "text/markdown", "text/latex")
"""Kinds of output whose words are compared; of a picture it is only asked that it is there."""

SHOWN = (*READ, "image/svg+xml")
FOLDERS = r"(?<![\w.:/])/(home|root|tmp|opt|usr|var|mnt|Users)/|\b[A-Z]:\\"
UNWANTED = {
    "a path of a machine": f"{FOLDERS}|{re.escape(str(ROOT))}",
    "a progress bar": r"\d%\||\bit/s\b|\r(?!\n)",
    "an address in memory": r"\bat 0x[0-9a-f]{6,}",
}
BYTES = 400_000

# Another processor adds up in another order: with the instructions of an older one (MKL_CBWR=AVX2
# ATEN_CPU_CAPABILITY=default) the twelve steps of 01_first_distillation end 1.3 % apart. One in the
# last printed digit is rounding, and what is as small as a rounding error is one.
RELATIVE, ABSOLUTE = 0.05, 1e-5
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?", re.IGNORECASE)


def faults(notebook: NotebookNode) -> Iterator[str]:
    """What a look at ``notebook`` finds."""
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
        for found in filter(None, (re.search(pattern, text) for text in texts)):
            yield f"{what}: {found.string[max(found.start() - 20, 0) : found.end() + 20]!r}"
    if clean(notebook) != notebook:
        yield "metadata (of an editor, a picture, a widget) that `make notebooks` clears away"
    if len({cell.get("id") for cell in notebook.cells}) < len(notebook.cells):
        yield "two cells have one id"


def differences(committed: NotebookNode, run: NotebookNode) -> Iterator[str]:
    """Where the outputs that ``committed`` shows are not those of a ``run`` of it."""
    for number, (before, now) in enumerate(zip(committed.cells, run.cells, strict=True)):
        pairs = zip_longest(before.get("outputs", []), now.get("outputs", []), fillvalue={})
        for one, other in pairs:
            here, there = _data(one), _data(other)
            if here.keys() != there.keys():
                yield f"cell {number} shows {sorted(here)}, a run of it {sorted(there)}"
                continue
            for kind in (kind for kind in READ if kind in here):
                if not same_text(here[kind], there[kind]):
                    yield f"cell {number} says\n{here[kind]}\na run of it\n{there[kind]}"


def same_text(one: str, other: str) -> bool:
    """Whether words are equal and numbers nearly so.

    A number without a point, an exponent or a % is a count, and has to be equal.
    """
    (words, numbers), (others, also) = _split(one), _split(other)
    return words == others and all(map(_same_number, numbers, also))


def _split(text: str) -> tuple[list[str], list[str]]:
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
    # rules and spaces of a table are as wide as what stands below them
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
