"""Links between pages: names in backticks, and links between files."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

from tests.site.rooms import locate
from tests.site.texts import ROOT, SOURCES

CODE = re.compile(r"<code>([^<]+)</code>(?!</a>)")
CONFIG = re.compile(r"(?:configs/)?((?:strategy/)?\w+)\.yaml")
RELATIVE = re.compile(r'(href|src)="(?!\w+:|#)([^"#]+)(#[^"]*)?"')


def link_names(page: str, content: str) -> str:
    """Turn the public names and configs in backticks on ``page`` into links."""

    def link(found: re.Match[str]) -> str:
        text = found[1]
        config, place = CONFIG.fullmatch(text), locate(text)
        if config and (ROOT / "configs" / f"{config[1]}.yaml").exists():
            address = f"configs.html#{config[1]}"
        elif place:
            address = f"{place[0].replace('.', '/')}.html" + (f"#{place[1]}" if place[1] else "")
        else:
            return found[0]
        return f'<a href="{"../" * page.count("/")}{address}">{found[0]}</a>'

    return CODE.sub(link, content)


def link_files(content: str, output: Path, page: str) -> str:
    """Turn links to files into links to their pages; a file without a page is copied."""
    source_folder = posixpath.dirname(SOURCES.get(page, page))
    pages = {source: name for name, source in SOURCES.items()}

    def link(found: re.Match[str]) -> str:
        kind, address, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(source_folder, address))
        if path in pages:
            address = f"{pages[path]}.html"
        elif path.rstrip("/") == "configs" or re.fullmatch(r"configs/.*\.yaml", path):
            config = path.removeprefix("configs").strip("/").removesuffix(".yaml")
            address, anchor = "configs.html", config and f"#{config}"
        else:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, output / path)
            address = path
        return (
            f'{kind}="{posixpath.relpath(address, posixpath.dirname(page) or ".")}{anchor or ""}"'
        )

    return RELATIVE.sub(link, content)
