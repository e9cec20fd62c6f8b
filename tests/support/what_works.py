"""The page of what works, which is made of the matrices that the tests run over.

`python -m tests.support.what_works` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.families import test_families as laws
from tests.families.families import FAMILIES
from tests.lightning_features.features import FEATURES

PAGE = Path(__file__).parents[1] / "site" / "pages" / "what_works.md"
LABELS = {
    "next token": "its own tokens",
    "aligned": "the logits",
    "none": "none",
}
LAWS: dict[str, Callable[..., None]] = {
    "logits": laws.test_logits_are_the_model_s_own,
    "loss": laws.test_a_loss_is_that_of_plain_torch,
    "step": laws.test_a_step_is_a_hand_written_one,
    "metrics": laws.test_metrics_are_hand_made_ones,
    "export": laws.test_an_export_is_read_without_kdlight,
    "padding": laws.test_padding_changes_nothing,
    "picture": laws.test_logits_depend_on_the_picture,
    "fast path": laws.test_a_model_that_changes_its_logits_leaves_the_fast_path,
}
"""The columns of the table of families, each with the test that runs over its rows."""

INTRODUCTION = """\
# What works

This page is made of the tables that the tests run over: a mark stands for a test that passes.
`python -m tests.support.what_works` writes it.

## Families of models

Student and teacher are small random models of the family. They are compared with plain transformers
(or plain torch) and losses written by hand, in double precision where the family has it:

| law | what is equal |
| --- | --- |
| logits | logits, and those of the model itself, on batches with padding |
| loss | KL and cross-entropy in chunks, at once, and in plain torch |
| step | an SGD step over two micro-batches of different size, and one written by hand over both |
| metrics | validation metrics over two batches, and those of all their positions together |
| export | logits of the student, and those of the files that it is written to |
| padding | logits on batches padded on this side, and those without padding |
| picture | logits for another picture, and those of the model itself for it |
| fast path | hidden states and output head, and the whole model; a fit finds one that differs |

An export is read by `from_pretrained`; networks without transformers are read from the weights of a
checkpoint. Labels stand at their own tokens, and are shifted, or at the logits that they belong to.

"""

LIGHTNING = """
## Features of Lightning

A fit of a small classifier with batches of different sizes, by a `DistillationModule` and by a
module with the mixin, with the feature of the Trainer. Where a feature trains, the weights after it
are those of a loop in plain torch, which computes one mean over all samples of an optimizer step:

"""


def cases(test: Any) -> list[dict[str, Any]]:
    """Return the arguments of each case of a parametrized test that is about a family."""
    for mark in test.pytestmark:
        names, values, *_ = mark.args
        names = (names,) if isinstance(names, str) else tuple(names)
        if "name" in names:
            rows = [value if isinstance(value, tuple) else (value,) for value in values]
            return [dict(zip(names, row, strict=True)) for row in rows]
    raise ValueError(f"{test.__name__} has no argument `name`")


def families() -> str:
    """Return the table of families and laws."""
    head = ["family", "given as", "labels stand at", *LAWS]
    lines = [f"| {' | '.join(head)} |", "| --- " * 3 + "| :-: " * len(LAWS) + "|"]
    for name, family in FAMILIES.items():
        cells = [family.title, ", ".join(map(_way, family.ways)), LABELS[family.labels]]
        cells += [_cell(law, [each for each in cases(law) if each["name"] == name])
                  for law in LAWS.values()]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page."""
    return INTRODUCTION + families() + LIGHTNING + features()


def features() -> str:
    """Return the table of features of Lightning."""
    lines = ["| feature | `DistillationModule` | `DistillationMixin` |", "| --- | :-: | :-: |"]
    return "\n".join([*lines, *(f"| {name} | ✓ | ✓ |" for name in FEATURES)]) + "\n"


def _way(way: str) -> str:
    return "itself" if way == "as it is" else f"`{way}`"


def _cell(law: Any, found: list[dict[str, Any]]) -> str:
    if law is laws.test_padding_changes_nothing:
        return ", ".join(dict.fromkeys(each["side"] for each in found))
    return "✓" if found else ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
