"""The steps of CONTRIBUTING.md, read as what to do, and done to the letter."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEP = re.compile(r"^(?:(?:In )?`([\w./]+)`:\n\n)?```(python|diff|sh)\n(.*?)^```", re.M | re.S)


def steps(title: str) -> list[tuple[str, str, str]]:
    """The file that a block is about, if any, its kind and its text, of a section."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return STEP.findall(text.split(f"\n## {title}\n")[1].split("\n## ")[0])


def apply(diff: str, text: str) -> str:
    """``text`` with the new lines of a block, each after the line that stands before it."""
    lines, place = text.split("\n"), 0
    for line in diff.splitlines():
        if line.startswith("+"):
            lines.insert(place, line[1:])
        else:
            while place < len(lines) and not _same(lines[place], line[1:]):
                place += 1
            assert place < len(lines), f"{line!r} is not in the file any more"
        place += 1
    return "\n".join(lines)


def _same(line: str, shown: str) -> bool:
    """Whether a line is the one that is shown, perhaps by its beginning."""
    return line.startswith(shown[:-3]) if shown.endswith("...") else line == shown


def follow(title: str, house: Path) -> list[str]:
    """Do what a section says in a copy of the repository; its last block is returned, as lines."""
    *writing, (_, _, last) = steps(title)
    for file, kind, body in writing:
        if kind == "sh":
            subprocess.run(["sh", "-ec", body], cwd=house, check=True)
        elif kind == "diff":
            (house / file).write_text(apply(body, (house / file).read_text("utf-8")), "utf-8")
        else:
            assert not (house / file).exists()
            (house / file).write_text(body, "utf-8")
    return last.splitlines()
