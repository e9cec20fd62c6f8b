"""A check that several answers to a prompt can differ."""

from __future__ import annotations

from kdlight.models.sampling import Sampling


def check_samples(name: str, samples: int, sampling: Sampling) -> None:
    """Raise an error for several answers to a prompt that would all be the same.

    Args:
        name: name of the argument that is their number.
        samples: their number.
        sampling: how the student generates.

    Raises:
        ValueError: Generation is greedy.

    Example:
        >>> check_samples("probe", 8, Sampling(temperature=0.0))
        Traceback (most recent call last):
        ValueError: probe is 8, but with sampling.temperature 0 all answers to a prompt are the ...
    """
    if samples > 1 and sampling.temperature == 0:
        raise ValueError(
            f"{name} is {samples}, but with sampling.temperature 0 all answers to a prompt are the"
            f" same; set a temperature above 0, or {name} to 1"
        )
