"""One response to one prompt, with its score and other metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from kdlight.checks import check_integer, check_type
from kdlight.data.traces.message_checks import check_fields, check_prompt, check_tools
from kdlight.data.traces.messages import Message as Message
from kdlight.data.traces.messages import Prompt as Prompt
from kdlight.data.traces.messages import plain, plain_fields, plain_messages
from kdlight.data.traces.trace_checks import check_number, check_text
from kdlight.data.written_files import write_files


@dataclass(frozen=True)
class Trace:
    """A teacher's response to a prompt.

    Attributes:
        prompt: a text, or messages of ``{"role", "content"}`` that end before the response. A
            message may have other fields that a chat template reads, such as ``tool_calls``; its
            content may be a list of parts of text, or None beside ``tool_calls``.
        response: the response, reasoning included; the content of the last message of a
            conversation.
        prompt_id: id of the prompt; traces of one prompt share it. Derived from the prompt if
            empty.
        answer: the reference answer, for a verifier.
        score: correctness of the response, from 0 for incorrect to 1 for correct; None if not
            verified.
        finished: whether the response ends with an end-of-text token; None if unknown.
        teacher: name of the teacher.
        n_tokens: length of the response in tokens.
        difficulty: difficulty of the prompt; larger is harder.
        perplexity: perplexity of the response under the student.
        meta: any other data that JSON can represent.
        tools: JSON schemas of the tools that the model can call, for the chat template.
        response_fields: fields of the message of the response beside role and content, such as
            ``reasoning_content`` or ``tool_calls``.

    Raises:
        TypeError: A value of another kind, such as a number for ``response``.
        ValueError: A score or a difficulty that is not finite, a message without role or content or
            with what is no text, such as an image; a text that is not valid Unicode.

    Example:
        >>> trace = Trace("1 + 1 =", "2", answer="2")
        >>> trace.prompt_id == Trace("1 + 1 =", "3").prompt_id
        True
    """

    prompt: Prompt
    response: str
    prompt_id: str = ""
    answer: Any = None
    score: float | None = None
    finished: bool | None = None
    teacher: str | None = None
    n_tokens: int | None = None
    difficulty: float | None = None
    perplexity: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] | None = None
    response_fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_trace(self)
        changed: dict[str, Any] = {  # as they are read back from JSON
            "tools": plain(self.tools) or None,
            "response_fields": plain_fields(self.response_fields),
        }
        if not isinstance(self.prompt, str):
            changed["prompt"] = plain_messages(self.prompt)
        for name, value in changed.items():
            object.__setattr__(self, name, value)
        if not self.prompt_id:
            object.__setattr__(self, "prompt_id", hash_prompt(self.prompt, self.tools))

    def to_json(self) -> str:
        """Return the trace as one line of JSON, without unknown values.

        Raises:
            ValueError: If ``answer`` or ``meta`` hold what JSON cannot represent.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        known = {name: value for name, value in values.items() if value not in (None, {})}
        try:
            line = json.dumps(known, ensure_ascii=False)
            line.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"a trace of prompt {self.prompt_id!r} cannot be written as JSON: {error}; change"
                " its `answer` or `meta`"
            ) from error
        return line


FIELDS = frozenset(each.name for each in fields(Trace))


def hash_prompt(prompt: Prompt, tools: list[dict[str, Any]] | None = None) -> str:
    """Return an id of a prompt, and of tools if there are any, that is equal in every process."""
    hashed = [prompt, tools] if tools else prompt
    return sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]


def check_trace(trace: Trace) -> None:
    """Raise an error for a field of a trace that holds a value of another kind."""
    check_prompt(trace.prompt)
    check_text("response", trace.response)
    check_text("prompt_id", trace.prompt_id)
    for name in ("score", "difficulty", "perplexity"):
        value = getattr(trace, name)
        if value is not None:
            check_number(name, value, finite=name != "perplexity")
    if trace.n_tokens is not None:
        check_integer("n_tokens", trace.n_tokens, 0)
    check_type("finished", trace.finished, (bool, type(None)), "true, false or absent")
    if trace.teacher is not None:
        check_text("teacher", trace.teacher)
    check_type("meta", trace.meta, Mapping, "an object")
    if trace.tools is not None:
        check_tools("tools", trace.tools)
    check_type("response_fields", trace.response_fields, Mapping, "an object")
    for name in ("role", "content"):
        if name in trace.response_fields:
            raise ValueError(f"response_fields must not have {name!r}; `response` is the content")
    check_fields("response_fields", "the response", trace.response_fields)


def write_traces(path: str | Path, traces: Iterable[Trace]) -> None:
    """Write one line of JSON per trace; the folder is created.

    If anything fails, the file keeps its old content.

    Raises:
        OSError: If the file cannot be written, with its path.
        ValueError: If a trace cannot be written as JSON.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_traces(f"{folder}/traces.jsonl", [Trace("1 + 1 =", "2", prompt_id="sum")])
        ...     print(Path(f"{folder}/traces.jsonl").read_text(), end="")
        {"prompt": "1 + 1 =", "response": "2", "prompt_id": "sum"}
    """
    write_files({Path(path): to_lines(traces)})


def to_lines(traces: Iterable[Trace]) -> bytes:
    """Return one line of JSON per trace."""
    return "".join(trace.to_json() + "\n" for trace in traces).encode()
