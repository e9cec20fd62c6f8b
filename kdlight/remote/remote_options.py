"""How servers of a teacher are asked: checked when the teacher is made, used when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kdlight.cache.records import BITS, EXACT
from kdlight.checks import check_choice, check_integer, check_type
from kdlight.endpoints import Endpoint
from kdlight.endpoints.urls import parse_url
from kdlight.remote.connection import check_connection, common_width, connect
from kdlight.remote.discovery import check_dialect
from kdlight.remote.questions import Questions
from kdlight.remote.server_checks import check_scores
from kdlight.remote.server_info import ServerInfo


@dataclass(frozen=True)
class RemoteOptions:
    """The arguments of a `kdlight.RemoteTeacher` that are about its servers; see there.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of range.

    Example:
        >>> RemoteOptions(url="http://localhost:8000/").urls
        ['http://localhost:8000']
    """

    url: Any
    k: int | None = 50
    dialect: str = "auto"
    model: str | None = None
    tokens: Literal["teacher", "student"] = "teacher"
    states: bool = False
    vocab_size: int | None = None
    bits: int = EXACT
    max_tokens: int = 8192
    requests: int = 4

    def __post_init__(self) -> None:
        check_type("url", self.url, (str, list, tuple), "an address or a list of addresses")
        if not self.urls:
            raise ValueError("url must have at least one address, got none")
        check_dialect(self.dialect)
        check_type("model", self.model, (str, type(None)), "a name or None")
        check_choice("tokens", self.tokens, ("teacher", "student"))
        check_type("states", self.states, bool, "True or False")
        check_choice("bits", self.bits, BITS)
        for name in ("k", "vocab_size", "max_tokens", "requests"):
            if (value := getattr(self, name)) is not None or name in ("max_tokens", "requests"):
                check_integer(name, value, 1)
        if self.states and self.tokens == "student":
            raise ValueError(
                "states=True gives the logits of all tokens, so that tokens='student' has nothing"
                " to do; leave out one of them"
            )

    @property
    def urls(self) -> list[str]:
        """The addresses."""
        given = [self.url] if isinstance(self.url, str) else self.url
        return [parse_url(each) for each in given]

    def open(self, endpoints: list[Endpoint]) -> Questions:
        """Ask the servers what they are, and return what asks them.

        Raises:
            ServerError: one does not answer.
            ValueError: they do not fit.
        """
        found = connect(endpoints, self.dialect, self.model, bits=self.bits)
        size = common_width(found, self.vocab_size)
        k = size if self.k is None else min(self.k, size)
        by_student = self.tokens == "student"
        check_connection(found, k=k, student_ids=by_student, states=self.states)
        check_scores(found, k=k, vocab_size=size)
        tokens = self._most_tokens(found.info, 1 if self.states else k)
        return Questions(found, k=k, states=self.states, requests=self.requests, max_tokens=tokens)

    def _most_tokens(self, info: ServerInfo, entries: int) -> int:
        """Return the most tokens of a request, with so many entries of an answer for each."""
        limits = [self.max_tokens]
        if info.max_tokens is not None:
            limits.append(info.max_tokens)
        if info.max_entries is not None:
            limits.append(max(info.max_entries // entries, 1))
        return min(limits)
