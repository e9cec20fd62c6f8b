"""Which dialect a server speaks, and what it tells about itself."""

from __future__ import annotations

from kdlight.cache.records import EXACT
from kdlight.checks import check_choice
from kdlight.endpoints import Endpoint, RequestRefused, ServerError, UnusableAnswer
from kdlight.remote.dialects import DIALECTS, Dialect, KdlightServer
from kdlight.remote.server_info import ServerInfo

AUTO = "auto"


def check_dialect(name: str) -> None:
    """Raise a ValueError for a dialect that is not known.

    Example:
        >>> check_dialect("vllm")
    """
    check_choice("dialect", name, (AUTO, *DIALECTS))


def discover(
    endpoint: Endpoint, dialect: str, model: str | None, *, bits: int = EXACT
) -> tuple[Dialect, ServerInfo]:
    """Return the dialect of a server, and what it tells.

    Args:
        endpoint: the server.
        dialect: name of a dialect; ``"auto"`` asks for each of them.
        model: the model's name; None for the only one.
        bits: bits of a log-probability on the way from ``kdlight serve``.

    Raises:
        ServerError: the server does not answer, or speaks none of them.
        ValueError: it has no model of this name.
    """

    def make(name: str) -> Dialect:
        return KdlightServer(bits) if name == KdlightServer.name else DIALECTS[name]()

    if dialect != AUTO:
        chosen = make(dialect)
        return chosen, chosen.discover(endpoint, model)
    refused = []
    for name in DIALECTS:
        chosen = make(name)
        try:
            return chosen, chosen.discover(endpoint, model)
        except RequestRefused as error:
            if error.status in (401, 403):
                raise
            refused.append(f"{name}: status {error.status}")
        except UnusableAnswer:
            refused.append(f"{name}: another answer")
        except ServerError as error:
            if error.__cause__ is not None:  # no answer at all, which another dialect cannot mend
                raise
            refused.append(f"{name}: {error}")
    raise ServerError(
        f"{endpoint.url} speaks none of the dialects that kdlight knows ({'; '.join(refused)});"
        " check the address (the root of the server, without /v1), or set dialect",
        url=endpoint.url,
    )
