"""Batch normalization counts a batch once, also where the student runs twice on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import DistillationMixin
from kdlight.modules.running_statistics import kept_running_statistics
from kdlight.objectives import ForwardKL
from tests.support import runs, toy
from tests.support.own_module import Classifier, net


def normalized() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(runs.WIDTH, 6), nn.BatchNorm1d(6), nn.Linear(6, runs.CLASSES)
        )


class Own(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = normalized()


class TwoPasses(DistillationMixin, Own):
    def student_logits(self, batch: Any) -> Tensor:
        return self(batch[0])

    def teacher_logits(self, batch: Any) -> Any:
        return self.teacher(batch[0])


class Gives(Own):
    """A training step that returns its logits."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self(x)
        return {"loss": nn.functional.cross_entropy(logits, y), "logits": logits, "size": len(x)}


class OnePass(DistillationMixin, Gives):
    def teacher_logits(self, batch: Any) -> Any:
        return self.teacher(batch[0])


def test_one_pass_and_two_passes_train_alike_and_count_each_batch_once(tmp_path: Path) -> None:
    modules = [kind().distill(ForwardKL(), net(9, seed=2)) for kind in (TwoPasses, OnePass)]
    for module in modules:
        toy.trainer(tmp_path, accumulate_grad_batches=2).fit(module, runs.loader())
    alone = Own()
    toy.trainer(tmp_path).fit(alone, runs.loader())
    for module in (alone, *modules):
        assert module.net[1].num_batches_tracked == runs.BATCHES
    one, two = (module.state_dict() for module in modules)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-5)


def test_the_network_of_one_pass_runs_once_a_batch(tmp_path: Path) -> None:
    module = OnePass().distill(ForwardKL(), net(9, seed=2))
    calls = []
    module.net.register_forward_hook(lambda *args: calls.append(1))
    toy.trainer(tmp_path).fit(module, runs.loader())
    assert len(calls) == runs.BATCHES


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_restored_after_an_error_too(momentum: float | None) -> None:
    norm = nn.BatchNorm1d(2, momentum=momentum)
    norm(torch.randn(4, 2))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with pytest.raises(ValueError, match="got 3D input"), kept_running_statistics(norm):
        nn.BatchNorm2d(2)(norm(torch.randn(4, 2)).unsqueeze(-1))
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_gradient_through_both_passes_is_the_sum_of_theirs() -> None:
    network, x = normalized(), torch.randn(5, runs.WIDTH)
    first = network(x).square().sum()
    with kept_running_statistics(network):
        second = network(x).sin().sum()
    (first + second).backward()
    got = [p.grad for p in network.parameters()]
    other = normalized()
    y = other(x)
    (y.square().sum() + y.sin().sum()).backward()
    for gradient, parameter in zip(got, other.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_logits_without_a_graph_are_refused(tmp_path: Path) -> None:
    class GivesDetached(Gives):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            return {**output, "logits": output["logits"].detach()}

    module = type("Mixed", (DistillationMixin, GivesDetached), {})()
    module.distill(ForwardKL(), net(9, seed=2))
    with pytest.raises(ValueError, match="return logits that are not detached"):
        toy.trainer(tmp_path).fit(module, runs.loader())
