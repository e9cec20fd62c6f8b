"""The chunked driver gives what plain autograd gives, whatever the sizes of chunk and block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kdlight import Chunking, Dense, Projected
from kdlight.models.head import Rescale
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    Divergence,
    ForwardKL,
    LearnableTemperature,
    LossInputs,
    Objective,
    ReverseKL,
    TokenObjective,
    Weighted,
    build_objective,
)
from kdlight.reduce import token_sum, token_values

N, D, E, V = 13, 4, 6, 17
SIZES = [Chunking(5, 2), Chunking(1, 1), Chunking(100, 100), Chunking(4, 3)]

TOKEN = {name: kind for name, kind in OBJECTIVES.items() if issubclass(kind, TokenObjective)}
EVERY: dict[str, Callable[[], Objective]] = {
    **{name: lambda name=name: build_objective(name) for name in TOKEN},
    "mixture": lambda: Weighted(
        {"kd": ReverseKL(temperature=2.0), "ce": CrossEntropy(), "ctkd": LearnableTemperature()},
        weights={"ce": 0.3, "ctkd": -0.5},
    ),
}


class Data:
    """Hidden states, heads, labels and a mask; positions ``(N,)``."""

    def __init__(self, dtype: torch.dtype = torch.float64, *, bias: bool = True) -> None:
        make = torch.Generator().manual_seed(3)

        def tensor(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=make, dtype=torch.float64).to(dtype)

        self.hidden, self.teacher_hidden = tensor(N, D).requires_grad_(), tensor(N, E)
        self.head, self.teacher_head = nn.Linear(D, V, bias=bias), nn.Linear(E, V, bias=bias)
        for head in (self.head, self.teacher_head):
            head.to(dtype)
            for parameter in head.parameters():
                parameter.data = tensor(*parameter.shape)
        self.teacher_head.requires_grad_(False)
        self.parameters = list(self.head.parameters())
        self.labels = torch.randint(V, (N,), generator=make)
        self.mask = torch.rand(N, generator=make) < 0.7
        self.student = Projected(self.hidden, self.head)
        self.teacher = Projected(self.teacher_hidden, self.teacher_head)

    @property
    def leaves(self) -> list[Tensor]:
        return [x for x in (self.hidden, *self.parameters) if x.requires_grad]

    def step(self, chunked: Any, **changed: Any) -> LossInputs:
        fields: dict[str, Any] = {
            "student": self.student,
            "teacher": self.teacher,
            "labels": self.labels,
            "mask": self.mask,
        }
        return LossInputs(**{**fields, **changed}, chunked=chunked)

    def found(self, objective: Objective, chunked: Any, **changed: Any) -> list[Tensor]:
        """Value, count, parts and gradients, of an upstream gradient that is not 1."""
        loss = objective(self.step(chunked, **changed))
        leaves = [*self.leaves, *objective.parameters()]
        gradients = torch.autograd.grad(3.0 * loss.total, leaves, allow_unused=True)
        named = [loss.parts[name] for name in sorted(loss.parts)]
        return [loss.total.detach(), loss.count, *named, *(g for g in gradients if g is not None)]


def same(found: list[Tensor], expected: list[Tensor], rtol: float = 1e-10) -> None:
    assert len(found) == len(expected)
    for ours, plain in zip(found, expected, strict=True):
        scale = plain.double().abs().max().item() if plain.numel() else 0.0
        torch.testing.assert_close(ours, plain, rtol=rtol, atol=rtol * max(scale, 1e-30))


@pytest.mark.parametrize("chunking", SIZES, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_value_and_gradients_are_those_of_autograd(name, chunking):
    data, objective = Data(), EVERY[name]().double()
    same(data.found(objective, chunking), data.found(objective, False))


@pytest.mark.parametrize("name", EVERY)
def test_so_they_are_in_single_precision(name):
    data, objective = Data(torch.float32), EVERY[name]()
    same(data.found(objective, Chunking(5, 2)), data.found(objective, False), rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_no_worse_than_plain(name):
    data, objective = Data(torch.bfloat16), EVERY[name]()
    ours, plain = (data.found(objective, how) for how in (Chunking(5, 2), False))
    exact, wide = Data(), EVERY[name]().double()
    for narrow, param in zip(data.leaves, exact.leaves, strict=True):
        param.data = narrow.detach().double()
    exact.teacher_hidden.copy_(data.teacher_hidden)
    for narrow, param in zip(
        data.teacher_head.parameters(), exact.teacher_head.parameters(), strict=True
    ):
        param.data = narrow.double()
    for a, b, truth in zip(ours, plain, exact.found(wide, False), strict=True):
        scale = truth.double().norm() + 1e-12
        error, usual = ((x.double() - truth).norm() / scale for x in (a, b))
        assert error <= 1.25 * usual + 2**-9


@given(
    rows=st.integers(0, 9),
    kept=st.lists(st.booleans(), min_size=9, max_size=9),
    tokens=st.integers(1, 10),
    block=st.integers(1, 10),
)
def test_no_split_is_special(rows, kept, tokens, block):
    data = Data()
    data.student = Projected(data.hidden[:rows], data.head)
    data.teacher = Projected(data.teacher_hidden[:rows], data.teacher_head)
    data.labels, data.mask = data.labels[:rows], torch.tensor(kept[:rows], dtype=torch.bool)
    objective = ForwardKL(temperature=2.0)
    same(data.found(objective, Chunking(tokens, block)), data.found(objective, False))


@pytest.mark.parametrize("chunked", [True, *SIZES[:2]], ids=str)
@pytest.mark.parametrize("which", ["dense student", "dense teacher", "both", "no mask"])
def test_either_side_may_exist_already(which, chunked):
    data, objective = Data(), build_objective("jensen_shannon")
    changed: dict[str, Any] = {"mask": None} if which == "no mask" else {}
    made = [side for side in ("student", "teacher") if side in which or which == "both"]

    def found(chunked: Any) -> list[Tensor]:
        dense = {key: Dense(getattr(data, key).logits()) for key in made}
        return data.found(objective, chunked, **dense, **changed)

    same(found(chunked), found(False))


@pytest.mark.parametrize("chunking", SIZES[:2], ids=str)
@pytest.mark.parametrize("frozen", ["head", "body", "both"])
def test_what_is_frozen_gets_nothing(frozen, chunking):
    data, objective = Data(), ReverseKL()
    if frozen != "body":
        data.head.requires_grad_(False)
    if frozen != "head":
        data.hidden.requires_grad_(False)
    loss, plain = (objective(data.step(how)).total for how in (chunking, False))
    assert loss.requires_grad == (frozen != "both")
    torch.testing.assert_close(loss, plain)
    if frozen != "both":
        same(data.found(objective, chunking), data.found(objective, False))


def test_tied_embeddings_get_both_gradients():
    data = Data(bias=False)
    ids = torch.arange(N) % V

    def gradient(chunked: Any) -> Tensor:
        student = Projected(torch.tanh(nn.functional.embedding(ids, data.head.weight)), data.head)
        loss = ForwardKL()(data.step(chunked, student=student)).total
        return torch.autograd.grad(loss, data.head.weight)[0]

    torch.testing.assert_close(gradient(Chunking(5, 2)), gradient(False), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("transform", [Rescale(scale=0.25), Rescale(cap=3.0), Rescale(2.0, 5.0)])
@pytest.mark.parametrize("name", ["forward_kl", "decoupled_kl", "ctkd"])
def test_scales_and_soft_caps_are_gone_back_through(name, transform):
    data, objective = Data(), build_objective(name).double()
    data.student = Projected(data.hidden, data.head, transform)
    data.teacher = Projected(data.teacher_hidden, data.teacher_head, Rescale(cap=2.0))
    same(data.found(objective, Chunking(5, 2)), data.found(objective, False))


class LowRank(nn.Module):
    """A head with an adapter."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        self.out_features = head.out_features
        self.down, self.up = nn.Linear(D, 2).double(), nn.Linear(2, V).double()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden) + self.up(self.down(hidden))


