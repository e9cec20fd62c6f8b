"""Parse the steps of CONTRIBUTING.md, and follow them to the letter."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEP = re.compile(r"^(?:(?:In )?`([\w./]+)`:\n\n)?```(python|diff|sh)\n(.*?)^```", re.M | re.S)


def steps(title: str) -> list[tuple[str, str, str]]:
    """Return file (if any), kind and text of each block of a section."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return STEP.findall(text.split(f"\n## {title}\n")[1].split("\n## ")[0])


def apply(diff: str, text: str) -> str:
    """Return ``text`` with the new lines of a block, each after the line before it."""
    lines, place = text.split("\n"), 0
    for line in diff.splitlines():
        if line.startswith("+"):
            lines.insert(place, line[1:])
        else:
            while place < len(lines) and not _matches(lines[place], line[1:]):
                place += 1
            assert place < len(lines), f"{line!r} is no longer in the file"
        place += 1
    return "\n".join(lines)


def _matches(line: str, shown: str) -> bool:
    """Return whether a line is the shown one, or begins like it where that ends in `...`."""
    return line.startswith(shown[:-3]) if shown.endswith("...") else line == shown


def follow(title: str, checkout: Path) -> list[str]:
    """Follow a section in a copy of the repository, and return the lines of its last block."""
    *writing, (_, _, last) = steps(title)
    for file, kind, body in writing:
        if kind == "sh":
            subprocess.run(["sh", "-ec", body], cwd=checkout, check=True)
        elif kind == "diff":
            (checkout / file).write_text(apply(body, (checkout / file).read_text("utf-8")), "utf-8")
        else:
            assert not (checkout / file).exists()
            (checkout / file).write_text(body, "utf-8")
    return last.splitlines()
