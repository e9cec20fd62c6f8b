"""The weights that a client began with, which every request to ``kdlight serve`` names."""

from __future__ import annotations

HEADER = "X-Kdlight-Weights"


def expected_weights(weights: str | None) -> dict[str, str]:
    """Return the header of a request.

    Args:
        weights: the fingerprint that the server told when it was asked what it is.

    Example:
        >>> expected_weights("0123")
        {'X-Kdlight-Weights': '0123'}
    """
    return {} if weights is None else {HEADER: weights}


def other_weights(expected: str | None, weights: str) -> str | None:
    """Return why a server refuses a request; None if it is for its own weights.

    Args:
        expected: the header of the request; None without it.
        weights: the fingerprint of the server's weights.

    Example:
        >>> other_weights("0123", "0123") is None, other_weights(None, "0123") is None
        (True, True)
    """
    if expected in (None, weights):
        return None
    return (
        f"the server now has a teacher with the weights {weights}, but this run began with"
        f" {expected}; serve the same teacher again, or start a new run"
    )
