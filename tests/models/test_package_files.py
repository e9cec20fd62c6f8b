"""Files inside of packages."""

from __future__ import annotations

import sys

import pytest

from kdlight.data import read_documents
from kdlight.models.package_files import files_in_package


def test_files_are_found_without_importing_the_package() -> None:
    before = set(sys.modules)
    files = files_in_package("package:wsgiref/*.py", argument="files")
    assert [path.name for path in files] == sorted(path.name for path in files)
    assert "handlers.py" in {path.name for path in files}
    assert "wsgiref.handlers" not in set(sys.modules) - before


def test_a_wildcard_does_not_reach_into_folders() -> None:
    top, all_files = (
        {path.name for path in files_in_package(f"package:email/{each}", argument="files")}
        for each in ("*.py", "**/*.py")
    )
    assert "message.py" in top
    assert "text.py" not in top  # of email/mime
    assert top | {"text.py"} <= all_files


def test_documents_are_read_from_a_package() -> None:
    (text,) = read_documents("package:asyncio/queues.py")
    assert "class PriorityQueue(Queue)" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:json", "files must have the form 'package:NAME/FILE', got 'package:json'"),
        ("package:a.b/c.py", "files must have the form"),
        ("package:no_such_package/a.py", "no package 'no_such_package' is installed"),
        ("package:string/a.py", "no package 'string' is installed"),
    ],
)
def test_wrong_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        files_in_package(name, argument="files")


def test_a_glob_without_a_file_is_an_error_of_documents() -> None:
    with pytest.raises(ValueError, match="files: no file of the package matches"):
        read_documents("package:json/*.nothing")