@pytest.mark.parametrize("chunking", SIZES, ids=str)
def test_a_head_of_any_kind_is_gone_back_through(chunking):
    data, objective = Data(), ForwardKL()
    low_rank = LowRank(data.head)
    data.parameters = list(low_rank.parameters())
    data.student = Projected(data.hidden, low_rank)
    data.teacher = Projected(data.teacher_hidden, nn.Sequential(data.teacher_head))
    data.teacher.head.weight = data.teacher_head.weight  # what a source reads its width from
    same(data.found(objective, chunking), data.found(objective, False))


def test_columns_outside_the_vocabulary_and_forbidden_tokens():
    data = Data()
    forbidden = torch.zeros(V, dtype=torch.float64)
    forbidden[3] = forbidden[V - 1] = -torch.inf
    one_sided = data.teacher.logits()
    one_sided[2, 5] = -torch.inf
    labels = data.labels.clamp(4, V - 2)
    for name in TOKEN:
        objective = build_objective(name).double()

        def found(chunked: Any, objective: Objective = objective) -> list[Tensor]:
            student = Dense(data.student.logits() + forbidden)
            teacher = Dense(one_sided + forbidden)
            return data.found(objective, chunked, labels=labels, student=student, teacher=teacher)

        ours = found(Chunking(5, 2))
        same(ours, found(False))
        # where the teacher alone forbids a token, a reverse KL is infinite, in chunks or not
        assert all(x.isfinite().all() for x in (ours if ours[0].isfinite() else ours[-3:])), name


