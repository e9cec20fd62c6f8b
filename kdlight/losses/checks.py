"""Ranges of hyper-parameters, refused at the door with the value that was got."""

from __future__ import annotations


def check_range(
    name: str, value: float, low: float, high: float, *, open_high: bool = False
) -> None:
    """Refuse a number outside ``[low, high]``, or ``[low, high)`` with ``open_high``.

    Raises:
        ValueError: Naming the argument, the range and the value; a NaN is outside every range.
    """
    if not low <= value <= high or (open_high and value == high):
        end = ")" if open_high else "]"
        raise ValueError(f"{name} must be in [{low}, {high}{end}, got {value}")
