"""The options of ``kdlight serve``, besides those of a fit."""

from __future__ import annotations

from typing import Any, Literal


def add_options(parser: Any) -> None:
    """Add the options of a server to a parser."""
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="Address to listen on; 0.0.0.0 for other machines, with a --token_variable.",
    )
    parser.add_argument("--port", type=int, default=8000, help="Port; 0 for a free one.")
    parser.add_argument(
        "--k",
        type=int | None,
        default=50,
        help="Most tokens per position that a client may ask for; null for all.",
    )
    parser.add_argument(
        "--states",
        type=Literal["bfloat16", "float32"] | None,
        default=None,
        help="Return hidden states and the output head as well, in this dtype.",
    )
    parser.add_argument("--max_tokens", type=int, default=2**14, help="Most tokens of a request.")
    parser.add_argument(
        "--queue", type=int, default=64, help="Requests that may wait for the teacher."
    )
    parser.add_argument(
        "--token_variable",
        type=str | None,
        default=None,
        help="Environment variable with the token that clients must send.",
    )