@pytest.mark.parametrize("name", EVERY)
def test_no_token_at_all_is_zero_with_a_graph_and_with_all_that_is_logged(name):
    data, objective = Data(), EVERY[name]().double()
    for width in (1, 600):  # rows short and long take different ways
        wide = {"student": data.student.logits().repeat(1, width)}
        wide["teacher"] = data.teacher.logits().repeat(1, width)
        nothing, some = (
            objective(data.step(Chunking(5, 2), mask=data.mask & keep, **wide))
            for keep in (torch.tensor(False), torch.tensor(True))
        )
        assert nothing.total.item() == 0
        assert nothing.total.requires_grad
        assert nothing.count == 0
        assert nothing.parts.keys() == some.parts.keys()


def test_what_stands_at_a_masked_position_reaches_nothing():
    data = Data()
    dirty = data.hidden.detach().clone()
    dirty[~data.mask] = torch.nan
    labels = data.labels.masked_fill(~data.mask, 10**6)
    leaf = dirty.requires_grad_()
    student = Projected(leaf, data.head)
    loss = build_objective("decoupled_kl")(
        data.step(Chunking(5, 2), student=student, labels=labels)
    )
    (gradient,) = torch.autograd.grad(loss.total, leaf)
    assert loss.total.isfinite()
    assert not gradient[~data.mask].any()
    assert gradient[data.mask].isfinite().all()


def test_weights_of_any_sign():
    data = Data()
    weights = torch.linspace(-1, 1, N, dtype=torch.float64)
    for name in ("forward_kl", "todi"):  # with a closed form, and without
        rule = build_objective(name)
        assert isinstance(rule, TokenObjective)

        def found(chunked: Any, rule: TokenObjective = rule) -> list[Tensor]:
            loss = token_sum(
                rule.rows,
                data.student,
                data.teacher,
                mask=data.mask,
                weights=weights,
                value_and_grad=rule.value_and_grad,
                chunked=chunked,
            )
            return [loss.total.detach(), *torch.autograd.grad(loss.total, data.leaves)]

        same(found(Chunking(5, 2)), found(False))


