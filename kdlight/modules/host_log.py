"""Numbers that are logged without a copy to the device."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule


class HostLog(LightningModule):
    """A module whose logged numbers stay on the host.

    Lightning copies every number that is logged to the device, and copies it back for the progress
    bar and the logger. For each copy the host waits until the device has done all that it was given
    before. A number that is reduced over ranks still goes to the device, as a backend may only
    reduce what is there.

    Example:
        >>> module = HostLog()
        >>> issubclass(HostLog, LightningModule)
        True
    """

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log a value as `lightning.pytorch.LightningModule.log` does."""
        if isinstance(value, (int, float)) and not (args or kwargs.get("sync_dist")):
            # as Lightning does: within a step of bf16-true the default dtype is half precision
            dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
            value = torch.tensor(value, dtype=dtype)
        super().log(name, value, *args, **kwargs)
