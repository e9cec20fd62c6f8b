"""A teacher with another vocabulary trains a student like one with the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import AlignedTeacher, FrozenTeacher, Projected, TopK
from kdlight.objectives import ForwardKL, LossInputs, Objective, Weighted, build_objective
from kdlight.reduce import Chunking
from kdlight.sources import Aligned, Dense, masked_columns
from kdlight.vocabulary import align
from tests.support import toy


def alignment(size: int, teacher_size: int, order: list[int]) -> Any:
    """Align student id i with teacher id order[i]."""
    student = {str(i): i for i in range(len(order))}
    teacher = {str(i): id for i, id in enumerate(order)}
    policy = "shared" if order == sorted(order) else "map"
    return align(student, teacher, policy=policy, student_size=size, teacher_size=teacher_size)


@pytest.fixture
def student(generator: torch.Generator) -> Tensor:
    return torch.randn(5, 9, dtype=torch.float64, generator=generator).requires_grad_()


def test_columns_outside_the_shared_vocabulary_have_no_mass(
    student: Tensor, generator: torch.Generator
) -> None:
    teacher = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    source = Aligned(Dense(teacher), alignment(9, 8, [0, 1, 2, 3, 4, 5]))
    assert source.shape == (5, 9)
    assert (source.logits()[:, 6:] == -torch.inf).all()
    torch.testing.assert_close(source.logits()[:, :6], teacher[:, :6])
    assert source.select(torch.tensor([1])).shape == (1, 9)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jensen_shannon", "taid"])
def test_a_divergence_is_that_on_the_shared_vocabulary(
    name: str, generator: torch.Generator
) -> None:
    teacher = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    hidden = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    head, table = torch.nn.Linear(4, 9).double(), alignment(9, 8, [0, 1, 2, 3, 4, 5])
    objective, aligned = build_objective(name), Aligned(Dense(teacher), table)
    expected = objective(LossInputs(head(hidden)[:, :6], teacher[:, :6])).total
    whole = Projected(hidden, head)
    for student in (whole, Dense(whole.logits())):
        for chunked in (False, Chunking(block=2)):
            found = objective(
                LossInputs(masked_columns(student, table.student_only()), aligned, chunked=chunked)
            ).total
            torch.testing.assert_close(found, expected)
            slopes = [
                torch.autograd.grad(each, hidden, retain_graph=True) for each in (found, expected)
            ]
            torch.testing.assert_close(*slopes)


def test_a_permutation_is_undone(student: Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(9, generator=generator)
    teacher = torch.randn(5, 9, dtype=torch.float64, generator=generator)
    moved = torch.empty_like(teacher).index_copy(1, order, teacher)
    table = alignment(9, 9, order.tolist())
    for source in (Dense(moved), TopK.of(moved, 9)):
        found = Aligned(source, table).given_student(student).log_softmax(-1)
        torch.testing.assert_close(found, teacher.log_softmax(-1))
    few, straight = Aligned(TopK.of(moved, 3), table), TopK.of(teacher, 3)
    torch.testing.assert_close(few.given_student(student), straight.given_student(student))


class Tokens:
    """The method of a tokenizer that an alignment calls."""

    def __init__(self, order: list[int]) -> None:
        self.order = order

    def get_vocab(self) -> dict[str, int]:
        return {str(token): id for token, id in enumerate(self.order)}


class Reordered(toy.ToyLM):
    """The toy teacher with its ids in another order, and two columns without a token."""

    def __init__(self, order: list[int]) -> None:
        super().__init__(12, seed=2)
        ids, width = torch.tensor(order), toy.VOCABULARY + 2
        embed, head = self.embed.weight.data, self.head
        self.embed = torch.nn.Embedding(width, 12)
        self.embed.weight.data[ids] = embed
        self.head = torch.nn.Linear(12, width)
        self.head.weight.data[ids], self.head.bias.data[ids] = head.weight.data, head.bias.data
        self.vocab_size = width


@pytest.mark.parametrize("policy", ["shared", "map"])
def test_a_fit_is_that_with_the_teacher_in_the_students_order(policy: Any, tmp_path: Path) -> None:
    straight = list(range(toy.VOCABULARY))
    order = straight if policy == "shared" else straight[::-1]
    aligned = AlignedTeacher(
        Reordered(order),
        student_tokenizer=Tokens(straight),  # type: ignore[arg-type]
        teacher_tokenizer=Tokens(order),  # type: ignore[arg-type]
        policy=policy,
    )
    weights = []
    for teacher in (aligned, FrozenTeacher(toy.ToyLM(12, seed=2))):
        terms: dict[str, Objective] = {"kd": ForwardKL(), "ce": build_objective("cross_entropy")}
        module = toy.module(Weighted(terms))
        module.teacher = teacher
        toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(4))
        weights.append(module.student.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-6)


def test_an_unaligned_teacher_is_refused_by_its_size(tmp_path: Path) -> None:
    module = toy.module(ForwardKL())
    module.teacher = FrozenTeacher(Reordered(list(range(toy.VOCABULARY))))
    with pytest.raises(ValueError, match="vocabularies differ"):
        toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(4))
