"""What is computed again in a backward pass, under the conditions of the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import torch
from torch.utils.checkpoint import get_device_states, set_device_states

T = TypeVar("T")


def current_autocast(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Return a function that makes contexts with the autocast of now, on the device and the CPU.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     autocast = current_autocast(torch.device("cpu"))
        >>> with autocast():
        ...     torch.is_autocast_enabled("cpu")
        True
    """
    states = {
        kind: {
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        for kind in dict.fromkeys(("cpu", device.type))
        if torch.amp.is_autocast_available(kind)
    }

    @contextmanager
    def autocast() -> Iterator[None]:
        with ExitStack() as stack:
            for kind, state in states.items():
                stack.enter_context(torch.autocast(kind, **state))
            yield

    return autocast


class Recomputation:
    """Runs a computation, and runs it again with the same autocast and the same random numbers.

    `torch.utils.checkpoint` does so for a part of a model. This is for autograd functions that
    compute a part of their forward pass again. Without it a product would be in bfloat16 in the
    forward pass and in float32, or refused, in the backward pass, which autograd runs without
    autocast; and a dropout would drop other units.

    The autocast is that of the time when the object is created, the random state that of the first
    call. The calls after it leave the random state as it was before them.

    Args:
        device: where the computation runs.

    Example:
        >>> run = Recomputation(torch.device("cpu"))
        >>> first, second = (run(lambda: torch.rand(2)) for _ in range(2))
        >>> torch.equal(first, second), torch.equal(first, torch.rand(2))
        (True, False)
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._autocast = device, current_autocast(device)
        self._random: tuple[torch.Tensor, list[int], list[torch.Tensor]] | None = None

    def __call__(self, compute: Callable[[], T]) -> T:
        """Run ``compute``, which must use random numbers in the same way in each call."""
        if self._random is None:
            on_device = torch.empty(0, device=self._device)
            self._random = (torch.get_rng_state(), *get_device_states(on_device))
            with self._autocast():
                return compute()
        cpu, devices, states = self._random
        kind = self._device.type if devices else "cuda"  # without devices it has no effect
        with torch.random.fork_rng(devices, device_type=kind), self._autocast():
            torch.set_rng_state(cpu)
            set_device_states(devices, states, device_type=kind)
            return compute()
