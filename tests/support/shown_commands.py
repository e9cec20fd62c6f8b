"""The commands in README, CONTRIBUTING, pages, other texts, configs and docstrings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from torch.distributed.run import get_args_parser

from tests.site.texts import TEXTS

ROOT = Path(__file__).parents[2]
SOURCES = ("kdlight/**/*.py", "callbacks/*.py", "configs/**/*.yaml")
CONFIG = "configs/digits.yaml"
STARTS = r"`((?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?(?:kdlight|make|torchrun|python) "
STANDS_FOR = {"FILE": CONFIG, "CONFIG": CONFIG, "X": CONFIG, "NAME": "taid"}


def shown() -> Iterator[str]:
    """Yield the commands in blocks of the texts, and those in backticks everywhere."""
    for name in TEXTS.values():
        text = (ROOT / name).read_text("utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            if language == "sh":
                yield from lines
            elif not language:  # with their output
                yield from (line[2:] for line in lines if line.startswith("$ "))
        yield from inline(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for path in chain.from_iterable(ROOT.glob(pattern) for pattern in SOURCES):
        yield from inline(path.read_text("utf-8"))


def inline(text: str) -> Iterator[str]:
    """Yield the commands in backticks, single or double, also across the end of a line."""
    for code in re.findall(STARTS + r"[^`]+)`", text):
        yield re.sub(r"\s*\n[ #]*", " ", code)


def arguments(command: str) -> list[str]:
    """Split a command into words, without its comment and without its launcher."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    words = [STANDS_FOR.get(word, word) for word in words]
    if words and words[0] == "torchrun":
        launcher = get_args_parser().parse_args(words[1:])
        assert launcher.module
        assert launcher.training_script == "kdlight"
        return ["kdlight", *launcher.training_script_args]
    return [re.sub(r"^(\.venv/bin/)(?=\w+$)", "", word) for word in words[:1]] + words[1:]
