"""Laws that hold for every family of models, whichever way its networks are given.

`tests.families.reference` says what is right, with plain transformers and plain torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule
from kdlight.export import export_student
from kdlight.models import call_network
from kdlight.objectives import CrossEntropy, ForwardKL, Weighted
from kdlight.sources import Projected
from tests.families import reference
from tests.families.families import CASES, FAMILIES
from tests.families.family import Family, padded_left, without_padding
from tests.support import toy

each_way = pytest.mark.parametrize(("name", "way"), CASES)


def networks(name: str) -> tuple[Family, nn.Module, nn.Module]:
    family = FAMILIES[name]
    return family, family.make(0), family.make(1)


def distillation(
    family: Family, way: str, student: nn.Module, teacher: nn.Module, **options: Any
) -> DistillationModule:
    terms: dict[str, Any] = {"kl": ForwardKL()}
    if family.labels != "none":
        terms["ce"] = CrossEntropy()
    wrap = family.ways[way]
    return DistillationModule(
        student=wrap(student),
        teacher=wrap(teacher),
        objective=Weighted(terms, weights={"ce": reference.CE_WEIGHT} if "ce" in terms else None),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=reference.RATE),
        ignore_index=family.ignored,
        **options,
    )


def loader(*batches: Any) -> DataLoader:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def close(got: Tensor, expected: Tensor, family: Family) -> None:
    far = family.tolerance
    torch.testing.assert_close(got, expected.to(got.dtype), rtol=far, atol=far)


@each_way
@torch.no_grad()
def test_logits_are_the_model_s_own(name: str, way: str) -> None:
    family, network, other = networks(name)
    wrapped = family.ways[way](network).eval()
    for number in (0, 1):
        batch = family.batch(number)
        got, expected = call_network(wrapped, batch).logits(), family.logits(network, batch)
        close(got, expected, family)
        assert (expected - family.logits(other, batch)).abs().max() > 0.05  # so that laws can fail


@each_way
@pytest.mark.parametrize("chunked", [True, False], ids=["in chunks", "whole"])
def test_a_loss_is_that_of_plain_torch(name: str, way: str, chunked: bool) -> None:
    family, student, teacher = networks(name)
    module = distillation(family, way, student, teacher, chunked=chunked).eval()
    batch = family.batch(0)
    expected = reference.rows(family, student, teacher, batch)
    loss = module.objective(module.loss_inputs(batch))
    assert int(loss.count) == len(expected.student)
    close(loss.total, reference.losses(expected), family)


@each_way
def test_a_step_is_a_hand_written_one(name: str, way: str, tmp_path: Path) -> None:
    family, student, teacher = networks(name)
    expected = reference.after_one_step(
        family, student, teacher, [family.batch(number) for number in (0, 1)]
    )
    before = {key: value.clone() for key, value in student.state_dict().items()}
    if not hasattr(student, "save_pretrained"):  # Lightning trains a network in its own mode
        student.train()
    module = distillation(family, way, student, teacher)
    trainer = toy.trainer(tmp_path, accumulate_grad_batches=2)
    trainer.fit(module, loader(family.batch(0), family.batch(1)))
    after = student.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())
    for key, value in expected.items():
        close(after[key], value, family)


@each_way
def test_metrics_are_hand_made_ones(name: str, way: str, tmp_path: Path) -> None:
    family, student, teacher = networks(name)
    expected = reference.metrics(
        family, student, teacher, [family.batch(number) for number in (0, 1)]
    )
    module = distillation(family, way, student, teacher)
    (got,) = toy.trainer(tmp_path).validate(
        module, loader(family.batch(0), family.batch(1)), verbose=False
    )
    assert {key: got[f"val/{key}"] for key in expected} == pytest.approx(expected, rel=1e-5)


@each_way
@torch.no_grad()
def test_an_export_is_read_without_kdlight(name: str, way: str, tmp_path: Path) -> None:
    family, student, teacher = networks(name)
    batch = family.batch(0)
    expected = family.logits(student, batch)
    module = distillation(family, way, student, teacher)
    if hasattr(student, "save_pretrained"):
        export_student(module.student, tmp_path)
        kind: Any = type(student)
        loaded = kind.from_pretrained(tmp_path, dtype=next(student.parameters()).dtype)
    else:  # the weights of a checkpoint, under the names of the network in its wrapper
        loaded = family.make(2)
        prefix = next(n for n, part in module.named_modules() if part is student) + "."
        weights = module.state_dict().items()
        loaded.load_state_dict(
            {key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)}
        )
    close(family.logits(loaded.eval(), batch), expected, family)


# ---- padding, pictures, the fast path


@pytest.mark.parametrize(
    ("name", "way", "side"),
    [(name, way, side) for name, way in CASES for side in FAMILIES[name].padding],
)
@torch.no_grad()
def test_padding_changes_nothing(name: str, way: str, side: str) -> None:
    family, network, _ = networks(name)
    batch = family.batch(0)
    alone = [family.logits(network, row) for row in without_padding(batch)]
    padded = batch if side == "right" else padded_left(batch)
    got = call_network(family.ways[way](network).eval(), padded).logits()
    if got.shape[:2] == batch["attention_mask"].shape and family.labels != "none":
        got, alone = got[padded["attention_mask"] == 1], [row[0] for row in alone]
    expected = torch.cat(alone)
    expected = expected.to(got.dtype)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.picture])
@torch.no_grad()
def test_logits_depend_on_the_picture(name: str) -> None:
    family, network, _ = networks(name)
    batch = family.batch(0)
    other = {**batch, family.picture: -batch[family.picture]}
    assert (family.logits(network, batch) - family.logits(network, other)).abs().max() > 1e-2
    for wrap in family.ways.values():
        wrapped = wrap(network).eval()
        close(call_network(wrapped, other).logits(), family.logits(network, other), family)


WRAPPED = [name for name, way in CASES if way == "CausalLM"]


@pytest.mark.parametrize("name", WRAPPED)
def test_the_fast_path_is_compared_with_the_model(name: str) -> None:
    family, network, _ = networks(name)
    wrapped, batch = CausalLM.wrap(network).eval(), family.batch(0)
    is_fast = isinstance(wrapped(batch), Projected)
    assert is_fast == (family.labels == "next token")
    assert wrapped.compare_with_model(batch) < 1e-5
    assert isinstance(wrapped(batch), Projected) == is_fast


@pytest.mark.parametrize("name", [n for n in WRAPPED if FAMILIES[n].labels == "next token"])
def test_a_model_that_changes_its_logits_leaves_the_fast_path(name: str, tmp_path: Path) -> None:
    family, student, teacher = networks(name)
    module = distillation(family, "CausalLM", student, teacher)
    batch = family.batch(0)

    def add(model: nn.Module, args: Any, output: Any) -> Any:
        output.logits = output.logits + torch.linspace(0, 3, output.logits.shape[-1]).to(output[0])
        return output

    for network in (student, teacher):
        network.register_forward_hook(add)
    expected = reference.after_one_step(family, student, teacher, [batch])
    with pytest.warns(UserWarning, match="differ from the model's own") as caught:
        toy.trainer(tmp_path).fit(module, loader(batch))
    assert len([each for each in caught if "differ from" in str(each.message)]) == 2
    for key, value in expected.items():
        close(student.state_dict()[key], value, family)
