"""The pages that are no module: README and its neighbours, the configs, the notebooks."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import nbformat
from pdoc.render_helpers import to_html
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

ROOT = Path(__file__).parents[2]
TEXTS = {"index": "README.md", "CONTRIBUTING": "CONTRIBUTING.md", "CHANGELOG": "CHANGELOG.md"} | {
    path.relative_to(ROOT).with_suffix("").as_posix(): path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("tests/*/README.md"))
}
PICTURES = ("image/svg+xml", "image/png", "text/plain")  # the best form of an output comes first


def texts() -> dict[str, tuple[str, Callable[[], str]]]:
    """Every page by its address without the ending: its title, and what makes its HTML."""
    made: dict[str, tuple[str, Callable[[], str]]] = {}
    for page, name in TEXTS.items():
        text = (ROOT / name).read_text("utf-8")
        title = "README" if page == "index" else text.splitlines()[0].lstrip("# ")
        made[page] = (title, lambda text=text: to_html(text))
    shown: dict[str, tuple[str, Callable[[], str]]] = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title = cells[0].source.splitlines()[0].lstrip("# ")
        shown[f"notebooks/{path.stem}"] = (title, lambda cells=cells: "\n".join(map(cell, cells)))
    return {"index": made.pop("index"), **shown, "configs": ("Configs", configs), **made}


def configs() -> str:
    """Every config, whole."""
    found = sorted((ROOT / "configs").rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    parts = ["<h1>Configs</h1><p><code>kdlight fit --config configs/NAME.yaml</code></p>"]
    for path in found:
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        parts.append(f'<h2 id="{name}">{name}</h2>{colored(path.read_text("utf-8"), "yaml")}')
    return "\n".join(parts)


def cell(found: nbformat.NotebookNode) -> str:
    """A cell of a notebook, and what it showed."""
    if found.cell_type != "code":
        return str(to_html(found.source))
    return colored(found.source, "python") + "".join(map(output, found.outputs))


def output(found: nbformat.NotebookNode) -> str:
    data = found.get("data") or {"text/plain": found.get("text", "")}
    kind = next((each for each in PICTURES if each in data), None)
    if kind == "image/svg+xml":
        return f'<div class="output">{data[kind][data[kind].index("<svg") :]}</div>'
    if kind == "image/png":
        return f'<img alt="" src="data:image/png;base64,{data[kind].strip()}">'
    return f'<pre class="output">{html.escape(data[kind])}</pre>' if kind else ""


def colored(code: str, language: str) -> str:
    formatter = HtmlFormatter(cssclass="pdoc-code codehilite")
    return highlight(code, get_lexer_by_name(language), formatter)
