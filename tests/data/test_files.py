"""Files by path and glob, and the errors of unreadable ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.data.files import file_names, matching_files, read_json_lines, read_text


def test_a_glob_gives_files_in_order_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).write_text(name)
    found = matching_files(f"{tmp_path}/**")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "a.txt",
        "b.txt",
        "deep/c.txt",
    ]
    with pytest.raises(ValueError, match="no file matches"):
        matching_files(f"{tmp_path}/*.jsonl")


def test_a_path_is_not_looked_up() -> None:
    assert matching_files("no/such/file.txt") == [Path("no/such/file.txt")]
    assert matching_files("~/file.txt") == [Path("~/file.txt").expanduser()]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b" \n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"files: .*a.txt {message}"):
        read_text(path)
    with pytest.raises(ValueError, match="is a folder; name the files in it with a glob"):
        read_text(tmp_path)


def test_json_lines_come_with_their_location(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "x\u2028y"}\n\n{"a": 2}\n[3]\n')
    rows = read_json_lines(path)
    assert next(rows) == (f"{path}, line 1", {"a": "x\u2028y"})
    assert next(rows) == (f"{path}, line 3", {"a": 2})
    with pytest.raises(ValueError, match="line 4 must be a JSON object, got list"):
        next(rows)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "\xff"}', "is not UTF-8 text, line 3: "),
        (b'{"a": ' + b"1" * 5000 + b"}", ", line 3 is not JSON"),
        (b"[" * 100_000, ", line 3 is not JSON"),
        (b'{"a": "\\ud800"}', r", line 3 has the lone surrogate '\\ud800'"),
        (b'{"\\uDFFF": 1}', r", line 3 has the lone surrogate '\\udfff'"),
    ],
    ids=["utf-8", "digits", "depth", "surrogate", "surrogate in a name"],
)
def test_a_line_that_cannot_be_read_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\\ud83d\\ude00"}\n\n' + line + b'\n{"a": 1}\n')
    with pytest.raises(ValueError, match=f"^files: {path} ?{message}"):
        list(read_json_lines(path))


@pytest.mark.parametrize("files", [5, None, Path("a.txt"), {"a.txt"}, ["a.txt", 3]], ids=range(5))
def test_names_of_another_kind_are_refused(files: object) -> None:
    with pytest.raises(TypeError, match="^files must be a name or a list of names"):
        file_names("files", files)


def test_no_name_is_refused() -> None:
    assert file_names("files", ("a", "b")) == ["a", "b"]
    with pytest.raises(
        ValueError, match=r"^validation_files must name at least one file, got \[\]"
    ):
        file_names("validation_files", [])


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert [row for _, row in read_json_lines(path)] == [{"a": 1}]
    assert read_text(path) == '{"a": 1}\n'
    path.write_bytes(b"\xef\xbb\xbfa\n\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text, line 2: "):
        read_text(path)


def test_a_file_with_wildcards_in_its_name_is_named_by_it(tmp_path: Path) -> None:
    for name in ("a[1].txt", "a1.txt"):
        (tmp_path / name).touch()
    assert matching_files(f"{tmp_path}/a[1].txt") == [tmp_path / "a[1].txt"]
    (tmp_path / "a[1].txt").unlink()
    assert matching_files(f"{tmp_path}/a[1].txt") == [tmp_path / "a1.txt"]
