"""The gradient of a classifier is that of autograd, whatever stands at ignored positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdlight.ranking.classifier_gradient import classifier_gradient
from kdlight.ranking.places import find_places
from kdlight.ranking.recording import record


def found(network: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
    places = find_places(network, batch)
    seen = record(network, batch, places)
    return classifier_gradient(seen, seen.logits, labels, places.classifier)


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_it_is_that_of_autograd(shape: tuple[int, ...]) -> None:
    network = nn.Linear(4, 5).double()
    hidden = torch.randn(*shape, 4, dtype=torch.float64)
    labels = torch.randint(5, shape)
    labels.flatten()[0] = -100
    loss = nn.functional.cross_entropy(
        network(hidden).flatten(0, -2), labels.flatten(), reduction="sum"
    )
    (expected,) = torch.autograd.grad(loss, network.weight)
    torch.testing.assert_close(found(network, hidden, labels), expected)
    assert network.weight.grad is None


def test_ignored_positions_never_matter() -> None:
    network, labels = nn.Linear(4, 5), torch.tensor([1, -100, 3])
    hidden = torch.randn(3, 4)
    other = hidden.clone()
    other[1] = float("nan")
    assert torch.equal(found(network, hidden, labels), found(network, other, labels))


def test_logits_that_do_not_depend_on_the_classifier_are_refused() -> None:
    network, x = nn.Linear(4, 5), torch.randn(3, 4)
    places = find_places(network, x)
    seen = record(network, x, places)
    with pytest.raises(ValueError, match="the logits do not depend on Linear"):
        classifier_gradient(seen, seen.logits.detach(), torch.tensor([0, 1, 2]), places.classifier)


def test_a_normalization_after_the_classifier_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).eval()
    with pytest.raises(ValueError, match="must be linear, .* got BatchNorm1d"):
        found(network, torch.randn(6, 4), torch.randint(5, (6,)))
