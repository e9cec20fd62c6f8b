"""Two networks for the digits: their sizes, and what the large one learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.data import DigitsDataModule
from kdlight.models.digits import ConvNet, TinyNet


def everything(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_networks_take_other_sizes():
    assert ConvNet(channels=2, classes=3, size=12)(torch.zeros(2, 1, 12, 12)).shape == (2, 3)
    assert TinyNet(width=2, classes=3, size=5)(torch.zeros(2, 1, 5, 5)).shape == (2, 3)
    with pytest.raises(ValueError, match="multiple of 4"):
        ConvNet(size=10)


@pytest.mark.slow
def test_the_large_network_learns_the_digits():
    data = DigitsDataModule()
    data.setup()
    net = ConvNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    loader: Any = data.train_dataloader()
    for epoch in range(10):
        loader.sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    images, labels = everything(data.val_dataloader())
    accuracy = (net.eval()(images).argmax(-1) == labels).float().mean()
    assert accuracy > 0.97
