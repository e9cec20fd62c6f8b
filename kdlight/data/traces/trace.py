"""One response to one prompt, with its score and other metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from kdlight.data.traces.trace_checks import check_trace
from kdlight.data.written_files import write_files

Message: TypeAlias = "dict[str, str]"
Prompt: TypeAlias = "str | list[Message]"


@dataclass(frozen=True)
class Trace:
    """A teacher's response to a prompt.

    Attributes:
        prompt: a text, or messages of ``{"role", "content"}`` that end before the response.
        response: the response, reasoning included.
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

    Raises:
        TypeError: A value of another kind, such as a number for ``response``.
        ValueError: A score or a difficulty that is not finite, a message without role or content, a
            text that is not valid Unicode.

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

    def __post_init__(self) -> None:
        check_trace(self)
        if not self.prompt_id:
            object.__setattr__(self, "prompt_id", hash_prompt(self.prompt))

    @property
    def length(self) -> int:
        """Length of the response in tokens, or in characters if ``n_tokens`` is None."""
        return len(self.response) if self.n_tokens is None else self.n_tokens

    @property
    def key(self) -> tuple[str, str, str]:
        """Sort key that does not depend on the order in which traces were read."""
        return self.prompt_id, self.teacher or "", self.response

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


def hash_prompt(prompt: Prompt) -> str:
    """Return an id of a prompt that is the same in every process."""
    return sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]


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
