"""The site: README and its neighbours, and a page a room, out of the docstrings.

``python -m tests.site.build --output build/site``. Nothing in it comes from the network, and it
reads as well from a folder as from a server.
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
from tests.site.texts import texts

CONVERT = docstrings.convert


def build(output: Path) -> None:
    """Write the site into ``output``, which is emptied first."""
    shutil.rmtree(output, ignore_errors=True)
    modules = {}
    for room in rooms():
        public(room)  # asks for each name once, for those that resolve only then
        modules[room] = doc.Module(import_module(room))
    render.configure(
        docformat="google",
        include_undocumented=False,
        template_directory=Path(__file__).with_name("templates"),
    )
    render.env.filters |= {"own": own, "inherited": inherited}
    render.env.tests["hook"] = is_hook
    pages = texts()
    render.env.globals["reading"] = {page: title for page, (title, _) in pages.items()}
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
    """Whether Lightning calls it, and no reader: a module's or a callback's way to be told."""
    owner, _, name = found.qualname.rpartition(".")
    known = public(found.modulename).get(owner) if found.modulename in rooms() else None
    return name != "__init__" and any(
        isinstance(known, type) and issubclass(known, base) and hasattr(base, name)
        for base in (Callback, LightningDataModule, LightningModule)
    )


def own(found: doc.Class) -> list[doc.Doc]:
    """The members of a class, those of bases that no room shows among them."""
    private = [
        member
        for base, members in found.inherited_members.items()
        if base[0].startswith("kdlight.") and base not in classes()
        for member in members
    ]
    return [member for member in (*found.own_members, *private) if member.kind != "class"]


def inherited(found: doc.Class) -> dict[tuple[str, str], list[doc.Doc]]:
    """What a class has from public bases, by their rooms and names."""
    bases = found.inherited_members.items()
    return {classes()[base]: members for base, members in bases if base in classes()}


def _converter(formulas: Callable[[str], str]) -> Callable[..., str]:
    """From a docstring to Markdown; ``formulas`` does what the generator leaves to a script."""
    return lambda docstring, docformat, source: CONVERT(formulas(docstring), docformat, None)


def _without_guesses(content: str) -> str:
    """A room's page without links to what it does not show, which the generator guesses."""
    shown = set(re.findall(r' id="([^"]+)"', content))
    link = re.compile(r'<a href="#([^"]+)">(.*?)</a>')
    return link.sub(lambda found: found[0] if found[1] in shown else found[2], content)


def _text(page: str, title: str, text: str, output: Path, modules: dict[str, doc.Module]) -> str:
    headings = getattr(text, "toc_html", None)
    folder = page.rpartition("/")[0]
    return render.env.get_template("text.html.jinja2").render(
        title=title,
        text=link_files(text, output, folder),
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
