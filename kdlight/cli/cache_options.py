"""The options of ``kdlight cache``, besides those of a fit."""

from __future__ import annotations

from typing import Any


def add_options(parser: Any) -> None:
    """Add the options of a cache to a parser."""
    parser.add_argument("--output", type=str, required=True, help="Folder to write to.")
    parser.add_argument(
        "--k",
        type=int | None,
        default=50,
        help="Tokens stored per position; null for all.",
    )
    parser.add_argument(
        "--top_p",
        type=float | None,
        default=None,
        help="Store tokens up to this mass.",
    )
    parser.add_argument(
        "--bits", type=int, default=8, help="Bits of a log-probability; 32 is exact."
    )
    parser.add_argument(
        "--shard_positions",
        type=int,
        default=2**16,
        help="Positions of a shard; an interruption loses about one shard.",
    )
