"""The pages that are no module: README, how-to pages, configs, notebooks; and their order."""

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
PAGES = "tests/site/pages"

# The sections of the site, in the order of a reader's journey. A page is named by its address
# without the ending; the API stands in the reference, after its pages.
NOTEBOOKS = {
    f"notebooks/{path.stem}": f"notebooks/{path.name}"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
HOW_TO = (
    "command_line",
    "batches",
    "own_module",
    "students",
    "features",
    "strategies",
    "large_vocabularies",
    "teachers",
    "served_teachers",
    "serving",
    "traces",
    "on_policy",
    "trace_recipes",
    "online",
)
EXPLANATION = (
    "comparison",
    "tests/studies/README",
    "tests/benchmarks/README",
    "tests/conformance/README",
    "CONTRIBUTING",
    "CHANGELOG",
)
SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("index",),
    "Tutorial": tuple(NOTEBOOKS),
    "How-to": HOW_TO,
    "Reference": ("what_works", "configs"),
    "Explanation": EXPLANATION,
}

# The Markdown file of each page that has one.
TEXTS = {"index": "README.md", "CONTRIBUTING": "CONTRIBUTING.md", "CHANGELOG": "CHANGELOG.md"}
TEXTS |= {path.stem: f"{PAGES}/{path.name}" for path in sorted((ROOT / PAGES).glob("*.md"))}
TEXTS |= {
    path.relative_to(ROOT).with_suffix("").as_posix(): path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("tests/*/README.md"))
}
SOURCES = TEXTS | NOTEBOOKS
"""The file of each page that has one."""

PICTURES = ("image/svg+xml", "image/png", "text/plain")  # the best form of an output comes first


def texts() -> dict[str, tuple[str, Callable[[], str]]]:
    """Return every page by its address: its title, and a function that makes its HTML."""
    pages: dict[str, tuple[str, Callable[[], str]]] = {"configs": ("Configs", configs)}
    for page, name in TEXTS.items():
        text = (ROOT / name).read_text("utf-8")
        title = "README" if page == "index" else text.splitlines()[0].lstrip("# ")
        pages[page] = (title, lambda text=text: to_html(text))
    for page, name in NOTEBOOKS.items():
        cells = nbformat.read(ROOT / name, as_version=4).cells
        title = cells[0].source.splitlines()[0].lstrip("# ")
        pages[page] = (title, lambda cells=cells: "\n".join(map(cell, cells)))
    return {page: pages[page] for section in SECTIONS.values() for page in section}


def configs() -> str:
    """Return every config in full."""
    files = sorted((ROOT / "configs").rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    parts = ["<h1>Configs</h1><p><code>kdlight fit --config configs/NAME.yaml</code></p>"]
    for path in files:
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        parts.append(f'<h2 id="{name}">{name}</h2>{colored(path.read_text("utf-8"), "yaml")}')
    return "\n".join(parts)


def cell(node: nbformat.NotebookNode) -> str:
    """Return a cell of a notebook with its outputs."""
    if node.cell_type != "code":
        return str(to_html(node.source))
    return colored(node.source, "python") + "".join(map(output, node.outputs))


def output(node: nbformat.NotebookNode) -> str:
    """Return an output of a cell, in the best form that it has."""
    data = node.get("data") or {"text/plain": node.get("text", "")}
    kind = next((each for each in PICTURES if each in data), None)
    if kind == "image/svg+xml":
        return f'<div class="output">{data[kind][data[kind].index("<svg") :]}</div>'
    if kind == "image/png":
        return f'<img alt="" src="data:image/png;base64,{data[kind].strip()}">'
    return f'<pre class="output">{html.escape(data[kind])}</pre>' if kind else ""


def colored(code: str, language: str) -> str:
    """Return highlighted source code."""
    formatter = HtmlFormatter(cssclass="pdoc-code codehilite")
    return highlight(code, get_lexer_by_name(language), formatter)
