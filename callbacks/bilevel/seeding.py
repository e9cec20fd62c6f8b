"""Seeds of the generators that a pass of a network draws from."""

from __future__ import annotations

import torch


def seed(number: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of one device.

    `torch.manual_seed` does so for the devices of all kinds, and takes milliseconds where there is
    none.

    Example:
        >>> draws = []
        >>> for _ in range(2):
        ...     seed(0, torch.device("cpu"))
        ...     draws.append(torch.rand(()).item())
        >>> draws[0] == draws[1]
        True
    """
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)
