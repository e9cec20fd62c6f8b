"""Documents from the standard library, files and datasets."""

from __future__ import annotations

import pytest

from kdlight.data import (
    read_documents,
)


def test_the_standard_library_has_english_without_a_download():
    documents = read_documents()
    assert len(documents) > 50
    assert len(set(documents)) == len(documents)
    assert sum(map(len, documents)) > 300_000


def test_files_of_every_kind(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.txt").write_text("second\n\nsecond, still")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl").write_text(
        '{"body": "third\u2028third"}\n\n{"body": "first"}\n'
    )
    assert read_documents(str(tmp_path / "a.txt")) == ["first"]
    found = read_documents([f"{tmp_path}/*.txt", f"{tmp_path}/**/*.jsonl"], text_field="body")
    assert found == ["first", "second\n\nsecond, still", "third\u2028third"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt does not exist"),
        ("no*.txt", None, "no file matches"),
        (".", None, "is a folder"),
        ("a.txt", b" \n", "a.txt is empty"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1 has the lone surrogate"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', r"line 2 has no text .*'txt'.*text_field"),
        ("a.jsonl", b'{"text": 3}', "line 1 has no text"),
        ("a.jsonl", b"[1]", "line 1 must be a JSON object, got list"),
        ("a.jsonl", b"{", "line 1 is not JSON"),
    ],
)
def test_files_that_hold_no_text(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_documents([str(tmp_path / name)])


def test_datasets_of_the_hub(monkeypatch):
    """The package is replaced by a fake, since its datasets come from the network."""

    class Rows(list):
        column_names = ("text",)

        def __getitem__(self, column):
            return [row[column] for row in self]

    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(*arguments, **keywords):
            asked.append((*arguments, *keywords.values()))
            return Rows([{"text": "a"}, {"text": "b"}])

    monkeypatch.setitem(__import__("sys").modules, "datasets", Datasets)
    assert read_documents(["hf:name", "hf:owner/name/config:test[:9]"]) == ["a", "b"]
    assert asked == [("name", None, "train"), ("owner/name", "config", "test[:9]")]
    with pytest.raises(ValueError, match="no column 'body'"):
        read_documents("hf:name", text_field="body")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"kdlight\[data\]"):
        read_documents("hf:name")


@pytest.mark.parametrize(
    ("name", "wrong"), [("text_field", {"text_field": 5}), ("files", {"files": 5})]
)
def test_arguments_of_another_kind(name, wrong):
    with pytest.raises(TypeError, match=f"^{name} must be "):
        read_documents(**wrong)
