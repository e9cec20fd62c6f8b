"""One response to one prompt, with its score and other metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

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
        """Return the trace as one line of JSON, without unknown values."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, {})}
        return json.dumps(known, ensure_ascii=False)


FIELDS = frozenset(each.name for each in fields(Trace))


def hash_prompt(prompt: Prompt) -> str:
    """Return an id of a prompt that is the same in every process."""
    return sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]


def write_traces(path: str | Path, traces: Iterable[Trace]) -> None:
    """Write one line of JSON per trace; the folder is created.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_traces(f"{folder}/traces.jsonl", [Trace("1 + 1 =", "2", prompt_id="sum")])
        ...     print(Path(f"{folder}/traces.jsonl").read_text(), end="")
        {"prompt": "1 + 1 =", "response": "2", "prompt_id": "sum"}
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(trace.to_json() + "\n" for trace in traces), encoding="utf-8")
