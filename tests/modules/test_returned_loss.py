"""A term of one's own weighs what it says, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from kdlight import DistillationModule, SingleInput
from kdlight.modules.returned_loss import ReturnedLoss
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import runs, toy
from tests.support.own_module import Distilled, net

SIZES = (6, 6, 2, 12, 7)
RATE = 1e-2


def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, runs.WIDTH, generator=generator),
            torch.randint(runs.CLASSES, (size,), generator=generator),
        )
        for size in SIZES
    ]


def loader() -> Any:
    return torch.utils.data.DataLoader(batches(), batch_size=None)  # type: ignore[arg-type]


def penalty(network: nn.Module) -> Tensor:
    return 0.1 * next(network.parameters()).square().sum()


class WithExtra(DistillationModule):
    def extra_loss(self, batch: Any) -> Any:
        return penalty(self.student)


class WithTerms(DistillationModule):
    def extra_loss(self, batch: Any) -> Any:
        half = penalty(self.student) / 2
        return {"first": half, "second": half}


def make(kind: type[DistillationModule]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(
            student=SingleInput(nn.Linear(runs.WIDTH, runs.CLASSES)),
            objective=CrossEntropy(),
            optimizer=lambda groups: torch.optim.SGD(groups, lr=RATE),
        )


class Updates(Callback):
    def __init__(self) -> None:
        self.before: Tensor
        self.gradients: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        self.before = module.student.net.weight.detach().clone()

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self.gradients.append((self.before - module.student.net.weight.detach()) / RATE)


@pytest.mark.parametrize("kind", [WithExtra, WithTerms])
def test_an_extra_term_has_its_weight_whatever_the_batch_size(kind: Any, tmp_path: Path) -> None:
    module, updates = make(kind), Updates()
    by_hand = make(DistillationModule)
    toy.trainer(tmp_path, callbacks=[updates]).fit(module, loader())
    optimizer = torch.optim.SGD(by_hand.student.parameters(), lr=RATE)
    for (x, y), got in zip(batches(), updates.gradients, strict=True):
        optimizer.zero_grad()
        network = by_hand.student.net
        (nn.functional.cross_entropy(network(x), y) + penalty(network)).backward()
        torch.testing.assert_close(got, network.weight.grad, rtol=1e-4, atol=1e-4)
        optimizer.step()


def test_an_extra_term_of_an_accumulated_step_is_weighted_like_one_batch(tmp_path: Path) -> None:
    module = make(WithExtra)
    before = module.student.net.weight.detach().clone()
    trainer = toy.trainer(tmp_path, accumulate_grad_batches=len(SIZES))
    trainer.fit(module, loader())
    network = make(DistillationModule).student.net
    xs, ys = (torch.cat(each) for each in zip(*batches(), strict=True))
    (nn.functional.cross_entropy(network(xs), ys) + penalty(network)).backward()
    got = (before - module.student.net.weight.detach()) / RATE
    torch.testing.assert_close(got, network.weight.grad, rtol=1e-4, atol=1e-4)
    extra = float(trainer.callback_metrics["train/extra"])
    assert extra == pytest.approx(penalty(make(DistillationModule).student.net).item(), rel=1e-5)


class Adds(DistillationModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + penalty(self.student)


class AddsToMixin(Distilled):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        return {**output, "loss": output["loss"] + penalty(self.net)}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_term_that_is_added_in_the_training_step_is_refused(
    accumulate: int, tmp_path: Path
) -> None:
    mixed = AddsToMixin().distill(ForwardKL(), net(9, seed=2))
    for module in (make(Adds), mixed):
        trainer = toy.trainer(tmp_path, accumulate_grad_batches=accumulate)
        with pytest.raises(ValueError, match=r"Adds.*Return it from extra_loss\(batch\)"):
            trainer.fit(module, loader())


class Doubles(DistillationModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


class OwnLoss(DistillationModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return 2 * nn.functional.cross_entropy(self(x), y)


@pytest.mark.parametrize("kind", [Doubles, OwnLoss])
def test_a_constant_factor_or_a_loss_of_ones_own_weighs_what_it_says(
    kind: Any, tmp_path: Path
) -> None:
    module, updates = make(kind), Updates()
    toy.trainer(tmp_path, callbacks=[updates], max_steps=1).fit(module, loader())
    network = make(DistillationModule).student.net
    x, y = batches()[0]
    (2 * nn.functional.cross_entropy(network(x), y)).backward()
    torch.testing.assert_close(updates.gradients[0], network.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [Tensor.square, Tensor.log, lambda loss: loss.clamp(max=0.5)],
    ids=["square", "log", "clamp"],
)
def test_a_function_of_the_loss_that_is_not_linear_is_refused(change: Any, tmp_path: Path) -> None:
    class Changed(DistillationModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return change(super().training_step(batch, batch_idx))

    with pytest.raises(ValueError, match="returned another loss"):
        toy.trainer(tmp_path).fit(make(Changed), loader())


def test_a_term_that_is_no_number_is_refused(tmp_path: Path) -> None:
    class Vector(DistillationModule):
        def extra_loss(self, batch: Any) -> Any:
            return {"l1": next(self.student.parameters()).abs().sum(1)}

    with pytest.raises(ValueError, match=r"the term 'l1' of extra_loss must be one number"):
        toy.trainer(tmp_path).fit(make(Vector), loader())


def test_a_term_named_like_a_part_of_the_objective_is_refused(tmp_path: Path) -> None:
    class Same(DistillationModule):
        def learner_losses(self, batch: Any) -> Any:
            losses = super().learner_losses(batch)
            loss, inputs = losses["student"]
            return {"student": (loss._replace(parts={"extra": loss.total.detach()}), inputs)}

        def extra_loss(self, batch: Any) -> Any:
            return penalty(self.student)

    with pytest.raises(ValueError, match="a term of extra_loss is called 'extra'"):
        toy.trainer(tmp_path).fit(make(Same), loader())


@pytest.mark.parametrize("name", ["loss", "samples_seen", "a.b", ""])
def test_a_term_of_a_name_that_is_logged_anyway_is_refused(name: str, tmp_path: Path) -> None:
    class Named(DistillationModule):
        def extra_loss(self, batch: Any) -> Any:
            return {name: penalty(self.student)}

    with pytest.raises(ValueError, match="the name of a term"):
        toy.trainer(tmp_path).fit(make(Named), loader())


def test_a_loss_without_gradients_is_not_checked() -> None:
    loss = ReturnedLoss()
    loss.check(torch.ones(()), "Module")
    assert torch.equal(loss.remember(torch.ones(())), torch.ones(()))
