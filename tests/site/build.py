"""Build the site: README, notebooks, how-to pages, configs, and the docstrings of each package.

``python -m tests.site.build --output build/site``. Nothing in it comes from the network, and it can
be read from a folder as well as from a server.
"""

from __future__ import annotations

import argparse
import re
import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from pdoc import doc, docstrings, render

from tests.site.formulas import with_mathml, without_formulas
from tests.site.links import link_files, link_names
from tests.site.rooms import classes, public, rooms
from tests.site.texts import SECTIONS, texts

CONVERT = docstrings.convert


def build(output: Path) -> None:
    """Write the site to ``output``, which is emptied first."""
    shutil.rmtree(output, ignore_errors=True)
    modules = {}
    for room in rooms():
        public(room)  # resolves names that are imported when they are first used
        modules[room] = doc.Module(import_module(room))
    render.configure(
        docformat="google",
        include_undocumented=False,
        template_directory=Path(__file__).with_name("templates"),
    )
    render.env.filters |= {"own": own, "inherited": inherited}
    render.env.tests["hook"] = is_hook
    pages = texts()
    render.env.globals["sections"] = {
        section: {page: pages[page][0] for page in names} for section, names in SECTIONS.items()
    }
    # annotations that only a type checker can read are shown as they are written
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error parsing type annotation", UserWarning)
        with patch.object(docstrings, "convert", _converter(with_mathml)):
            for room, module in modules.items():
                page = _without_guesses(render.html_module(module, modules))
                _write(output, room.replace(".", "/"), page)
        for page, (title, make) in pages.items():
            _write(output, page, _text(page, title, make(), output, modules))
        with patch.object(docstrings, "convert", _converter(without_formulas)):
            (output / "search.js").write_text(render.search_index(modules), "utf-8")


def is_hook(found: doc.Doc) -> bool:
    """Return whether a method is a hook, which Lightning calls and a reader does not."""
    owner, _, name = found.qualname.rpartition(".")
    known = public(found.modulename).get(owner) if found.modulename in rooms() else None
    return name != "__init__" and any(
        isinstance(known, type) and issubclass(known, base) and hasattr(base, name)
        for base in (Callback, LightningDataModule, LightningModule)
    )


def own(found: doc.Class) -> list[doc.Doc]:
    """Return the members of a class, including those of bases that are not public."""
    private = [
        member
        for base, members in found.inherited_members.items()
        if base[0].startswith("kdlight.") and base not in classes()
        for member in members
    ]
    return [member for member in (*found.own_members, *private) if member.kind != "class"]


def inherited(found: doc.Class) -> dict[tuple[str, str], list[doc.Doc]]:
    """Return the members from public bases, by their packages and names."""
    bases = found.inherited_members.items()
    return {classes()[base]: members for base, members in bases if base in classes()}


def _converter(formulas: Callable[[str], str]) -> Callable[..., str]:
    """Return a function from a docstring to Markdown; ``formulas`` converts its formulas."""
    return lambda docstring, docformat, source: CONVERT(formulas(docstring), docformat, None)


def _without_guesses(content: str) -> str:
    """Remove the links that the generator guesses to anchors that the page does not have."""
    shown = set(re.findall(r' id="([^"]+)"', content))
    link = re.compile(r'<a href="#([^"]+)">(.*?)</a>')
    return link.sub(lambda found: found[0] if found[1] in shown else found[2], content)


def _text(page: str, title: str, text: str, output: Path, modules: dict[str, doc.Module]) -> str:
    headings = getattr(text, "toc_html", None)
    return render.env.get_template("text.html.jinja2").render(
        title=title,
        text=link_files(text, output, page),
        headings=headings,
        here=page,
        root="../" * page.count("/"),
        all_modules=modules,
    )


def _write(output: Path, page: str, content: str) -> None:
    path = output / f"{page}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(link_names(page, content), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--output", type=Path, default=Path("build/site"))
    build(parser.parse_args().output)
