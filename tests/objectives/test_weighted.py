"""Weighted: the sum of terms, their units, and their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives import (
    TAID,
    CrossEntropy,
    ForwardKL,
    Loss,
    LossInputs,
    Objective,
    ReverseKL,
    Weighted,
)
from kdlight.sources import Dense, Index
from tests.support.objectives import grad


class PerSequence(Objective):
    """The squared mean logit of each sequence, an objective with another unit than tokens."""

    needs = frozenset()
    unit = "sequence"

    def forward(self, inputs: LossInputs) -> Loss:
        values = inputs.student.logits().mean((-1, -2)).square()
        return Loss(
            values.sum(), torch.tensor(values.numel()), {"twice": 2 * values.detach().sum()}
        )


@pytest.fixture
def terms() -> dict[str, Objective]:
    return {"kd": ForwardKL(temperature=2.0), "taid": TAID(log_cross_entropy=True)}


def test_a_mixture_is_the_sum_of_its_terms(terms: dict[str, Objective], inputs: LossInputs) -> None:
    weights = {"kd": 0.5, "taid": 2.0}
    loss = Weighted(terms, weights)(inputs)
    alone = {name: term(inputs) for name, term in terms.items()}
    expected = sum(weights[name] * alone[name].total for name in terms)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(
        grad(loss, inputs),
        sum(weights[name] * grad(alone[name], inputs) for name in terms),
    )
    assert loss.count == inputs.mask.sum()  # type: ignore[union-attr]
    assert set(loss.parts) == {"kd", "taid", "taid/cross_entropy"}
    assert loss.parts["kd"] == alone["kd"].total
    assert loss.parts["taid/cross_entropy"] == alone["taid"].parts["cross_entropy"]


class Counted(Dense):
    """A source that counts how often rows are selected, and is never evaluated as a whole."""

    selections = 0

    def select(self, index: Index) -> Dense:
        Counted.selections += 1
        return super().select(index)

    def logits(self) -> Tensor:
        raise AssertionError("all positions were evaluated, but only some are valid")


def test_the_logits_of_a_mixture_are_computed_once(
    inputs: LossInputs, terms: dict[str, Objective], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counted, "selections", 0)
    student = Counted(inputs.student.logits())
    mixture = Weighted({**terms, "ce": CrossEntropy()})
    mixture(LossInputs(student, inputs.teacher, inputs.labels, inputs.mask))
    assert Counted.selections == 1


def test_a_mixture_may_hold_a_mixture(inputs: LossInputs) -> None:
    inner = Weighted({"a": ForwardKL(), "b": CrossEntropy()}, {"b": 0.5})
    nested = Weighted({"inner": inner, "c": ReverseKL()}, {"inner": 3.0})
    flat = Weighted({"a": ForwardKL(), "b": CrossEntropy(), "c": ReverseKL()}, {"a": 3.0, "b": 1.5})
    torch.testing.assert_close(nested(inputs).total, flat(inputs).total)
    assert nested(inputs).count == flat(inputs).count
    assert {"inner", "inner/a", "inner/b", "c"} == set(nested(inputs).parts)
    assert nested.needs == {"labels", "teacher"}


def test_another_unit_is_converted_to_tokens(inputs: LossInputs) -> None:
    other, tokens = PerSequence(), inputs.mask.sum()  # type: ignore[union-attr]
    mixture = Weighted({"kd": ForwardKL(), "other": other}, {"other": 0.5})
    loss = mixture(inputs)
    assert (mixture.unit, loss.count) == ("token", tokens)
    torch.testing.assert_close(
        loss.mean(), ForwardKL()(inputs).mean() + 0.5 * other(inputs).mean(), check_dtype=False
    )
    torch.testing.assert_close(loss.parts["other"], other(inputs).mean() * tokens)
    torch.testing.assert_close(loss.parts["other/twice"], 2 * loss.parts["other"])


def test_a_unit_that_all_terms_share_stays(inputs: LossInputs) -> None:
    mixture = Weighted({"one": PerSequence(), "two": PerSequence()})
    assert (mixture.unit, mixture(inputs).count) == ("sequence", 2)
    assert "teacher" not in mixture.needs


def test_a_masked_mixture_is_that_of_the_valid_positions(
    inputs: LossInputs, terms: dict[str, Objective]
) -> None:
    mask, mixture = inputs.mask, Weighted({**terms, "ce": CrossEntropy()})
    assert mask is not None
    assert inputs.labels is not None
    left = LossInputs(
        inputs.student.logits()[mask],
        inputs.teacher.logits()[mask],  # type: ignore[union-attr]
        inputs.labels[mask],
    )
    torch.testing.assert_close(mixture(inputs).total, mixture(left).total)
    none = mixture(
        LossInputs(inputs.student, inputs.teacher, inputs.labels, torch.zeros_like(mask))
    )
    assert none.count == none.total == none.mean() == 0
    assert not grad(none, inputs).any()


def test_a_weight_is_a_plain_number_that_may_change(
    inputs: LossInputs, terms: dict[str, Objective]
) -> None:
    mixture = Weighted(terms)
    assert mixture.weights == {"kd": 1.0, "taid": 1.0}
    mixture.weights["kd"] = 0.0
    torch.testing.assert_close(mixture(inputs).total, terms["taid"](inputs).total)


def test_a_weight_without_a_term_is_refused(terms: dict[str, Objective]) -> None:
    with pytest.raises(ValueError, match=r"weights has \['ce'\], but the terms are \['kd', 't"):
        Weighted(terms, {"ce": 1.0})
    with pytest.raises(ValueError, match="terms is empty"):
        Weighted({})


def test_a_missing_field_of_a_term_is_named(student: Tensor) -> None:
    with pytest.raises(ValueError, match="CrossEntropy needs labels"):
        Weighted({"kd": ForwardKL(), "ce": CrossEntropy()})(LossInputs(student, student))


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_a_weight_is_finite_and_not_negative(weight: float, inputs: LossInputs) -> None:
    message = r"weights\['ce'\] must be in \[0.0, inf\), got"
    with pytest.raises(ValueError, match=message):
        Weighted({"ce": CrossEntropy()}, {"ce": weight})
    mixture = Weighted({"ce": CrossEntropy()})
    mixture.weights["ce"] = weight  # as a schedule does
    with pytest.raises(ValueError, match=message):
        mixture(inputs)


@pytest.mark.parametrize(
    "name", ["", "a.b", "a/b", "loss", "tokens_seen", "samples_per_second", "keys", "t", "a b"]
)
def test_a_name_that_cannot_be_logged_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"name of a term .*, got '{name}'; choose another name"):
        Weighted({name: ForwardKL()})


@pytest.mark.parametrize(
    ("term", "got"),
    [
        (None, "got None"),
        (ForwardKL, r"got the class ForwardKL; create an instance: ForwardKL\(...\)"),
        ("forward_kl", "got a value of type str"),
    ],
    ids=["none", "class", "text"],
)
def test_a_term_is_an_instance(term: Any, got: str) -> None:
    with pytest.raises(TypeError, match=rf"terms\['kd'\] must be an instance of Objective, {got}"):
        Weighted({"kd": term})


def test_a_weight_of_zero_silences_an_infinite_term() -> None:
    student = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    inputs = LossInputs(student, torch.zeros(1, 2), torch.tensor([0]))
    loss = Weighted({"kd": ForwardKL(), "ce": CrossEntropy()}, {"kd": 0.0})(inputs)
    assert loss.total == CrossEntropy()(inputs).total == 0
    assert torch.autograd.grad(loss.total, student)[0].isfinite().all()


def test_units_are_converted_exactly_whatever_the_default_dtype(inputs: LossInputs) -> None:
    student = torch.randn(3, 401, 5)
    mixture = Weighted({"ce": CrossEntropy(), "other": PerSequence()})
    labels = torch.zeros(3, 401, dtype=torch.long)
    expected = mixture(LossInputs(student, labels=labels)).total
    torch.set_default_dtype(torch.bfloat16)
    try:
        actual = mixture(LossInputs(student, labels=labels)).total
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(actual, expected)
