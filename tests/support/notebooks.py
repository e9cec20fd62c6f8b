"""Run notebooks and keep their outputs: ``python -m tests.support.notebooks [FILES]``."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import default

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 180

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),  # tests the checkout, like pytest, installed or not
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DELAY": "3600",  # no progress bars: in a notebook, tqdm ignores TQDM_DISABLE
}


class _ThisInterpreter(KernelSpecManager):
    """Always uses the kernel of this interpreter, whatever a user has registered under its name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


class _Manager(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _this_interpreter(self) -> KernelSpecManager:
        return _ThisInterpreter()


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a copy of ``notebook`` in ``folder``, and return it with clean outputs.

    Raises:
        CellExecutionError: A cell raises an error.
        CellTimeoutError: A cell takes more than `SECONDS`.
    """
    # without MPLBACKEND, the kernel displays figures in the notebook
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(
        nbformat.from_dict(notebook),  # type: ignore[arg-type]
        timeout=SECONDS,
        kernel_manager_class=_Manager,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # no warnings about its local sockets
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
    )
    asyncio.run(client.async_execute(env=environment | ENVIRONMENT))  # closes its event loop
    return clean(client.nb)


def clean(notebook: NotebookNode) -> NotebookNode:
    """Remove what differs from run to run and is not displayed."""
    notebook = nbformat.from_dict(notebook)  # type: ignore[assignment]
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if not _is_blank(each)]
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            data.pop("application/vnd.jupyter.widget-view+json", None)  # empty without a kernel
            if "image/svg+xml" in data:
                data["image/svg+xml"] = slim(data["image/svg+xml"])
    return notebook


def _is_blank(output: NotebookNode) -> bool:
    """Return whether an output is what a progress bar leaves, which is shown on slow machines."""
    return output.get("name") == "stderr" and not output.text.strip()


def slim(picture: str) -> str:
    """Halve the size of an SVG: no date, no numbered ids, tenths of a point, one line."""
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
    picture = re.sub(r"<[^>]*>", lambda tag: _slim_tag(tag[0]), picture)
    picture = re.sub(r"\s+", " ", picture)
    return picture.replace("> <", "><").replace("base64, ", "base64,")


def _slim_tag(tag: str) -> str:
    tag = re.sub(r' id="[A-Za-z][\w.]*_\d+"', "", tag)  # ids that are referred to contain a hash
    tag = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\d\.\d)\d+", r"\1", path[0]), tag)
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    return re.sub(r"=\"([^\"']*)\"", r"='\1'", tag)  # JSON would escape double quotes


def main(paths: list[str]) -> None:
    """Run notebooks and overwrite them with their outputs."""
    for path in map(Path, paths) if paths else NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(read(path), Path(folder)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
