"""The committed notebooks are current: a run of each has the outputs that it was committed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.support.notebook_faults import BYTES, differences, faults, same_text
from tests.support.notebooks import METADATA, NOTEBOOKS, SECONDS, clean, execute, read

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def timed(path: Path, folder: Path) -> tuple[NotebookNode, float]:
    """Return a run, and its seconds on a processor: others may be running at the same time."""
    notebook = read(path)
    notebook.cells.append(new_code_cell("import time\n\nprint(time.process_time())"))
    run = execute(notebook, folder)
    return run, float(run.cells.pop().outputs[0].text)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future]]:
    """Two kernels at a time: this file has one worker, and may be the last one that runs."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    paths: list[Any] = [
        item.callspec.params["path"] for item in items if "runs" in item.fixturenames
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(timed, path, tmp_path_factory.mktemp(path.stem)) for path in paths}


@pytest.mark.slow
@each_notebook
def test_a_notebook_shows_what_it_was_committed_with(path: Path, runs: dict[Path, Future]) -> None:
    run, seconds = runs[path].result()
    assert list(differences(read(path), run)) == []
    assert seconds < SECONDS


@each_notebook
def test_a_notebook_is_fit_to_be_read(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert list(faults(notebook)) == []
    assert notebook.cells[0].source.startswith("# ")
    assert path.stat().st_size < BYTES


PICTURE = "<svg></svg>"


def sound() -> NotebookNode:
    printed = [new_output("stream", name="stdout", text="loss 1.234 of 12 steps\n")]
    shown = [new_output("display_data", {"image/svg+xml": PICTURE, "text/plain": "<Figure>"})]
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("print(...)", execution_count=1, outputs=printed),
        new_code_cell("plot()", execution_count=2, outputs=shown),
    ]
    return new_notebook(cells=cells, metadata=METADATA)


def test_a_sound_notebook_has_no_faults() -> None:
    assert list(faults(sound())) == []
    assert list(differences(sound(), sound())) == []


def test_what_a_progress_bar_leaves_is_removed() -> None:
    notebook = sound()
    notebook.cells[1].outputs.append(new_output("stream", name="stderr", text="     \r"))
    assert clean(notebook).cells[1].outputs == sound().cells[1].outputs
    notebook.cells[1].outputs[-1].text = "a warning"
    assert clean(notebook) == notebook


def set_output(notebook: NotebookNode, text: str) -> None:
    notebook.cells[1].outputs[0].text = text


CHANGES: dict[str, Callable[[NotebookNode], object]] = {
    "clean kernel": lambda notebook: notebook.cells.reverse(),
    "clean kernel ": lambda notebook: notebook.cells[1].update(execution_count=None),
    "no picture": lambda notebook: notebook.cells[2].outputs.clear(),
    "raised ValueError": lambda notebook: notebook.cells[2].outputs.append(
        new_output("error", ename="ValueError", evalue="no", traceback=[])
    ),
    "a warning": lambda notebook: notebook.cells[1].outputs[0].update(name="stderr"),
    "a path of a machine": lambda notebook: set_output(notebook, "saved to /tmp/x/cache"),
    "a path of a machine ": lambda notebook: notebook.cells[0].update(source="/home/me/data"),
    "a progress bar": lambda notebook: set_output(notebook, "Epoch 0: 100%|####| 3/3"),
    "an address": lambda notebook: set_output(notebook, "<object at 0x7f31c2b7d0a0>"),
    "metadata": lambda notebook: notebook.cells[1].metadata.update(execution={"x": "now"}),
    "metadata ": lambda notebook: notebook.metadata.update(widgets={}),
    "metadata  ": lambda notebook: (
        notebook.cells[2]
        .outputs[0]
        .data.update({"image/svg+xml": "<svg><metadata>a date</metadata></svg>"})
    ),
    "metadata   ": lambda notebook: (
        notebook.cells[2].outputs[0].data.update({"application/vnd.jupyter.widget-view+json": {}})
    ),
    "one id": lambda notebook: notebook.cells[1].update(id=notebook.cells[2].id),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_fault_is_detected(what: str) -> None:
    notebook = sound()
    CHANGES[what](notebook)
    assert any(what.strip() in fault for fault in faults(notebook))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("KL 1.234", "KL 1.240", True),  # another processor
        ("KL 1.234", "KL 1.324", False),
        ("KL 0.01", "KL 0.02", True),  # one in the last digit
        ("KL 0.010", "KL 0.020", False),
        ("error 3.1e-08", "error 7.9e-07", True),  # both are rounding errors
        ("error 3.1e-08", "error 7.9e-03", False),
        ("37% of them", "38% of them", True),
        ("37 of them", "38 of them", False),  # a count
        ("63,713,088 weights", "63,713,089 weights", False),
        ("loss 2.0", "cost 2.0", False),
        ("loss 2.0", "loss 2.0 2.0", False),
        ("loss 2.0", "loss nan", False),
        ("| a |\n| ---: |", "| a |\n| ------: |", True),
        ('<b style="color:#d62728">to</b>', '<b style="color:#d62729">to</b>', True),
        ("SmolLM2-135M", "SmolLM2-360M", False),
    ],
)
def test_words_are_equal_and_numbers_nearly(one: str, other: str, same: bool) -> None:
    assert same_text(one, other) is same
    assert same_text(other, one) is same


def test_stale_outputs_are_detected(tmp_path: Path) -> None:
    """With a real kernel: a changed text, a missing picture, a new output."""
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    sources = ["import kdlight\nprint(kdlight.__name__, 2 + 2)", draw, "1.5"]
    fresh = execute(new_notebook(cells=[new_code_cell(source) for source in sources]), tmp_path)
    assert list(faults(fresh)) == []
    stale = nbformat.from_dict(fresh)
    stale.cells[0].outputs[0].text = "kdlight 5\n"
    assert [each.split()[:2] for each in differences(stale, fresh)] == [["cell", "0"]]
    stale: Any = nbformat.from_dict(fresh)
    del stale.cells[1].outputs[0].data["image/png"]
    (difference,) = differences(stale, fresh)
    assert "image/png" in difference
    stale = nbformat.from_dict(fresh)
    stale.cells[2].outputs.clear()
    assert len(list(differences(stale, fresh))) == 1
    fresh.cells[1].source = "1 / 0"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(fresh, tmp_path)
