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
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "prompt: part 1 of"),
        ({"question": "a", "tools": "add"}, "tools is a text that is not JSON"),
    ],
    ids=["number", "role", "difficulty", "image", "tools"],
)
def test_a_prompt_of_another_kind_is_named(row: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q"}\n' + json.dumps(row))
    with pytest.raises(ValueError, match=f"{path}, line 2: {message}"):
        read_prompts(str(path))


def test_messages_and_tools_of_a_prompt_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "r"},
        {"role": "tool", "content": "3", "tool_call_id": "1", "name": "add"},
    ]
    tools = [{"name": "add"}]
    rows = [{"messages": messages, "tools": tools}, {"prompt": messages}]
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_prompts(str(path))  # the same messages with other tools are another prompt
    assert first.prompt == second.prompt == messages
    assert (first.tools, second.tools) == (tools, None)
    assert first.meta == {}


def test_an_answer_is_not_continued_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text(json.dumps({"messages": said}))
    with pytest.raises(ValueError, match="line 1: `messages` end with a message of the assistant"):
        read_prompts(str(path))
    path.write_text(json.dumps({"prompt": said, "messages": said}))
    assert read_prompts(str(path))[0].prompt == said


def test_the_meta_of_a_row_is_that_of_the_prompt(tmp_path: Path) -> None:
    """So that prompts from a file of traces of reasoning-gym can be verified."""
    path = tmp_path / "p.jsonl"
    meta = {"task": "chain_sum", "metadata": {"n": 1}}
    path.write_text(json.dumps({"prompt": "q", "response": "a", "meta": meta, "level": 2}))
    assert read_prompts(str(path))[0].meta == {**meta, "level": 2}
    path.write_text(json.dumps({"prompt": "q", "meta": "m"}))
    with pytest.raises(ValueError, match="line 1: meta must be an object"):
        read_prompts(str(path))
