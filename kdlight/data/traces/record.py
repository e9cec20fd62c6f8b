"""One answer to one prompt, and what is known of it."""

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
    """A teacher's answer to a prompt.

    Attributes:
        prompt: a text, or messages of ``{"role", "content"}`` that end before the answer.
        response: the answer, reasoning included.
        prompt_id: names the prompt; traces of one prompt share it. Made of the prompt if empty.
        answer: what is right, for a verifier.
        score: how right the response is, 1 for right and 0 for wrong; None if nobody looked.
        finished: whether the response came to its end; None if unknown.
        teacher: who gave it.
        n_tokens: its length in tokens.
        difficulty: of the prompt, larger is harder.
        perplexity: of the response under the student.
        meta: anything else, as plain data.

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
            object.__setattr__(self, "prompt_id", name_prompt(self.prompt))

    @property
    def length(self) -> int:
        """Tokens of the response, or its characters where tokens were not counted."""
        return len(self.response) if self.n_tokens is None else self.n_tokens

    @property
    def key(self) -> tuple[str, str, str]:
        """An order of traces that does not depend on how they were read."""
        return self.prompt_id, self.teacher or "", self.response

    def to_json(self) -> str:
        """One line, without what is not known."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, {})}
        return json.dumps(known, ensure_ascii=False)


NAMES = frozenset(each.name for each in fields(Trace))


def name_prompt(prompt: Prompt) -> str:
    """A name for a prompt that any process finds again."""
    return sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]


def write_traces(path: str | Path, traces: Iterable[Trace]) -> None:
    """Write a JSON line for each trace; the folder is made.

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
