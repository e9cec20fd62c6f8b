"""A device that can be used is returned, and any other name is refused."""

from __future__ import annotations

import pytest
import torch

from kdlight.cli.devices import find_device


def test_the_default_is_an_accelerator_if_there_is_one() -> None:
    assert find_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["xx", "meta", "cuda:99", ""])
def test_a_device_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"device must be such as .*, got {name!r}"):
        find_device(name)
