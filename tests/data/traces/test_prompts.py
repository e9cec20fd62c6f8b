"""Prompts are read from files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kdlight.data.traces.prompts import read_prompts


def test_prompts_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"question": "a", "answer": 1, "level": 2}, {"problem": "b", "uuid": "x"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_prompts(str(path))
    assert (first.prompt, first.answer, first.meta) == ("a", 1, {"level": 2})
    assert second.prompt_id == "x"
    path.write_text("\n".join(json.dumps(rows[0]) for _ in range(2)))
    with pytest.raises(ValueError, match="prompts 1 and 2 of .* are the same"):
        read_prompts(str(path))


def test_a_row_without_a_prompt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "a"}\n{"text": "b"}')
    with pytest.raises(
        ValueError, match=r"line 2: a row has fields \['text'\], but a prompt needs"
    ):
        read_prompts(str(path))


def test_reasoning_gym_is_named_if_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ValueError, match=r"pip install 'kdlight\[gym\]'"):
        read_prompts("reasoning_gym:chain_sum")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": 5}, r"prompt must be a text or a list of messages, got 5 \(int\)"),
        ({"messages": [{"content": "a"}]}, "prompt: message 1 has no 'role'"),
        ({"question": "a", "difficulty": "hard"}, "difficulty must be a number, got 'hard'"),
    ],
    ids=["number", "role", "difficulty"],
)
def test_a_prompt_of_another_kind_is_named(row: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q"}\n' + json.dumps(row))
    with pytest.raises(ValueError, match=f"{path}, line 2: {message}"):
        read_prompts(str(path))
