"""The device on which a command runs a model."""

from __future__ import annotations


def find_device(name: str | None) -> str:
    """Return a device that can be used; by default an accelerator if there is one.

    Raises:
        ValueError: If there is no such device.

    Example:
        >>> find_device("cpu")
        'cpu'
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=name).item()
    # what torch raises for a name that it does not know, a backend that it was built without, and
    # a device that holds no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"device must be such as 'cpu' or 'cuda:0', got {name!r}: {reason}"
        ) from error
    return name
