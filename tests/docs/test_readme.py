"""Every Python block of the README, and of CONTRIBUTING, runs as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
# A block below the name of a file is that file: tests/docs/test_contributing.py writes and tests it.
BLOCK = re.compile(r"^(`[\w./]+`:\n\n)?```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{name} {number}")
    for name in ("README.md", "CONTRIBUTING.md")
    for number, (file, block) in enumerate(BLOCK.findall((ROOT / name).read_text("utf-8")))
    if not file
]


def test_the_readme_shows_code() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.filterwarnings("ignore::UserWarning")  # a first try has no validation data or workers
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("readme")  # of which classes can be pickled
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(block, "README.md", "exec"), vars(module))
