"""A teacher's servers, their dialect and what they tell: checked once, before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlight.cache.records import EXACT
from kdlight.endpoints import Endpoint
from kdlight.remote.dialects import Dialect
from kdlight.remote.discovery import discover
from kdlight.remote.server_info import ServerInfo
from kdlight.remote.servers import Servers

ALIKE = (
    *("model", "vocab_size", "tokenizer", "weights", "dtype", "states"),
    *("max_k", "context_length", "scores_ids", "max_tokens", "max_entries"),
)
"""What servers that are asked by turns must have in common."""


@dataclass(frozen=True)
class Connection:
    """Servers of one teacher.

    Attributes:
        servers: asked by turns.
        dialect: what they speak.
        info: what they tell.
    """

    servers: Servers
    dialect: Dialect
    info: ServerInfo


def connect(
    endpoints: Sequence[Endpoint], dialect: str, model: str | None, *, bits: int = EXACT
) -> Connection:
    """Ask all servers what they are.

    Args:
        endpoints: the servers.
        dialect: name of a dialect, or ``"auto"``.
        model: the model's name; None for the only one.
        bits: bits of a log-probability on the way from ``kdlight serve``.

    Raises:
        ServerError: one does not answer.
        ValueError: they have different teachers.
    """
    found = [discover(endpoint, dialect, model, bits=bits) for endpoint in endpoints]
    chosen, info = found[0]
    for endpoint, (other, told) in zip(endpoints[1:], found[1:], strict=True):
        names = [name for name in ALIKE if getattr(info, name) != getattr(told, name)]
        if other.name != chosen.name:
            raise ValueError(
                f"{endpoints[0].url} speaks the dialect {chosen.name!r}, and {endpoint.url}"
                f" {other.name!r}; the servers of one teacher must be of one kind"
            )
        if names:
            name = names[0]
            raise ValueError(
                f"the servers of one teacher differ in {name}: {endpoints[0].url} has"
                f" {getattr(info, name)!r}, and {endpoint.url} {getattr(told, name)!r}; serve the"
                " same model everywhere"
            )
    return Connection(Servers(endpoints), chosen, info)


def common_width(connection: Connection, expected: int | None) -> int:
    """Return the number of tokens that are compared.

    Args:
        connection: the servers.
        expected: the number that the user gives, or None.

    Raises:
        ValueError: the servers do not tell it and none is given, or they have fewer tokens.
    """
    told, software = connection.info.vocab_size, connection.info.software
    url = connection.servers.endpoints[0].url
    if told is None and expected is None:
        raise ValueError(
            f"{url} ({software}) does not tell the width of its vocabulary; set vocab_size to the"
            " number of tokens"
        )
    if told is not None and expected is not None and told < expected:
        raise ValueError(
            f"vocab_size is {expected}, but {url} ({software}) has {told} tokens; set vocab_size to"
            " the number of tokens that student and teacher have in common"
        )
    return expected or told or 0


def check_connection(connection: Connection, *, k: int, student_ids: bool, states: bool) -> None:
    """Raise a ValueError where the servers cannot do what is asked of them."""
    info, url = connection.info, connection.servers.endpoints[0].url
    if states and info.states is None:
        raise ValueError(
            f"states=True needs a server that returns hidden states, but {url} ({info.software})"
            " returns log-probabilities; start `kdlight serve --states bfloat16`, or set"
            " states=False"
        )
    if student_ids and not info.scores_ids:
        raise ValueError(
            f"tokens='student' needs a server that scores ids that the client chooses, which"
            f" {url} ({info.software}) does not; use `kdlight serve`, or tokens='teacher'"
        )
    if states:
        return
    if info.max_k is not None and k > info.max_k:
        raise ValueError(
            f"k is {k}, but {url} ({info.software}) returns at most {info.max_k} tokens of a"
            f" position; set k to {info.max_k} or less, or start the server for more (kdlight"
            f" serve: --k {k}; vLLM: --max-logprobs {k})"
        )
