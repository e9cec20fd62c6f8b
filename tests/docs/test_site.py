"""The site is complete, has no dead links, and can be read offline.

Links that lead out of it are not fetched: the tests have no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tests.site.build import build
from tests.site.formulas import with_mathml
from tests.site.rooms import locate, names, rooms
from tests.site.texts import HOW_TO, PAGES, ROOT, SECTIONS, SOURCES, TEXTS, cell

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loads += [values[name] for name in ("src", "data") if name in values]
        if tag == "link":
            self.loads.append(values.get("href", ""))


def dead_links(site: Path) -> Iterator[str]:
    """Yield every link and picture of a site whose target does not exist."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and anchor not in pages[target].anchors):
                yield f"{path.relative_to(site)}: {address}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site").resolve()
    build(folder)
    return folder


def test_no_link_is_dead(site: Path) -> None:
    assert list(dead_links(site)) == []


def test_a_dead_link_is_detected(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h2 id="one"></h2><a href="b.html#two">b</a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#one">a</a> <a href="a.html#two">a</a>')
    assert list(dead_links(tmp_path)) == [
        "a.html: b.html#two",
        "a.html: c.png",
        "b.html: a.html#two",
    ]


def test_every_public_name_has_an_anchor(site: Path) -> None:
    anchors = {room: Page(site / f"{room.replace('.', '/')}.html").anchors for room in rooms()}
    assert [f"{room}.{name}" for room, name, _ in names() if name not in anchors[room]] == []


def test_it_can_be_read_without_a_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        outside = [each for each in Page(path).loads if urlsplit(each).scheme not in ("", "data")]
        assert outside == [], path.name


def test_formulas_are_shown(site: Path) -> None:
    page = (site / "kdlight" / "losses.html").read_text("utf-8")
    shown = re.sub(r'<div class="pdoc-code.*?</div>', "", page, flags=re.DOTALL)  # not the source
    assert shown.count("<math") > 20
    assert ".. math::" not in shown


def test_a_formula_that_cannot_be_shown_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not know.*nonsense"):
        with_mathml(r":math:`\nonsense x`")


def test_the_readme_links_to_losses_objectives_configs_and_pages(site: Path) -> None:
    links = set(Page(site / "index.html").links)
    assert {
        "kdlight/losses.html#forward_kl",
        "kdlight/objectives.html#TAID",
        "kdlight/callbacks.html#AdaptiveTAID",
        "configs.html#taid",
        "CONTRIBUTING.html",
        "CHANGELOG.html",
        *(f"{page}.html" for page in HOW_TO),
        "comparison.html",
    } <= links


def test_sections_list_every_page_in_the_order_of_a_reader(site: Path) -> None:
    assert list(SECTIONS) == ["Start", "Tutorial", "How-to", "Reference", "Explanation"]
    listed = [page for pages in SECTIONS.values() for page in pages]
    assert sorted(listed) == sorted([*SOURCES, "configs"])
    text = (site / "own_module.html").read_text("utf-8")
    places = [text.index(f">{section}</h2>") for section in SECTIONS]
    places.insert(4, text.index('href="kdlight/losses.html"'))  # the API is part of the reference
    assert places == sorted(places)


def test_every_page_is_a_file_of_the_folder() -> None:
    stems = {path.stem for path in (ROOT / PAGES).glob("*.md")}
    assert stems == {*HOW_TO, "what_works", "comparison"}


def test_a_notebook_has_its_outputs() -> None:
    code = nbformat.v4.new_code_cell("print(1)")
    picture = {"image/svg+xml": '<?xml version="1.0"?><svg id="p"></svg>', "text/plain": "<Figure>"}
    code.outputs = [
        nbformat.v4.new_output("stream", text="a < b"),
        nbformat.v4.new_output("display_data", data=picture),
    ]
    page = cell(nbformat.v4.new_markdown_cell("# *One*")) + cell(code)
    assert "<em>One</em>" in page
    assert "a &lt; b" in page
    assert '<svg id="p">' in page
    assert "Figure" not in page


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("forward_kl", ("kdlight.losses", "forward_kl")),
        (
            "kdlight.callbacks.HyperparameterScheduler",
            ("kdlight.callbacks", "HyperparameterScheduler"),
        ),
        ("kdlight.DistillationModule", ("kdlight.modules", "DistillationModule")),
        ("kdlight/losses/", ("kdlight.losses", "")),
        ("callbacks/", ("kdlight.callbacks", "")),
        ("kdlight.losses.nothing", None),
        ("anything", None),
    ],
)
def test_a_name_is_located(text: str, place: tuple[str, str] | None) -> None:
    assert locate(text) == place


@pytest.mark.parametrize("name", TEXTS.values())
def test_links_of_a_text_also_work_on_a_code_host(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text("utf-8"), flags=re.DOTALL)
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(address)
        if parts.scheme:
            continue
        target = (ROOT / name).parent / parts.path if parts.path else ROOT / name
        assert target.exists(), address
        if parts.fragment:
            headings = re.findall(r"^#+ +(.+)$", target.read_text("utf-8"), flags=re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]
            assert parts.fragment in slugs, address
