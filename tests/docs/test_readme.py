"""Every Python block of the README, of the other texts and of the pages runs as it is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.site.texts import PAGES, ROOT, TEXTS

# A block below a file name is that file: tests/docs/test_contributing.py writes and tests it.
BLOCK = re.compile(r"^(`[\w./]+`:\n\n)?```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{name} {number}")
    for name in TEXTS.values()
    for number, (file, block) in enumerate(BLOCK.findall((ROOT / name).read_text("utf-8")))
    if not file
]


def test_readme_and_pages_show_code() -> None:
    names = [str(block.id).split()[0] for block in BLOCKS]
    assert names.count("README.md") >= 2
    assert names.count(f"{PAGES}/own_module.md") >= 7


@pytest.mark.filterwarnings("ignore::UserWarning")  # a first try has no validation data or workers
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("readme")  # whose classes can be pickled
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(block, "README.md", "exec"), vars(module))
