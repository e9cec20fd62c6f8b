"""Several teachers in one fit: their average, and rows that name their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import CachedTeacher, FrozenTeacher, SelectiveTeacher, TeacherEnsemble, TopK
from kdlight.cache import Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.objectives import ForwardKL, LossInputs
from tests.support import toy

A, B = (FrozenTeacher(toy.ToyLM(12, seed=seed)) for seed in (2, 3))


@pytest.fixture
def batch() -> dict[str, Any]:
    return next(iter(toy.loader(5)))


@pytest.fixture
def cached(tmp_path: Path) -> CachedTeacher:
    """Return the logits of the second teacher from disk."""
    module = toy.module()
    module.teacher = B
    settings = Settings(k=None, bits=32)
    data = toy.RaggedModule(5)
    write_cache(module, data, toy.trainer(tmp_path), str(tmp_path / "cache"), settings)
    return CachedTeacher(str(tmp_path / "cache"))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_probabilities_are_averaged(batch: Any, cached: CachedTeacher) -> None:
    p, q = (teacher(batch).logits().softmax(-1) for teacher in (A, B))
    mask = batch["labels"].roll(-1, 1) != -100
    mask[:, -1] = False
    for second in (B, cached):
        ensemble = TeacherEnsemble({"a": A, "b": second}, weights={"a": 3.0})
        rows = ensemble(batch).select(mask.flatten().nonzero().flatten())
        student = torch.randn(int(mask.sum()), toy.VOCABULARY)
        close(rows.given_student(student).exp(), (0.75 * p + 0.25 * q)[mask])  # type: ignore[attr-defined]
    close(TeacherEnsemble({"a": A, "b": B})(batch).logits().exp(), (p + q) / 2)


@pytest.mark.parametrize("names", [["b", "a", "a", "b", "a"], torch.tensor([1, 0, 0, 1, 0])])
def test_each_row_gets_the_logits_of_the_teacher_it_names(
    names: Any, batch: Any, cached: CachedTeacher
) -> None:
    routed = {**batch, "whose": names}
    at_b = torch.tensor([True, False, False, True, False])
    expected = torch.where(at_b[:, None, None], B(batch).logits(), A(batch).logits())
    source = TeacherEnsemble({"a": A, "b": B}, route_by="whose")(routed)
    assert source.shape == expected.shape
    close(source.logits(), expected)
    index = torch.tensor([0, 17, 3, expected[..., 0].numel() - 1])
    close(source.select(index).logits(), expected.flatten(0, 1)[index])
    assert source.select(torch.empty(0, dtype=torch.long)).logits().shape == (0, toy.VOCABULARY)
    # live and cached, in a loss
    student = toy.ToyLM(seed=1)(batch).logits()
    labels = batch["labels"].roll(-1, 1)
    labels[:, -1] = -100
    losses = [
        ForwardKL()(LossInputs(student, each, labels, labels != -100)).total
        for each in (expected, TeacherEnsemble({"a": A, "b": cached}, route_by="whose")(routed))
    ]
    close(losses[1], losses[0])


def test_a_fit_with_two_teachers(tmp_path: Path, cached: CachedTeacher) -> None:
    module = toy.module(ForwardKL())
    module.teacher = TeacherEnsemble({"a": toy.ToyLM(12, seed=2), "b": cached})
    toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(4))
    assert all("teacher" not in name for name in module.state_dict())


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"teachers": {}}, "at least one teacher"),
    ({"teachers": {"a": A}, "weights": {"b": 1.0}}, r"weights must be of \['a'\]"),
    ({"teachers": {"a": A}, "weights": {"a": 0.0}}, "must not all be 0"),
    ({"teachers": {"a": A}, "weights": {"a": 1.0}, "route_by": "x"}, "leave out weights"),
]


@pytest.mark.parametrize(("options", "message"), INVALID)
def test_invalid_arguments_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherEnsemble(**options)


def test_teachers_without_names_raise() -> None:
    with pytest.raises(TypeError, match=r"as in \{'large': ..., 'small': ...\}, got list"):
        TeacherEnsemble([A, B])  # pyright: ignore[reportArgumentType]


def test_a_field_that_names_no_teacher_raises(batch: Any) -> None:
    ensemble = TeacherEnsemble({"a": A, "b": B}, route_by="whose")
    with pytest.raises(ValueError, match="is not a field of the batch, which has"):
        ensemble(batch)
    with pytest.raises(ValueError, match=r"not among \['a', 'b'\]"):
        ensemble({**batch, "whose": ["a", "b", "c", "a", "a"]})


def test_networks_are_those_of_all_live_teachers(cached: CachedTeacher) -> None:
    ensemble = TeacherEnsemble({"a": SelectiveTeacher(A), "b": cached, "c": B})
    assert ensemble.networks() == [A.model, B.model]
    assert isinstance(cached(next(iter(toy.loader(2)))), TopK)