def test_values_of_tokens_can_be_used_in_any_way():
    data, rule = Data(), CrossEntropy()

    def found(chunked: Any) -> list[Tensor]:
        values = token_values(
            rule.rows, data.student, None, data.labels, data.mask, chunked=chunked
        )
        loss = nn.functional.logsigmoid(values[:4].sum() - values[4:].mean())
        return [values.detach(), *torch.autograd.grad(loss, data.leaves)]

    same(found(Chunking(5, 2)), found(False))


def test_a_second_backward_pass_is_refused_in_words():
    loss = ForwardKL()(Data().step(Chunking(5, 2))).total
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up.*chunked=False"):
        loss.backward()


def test_evaluation_makes_no_gradients():
    data, seen = Data(), []

    class Watching(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
            seen.append(student.requires_grad)
            return student.sum(-1)

    with torch.no_grad():
        loss = Watching()(data.step(Chunking(5, 2)))
    assert not loss.total.requires_grad
    assert seen
    assert not any(seen)
    torch.testing.assert_close(loss.total, Watching()(data.step(False)).total)


def test_autocast_decides_the_type_of_the_products_only():
    data = Data(torch.float32)
    seen: list[torch.dtype] = []

    class Watching(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
            seen.append(student.dtype)
            return (student - teacher).square().sum(-1)

    with torch.autocast("cpu", torch.bfloat16):
        ours, plain = (data.found(Watching(), how) for how in (Chunking(5, 2), False))
    assert set(seen[:-1]) == {torch.float32}
    assert [g.dtype for g in ours] == [torch.float32, torch.int64, *[torch.float32] * 3]
    same([x.float() for x in ours], [x.float() for x in plain], rtol=2e-2)
    assert ours[0] != data.found(Watching(), False)[0]  # the products were in half precision


def test_chunks_that_cannot_be_had_are_refused_by_name():
    data = Data()
    with pytest.raises(ValueError, match="plain function"):
        ForwardKL()(data.step(True, student=_Function(data)))
    data.teacher_head.requires_grad_(True)
    with pytest.raises(ValueError, match="the teacher takes a gradient"):
        ForwardKL()(data.step(True))
    assert ForwardKL()(data.step("auto")).total.requires_grad
    with pytest.raises(ValueError, match="chunked must be"):
        ForwardKL()(data.step("always"))
    with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
        Chunking(tokens=0)


class _Function(Projected):
    def __init__(self, data: Data) -> None:
        super().__init__(data.hidden, lambda hidden: data.head(hidden))

    @property
    def shape(self) -> torch.Size:
        return torch.Size([N, V])


def test_a_rule_of_its_own_sheds_the_closed_form_of_its_parent():
    class Doubled(ForwardKL):
        def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
            return 2 * super().divergence(student, teacher, labels)

    data = Data()
    doubled, single = (data.found(kind(), Chunking(5, 2)) for kind in (Doubled, ForwardKL))
    same([doubled[0], *doubled[2:]], [2 * single[0], *(2 * each for each in single[2:])])


@pytest.mark.parametrize("name", TOKEN)
def test_a_closed_form_is_what_autograd_makes_of_the_rows(name):
    torch.manual_seed(0)
    for width in (7, 9000):  # rows short and long take different ways
        student, teacher = torch.randn(2, 3, width, dtype=torch.float64).unbind()
        labels = torch.randint(width, (3,))
        for temperature in (1.0, 2.5):
            objective = build_objective(name)
            if isinstance(objective, Divergence):
                objective.temperature = temperature
            assert isinstance(objective, TokenObjective)
            found = objective.value_and_grad(student, teacher, labels)
            if found is None:
                continue
            leaf = student.clone().requires_grad_()
            values = objective.per_token_loss(leaf, teacher, labels)
            assert isinstance(values, Tensor)
            (slopes,) = torch.autograd.grad(values.sum(), leaf)
            same([found[0], found[1]], [values.detach(), slopes])
