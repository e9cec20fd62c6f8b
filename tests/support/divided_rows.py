"""Losses whose rows are divided among ranks, against the same in one process, for tests/reduce.

Each rank evaluates a loss on the same inputs twice: together with the others, and by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from kdlight import Chunking
from kdlight.objectives import (
    BDKD,
    DPO,
    REDI,
    CrossEntropy,
    ForwardKL,
    LearnableTemperature,
    LossInputs,
    Objective,
    SimPO,
    SpanKL,
    Unlikelihood,
    Weighted,
)
from kdlight.reduce import token_sum, token_values
from kdlight.reduce.divide import describe_division
from kdlight.reduce.exchange import exchange_rows, sum_gradients
from kdlight.sources import (
    Dense,
    Detached,
    GivenWeights,
    LogitsSource,
    Mixture,
    Projected,
    Stacked,
    Tempered,
    TopK,
    masked_columns,
)
from tests.objectives.test_laws import settings
from tests.support import rank_scripts
from tests.support.split_fit import full_tensor

VOCABULARY, SEQUENCES, LENGTH = 7, 4, 5
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    **settings(),
    "dpo": DPO,
    "simpo": SimPO,
    "redi": lambda: REDI(kd=ForwardKL()),
    "unlikelihood": Unlikelihood,
    "span_kl": SpanKL,
    "mixture": lambda: Weighted(
        {"kd": LearnableTemperature(), "ce": CrossEntropy(), "span": SpanKL()}, weights={"ce": 0.3}
    ),
    "on_tokens": lambda: Weighted({"kd": LearnableTemperature(), "ce": CrossEntropy()}),
    "with_sequences": lambda: Weighted({"kd": ForwardKL(), "bd": BDKD(granularity="sequence")}),
}
SOME = ("forward_kl", "ctkd", "dpo", "mixture", "on_tokens", "redi")
"""Objectives that four ranks evaluate; two evaluate all."""
MASKS = ("some", "all", "one", "none")
"""Valid positions of the micro-batches of a case, whose gradients are added up."""
WAYS = {"whole": False, "chunked": Chunking(3, 2)}
HALF = (torch.bfloat16, torch.float16)
HEADS = ("linear", "biased", "adapted")
TEACHERS = ("head", "top_k", "logits")


class Adapted(nn.Module):
    """A head that is more than a product, with two parameters of one gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.first = nn.Linear(width, VOCABULARY), nn.Parameter(torch.zeros(width))
        self.second = nn.Parameter(torch.ones(width))
        self.out_features = VOCABULARY

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden + (self.first + self.second))


@dataclass(frozen=True)
class Case:
    """What a loss is evaluated on."""

    objective: str = "forward_kl"
    chunked: Any = False
    masks: Sequence[str] = MASKS
    head: str = "linear"
    teacher: str = "head"
    masked_columns: bool = False
    divided_head: bool = False

    def make_head(self, width: int, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.head == "adapted":
                return Adapted(width).double()
            return nn.Linear(width, VOCABULARY, bias=self.head == "biased").double()

    def inputs(self, number: int, hidden: Tensor, head: nn.Module, **groups: Any) -> LossInputs:
        """Return the inputs of micro-batch ``number``."""
        draw = torch.Generator().manual_seed(10 + number)
        shape = (SEQUENCES, LENGTH)
        labels = torch.randint(VOCABULARY, shape, generator=draw)
        some = torch.rand(shape, generator=draw) < 0.6
        only = torch.zeros(shape, dtype=torch.bool)
        only[1, 2] = True
        masks = {"all": None, "some": some, "one": only, "none": torch.zeros_like(only)}
        states = torch.randn(*shape, 3, dtype=torch.float64, generator=draw)
        teacher: Any = Projected(states, Case().make_head(3, 5).requires_grad_(False))
        student: Any = Projected(hidden, head)
        if self.masked_columns:
            columns = torch.tensor([VOCABULARY - 1])
            student, teacher = masked_columns(student, columns), masked_columns(teacher, columns)
        if self.teacher == "logits":
            teacher = teacher.logits()
        elif self.teacher == "top_k":
            top = teacher.logits().log_softmax(-1).topk(3)
            teacher = TopK(top.indices, top.values, VOCABULARY)
        return LossInputs(
            student,
            teacher,
            labels,
            masks[self.masks[number]],
            rejected=torch.tensor([False, True, True, False]),
            span_ids=torch.tensor([[0, 0, 1, 1, -1]]).expand(shape),
            chunked=self.chunked,
            **groups,
        )


def evaluate(case: Case, make_inputs: Callable[..., LossInputs], head: nn.Module) -> list[Tensor]:
    """Return totals, counts, parts and accumulated gradients of some micro-batches."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        objective = OBJECTIVES[case.objective]().double()
    results = []
    for number in range(len(case.masks)):
        draw = torch.Generator().manual_seed(number)
        shape = (SEQUENCES, LENGTH, 4)
        hidden = torch.randn(shape, dtype=torch.float64, generator=draw).requires_grad_()
        inputs = make_inputs(number, hidden, head)
        loss = objective(inputs)
        (loss.total / 8).backward()
        assert hidden.grad is not None
        results += [loss.total.detach(), loss.count, *loss.parts.values(), hidden.grad]
    parameters = [*head.parameters(), *objective.parameters()]
    return results + [
        full_tensor(torch.zeros_like(p) if p.grad is None else p.grad) for p in parameters
    ]


def deviation(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference, relative to the size of each tensor where it is above 1."""
    assert len(actual) == len(expected)
    return max(
        ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)).item()
        for a, b in zip(actual, expected, strict=True)
        if b.numel()
    )


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    found = {}
    for way, chunked in WAYS.items():
        for name in OBJECTIVES:
            # a pair needs tokens in both of its sequences; of one valid row most ranks have none
            masks = ("some", "all" if name in ("dpo", "simpo") else "one")
            found[f"{name} {way}"] = Case(name, chunked, masks)
        for head, teacher in product(HEADS, TEACHERS):
            found[f"{head} {teacher} {way}"] = Case("forward_kl", chunked, MASKS, head, teacher)
        found[f"columns {way}"] = Case("forward_kl", chunked, masked_columns=True)
    for name, case in list(found.items()):
        if case.chunked and case.head != "adapted":
            # a pair of positions needs whole rows, which the head gathers if it may
            chunked = "auto" if case.objective in ("span_kl", "mixture") else case.chunked
            found[f"{name} divided head"] = replace(case, divided_head=True, chunked=chunked)
    return found


def compare(case: Case, mesh: DeviceMesh, alone: Any) -> float:
    """Return how much the loss of ranks deviates from that of one process."""
    heads = [case.make_head(4, 7) for _ in range(2)]
    if case.divided_head:
        parallelize_module(heads[0], mesh, ColwiseParallel(output_layouts=Replicate()))
    actual, expected = (
        evaluate(
            case,
            lambda *given, row_group=row_group: case.inputs(
                *given, group=alone, row_group=row_group
            ),
            head,
        )
        for head, row_group in zip(heads, (mesh.get_group(), None), strict=True)
    )
    return deviation(actual, expected)


def start_gloo(ranks: int) -> tuple[DeviceMesh, Any]:
    """Return the mesh of all ranks, and the group of this rank alone."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=ranks)
    alone = [dist.new_group([rank]) for rank in range(ranks)]
    mesh = init_device_mesh("cpu", (1, ranks), mesh_dim_names=("data_parallel", "tensor_parallel"))
    return mesh["tensor_parallel"], alone[dist.get_rank()]


def run(options: dict[str, Any]) -> Any:
    """Compare all cases, or those of some objectives; tell what each rank evaluated."""
    mesh, alone = start_gloo(options["ranks"])
    names = options["objectives"] or OBJECTIVES
    deviations = {
        name: compare(case, mesh, alone)
        for name, case in cases().items()
        if case.objective in names
    }
    return {
        "deviations": deviations,
        "seen": seen_rows(mesh),
        "raised": second_backward(mesh),
        "parts_of_teachers": parts_of_teachers(mesh),
        "shares_of_teachers": shares_of_teachers(mesh),
        "failed": failed(mesh),
        "described": described(mesh),
        "half": {str(dtype): half_precision(mesh, dtype) for dtype in HALF},
        "exchanged": exchanged(mesh),
        "summed": summed(mesh),
    }


def distance(student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
    return (student - teacher).square().sum(-1)


class Seen:
    """A loss that notes the numbers of rows that it is evaluated on."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        self.rows += len(student)
        return distance(student, teacher, labels)


def seen_rows(mesh: DeviceMesh) -> dict[str, int]:
    """Return how many of 10 rows this rank evaluates, by what student and teacher are."""
    head, other = (nn.Linear(4, VOCABULARY) for _ in range(2))
    dropping = nn.Sequential(nn.Dropout(0.5), head)
    dropping.out_features = VOCABULARY  # type: ignore[assignment]
    hidden, dense = torch.ones(10, 4), Dense(torch.zeros(10, VOCABULARY))
    students = {
        "head": Projected(hidden, head),
        "logits": Dense(torch.zeros(10, VOCABULARY, requires_grad=True)),
        "function": Projected(hidden, Plain(head)),
        "dropout": Projected(hidden, dropping),
    }
    pairs: dict[str, Any] = {name: (student, dense) for name, student in students.items()}
    pairs["trained teacher"] = students["head"], Tempered(Projected(hidden, other), 2.0)
    pairs["detached teacher"] = students["head"], Detached(Projected(hidden, other))
    result = {}
    for name, (student, teacher) in pairs.items():
        seen = Seen()
        token_sum(seen, student, teacher, row_group=mesh.get_group())
        result[name] = seen.rows
    part = divide_columns(nn.Linear(VOCABULARY, VOCABULARY), mesh)
    after_head = Projected(hidden, head, part)
    for name, student, parameters in (
        ("parts after the head", after_head, ()),
        ("parts of the loss", students["head"], (part.weight,)),
    ):
        seen = Seen()
        token_sum(seen, student, dense, parameters=parameters, row_group=mesh.get_group())
        result[name] = seen.rows
    with torch.no_grad():
        seen = Seen()
        values = token_values(seen, students["head"], dense, row_group=mesh.get_group())
        torch.testing.assert_close(values, distance(head(hidden), dense.tensor, None))
    return result | {"no_grad": seen.rows}


class Plain:
    """A head whose parameters are not known."""

    def __init__(self, head: nn.Linear) -> None:
        self.head, self.weight = head, head.weight

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)


def described(mesh: DeviceMesh) -> list[str]:
    """Return how losses are evaluated with a whole head, a divided one, and of dense logits."""
    divided = nn.Linear(4, VOCABULARY)
    parallelize_module(divided, mesh, ColwiseParallel(output_layouts=Replicate()))
    heads, hidden = (nn.Linear(4, VOCABULARY), divided), torch.zeros(2, 5, 4)
    students = [*(Projected(hidden, head) for head in heads), Dense(torch.zeros(2, 5, VOCABULARY))]
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 0] = False
    group = mesh.get_group()
    return [describe_division(student, None, mask, True, group) for student in students]


def half_precision(mesh: DeviceMesh, dtype: torch.dtype) -> float:
    """Return how much gradients of a divided head deviate from those of a whole one."""
    heads = [Case(head="biased").make_head(4, 7).to(dtype) for _ in range(2)]
    parallelize_module(heads[0], mesh, ColwiseParallel(output_layouts=Replicate()))
    draw = torch.Generator().manual_seed(0)
    states, teacher = (torch.randn(2000, width, generator=draw) for width in (4, VOCABULARY))
    results = []
    for head, group in zip(heads, (mesh.get_group(), None), strict=True):
        hidden = states.to(dtype).requires_grad_()
        # gradients of logits that underflow in float16, unlike their sums over rows
        weights = torch.full((2000,), 1e-8)
        losses = token_sum(
            lambda q, p, _: distance(q.log_softmax(-1), p.log_softmax(-1), None),
            Projected(hidden, head),
            Dense(teacher),
            weights=weights,
            chunked=Chunking(100, 50),
            row_group=group,
        )
        # as a gradient scaler does
        grads = torch.autograd.grad(losses.total * 1e5, [hidden, *head.parameters()])
        results.append([full_tensor(each) for each in grads])
    return deviation(*results)


def exchanged(mesh: DeviceMesh) -> list[int]:
    """Send rank + 1 rows to the first rank and one to each other; return what is received."""
    ranks, rank = mesh.size(), mesh.get_local_rank()
    sent = [rank + 1] + [1] * (ranks - 1)
    rows = torch.full((sum(sent), 2), rank, dtype=torch.bfloat16)
    counts = [each + 1 if rank == 0 else 1 for each in range(ranks)]
    return exchange_rows(rows, sent, counts, mesh.get_group())[:, 0].int().tolist()


def summed(mesh: DeviceMesh) -> list[float]:
    """Sum gradients that share memory, with each other and with the one that they are made of."""
    outer, other = torch.tensor(1.0), torch.tensor([2.0])
    gradients = [outer, other, other, torch.tensor(3.0).expand(2)]
    total = sum_gradients(gradients, mesh.get_group(), outer)
    return [outer.item(), *(each.sum().item() for each in total)]


def second_backward(mesh: DeviceMesh) -> str:
    """Return the error of a second backward pass."""
    student = Projected(torch.ones(3, 4), nn.Linear(4, VOCABULARY))
    teacher = Dense(torch.zeros(3, VOCABULARY))
    loss = token_sum(distance, student, teacher, row_group=mesh.get_group())
    loss.total.backward(retain_graph=True)
    try:
        loss.total.backward()
    except RuntimeError as error:
        return str(error)
    return ""


def divide_columns(head: nn.Linear, mesh: DeviceMesh) -> nn.Linear:
    """Return the same head, of which each rank has some columns."""
    part = nn.Linear(head.in_features, head.out_features, dtype=head.weight.dtype)
    part.load_state_dict(head.state_dict())
    parallelize_module(part, mesh, ColwiseParallel(output_layouts=Replicate()))
    return part.requires_grad_(False)


def divergence(student: Tensor, teacher: Any, labels: Any) -> Tensor:
    return distance(student.log_softmax(-1), teacher.log_softmax(-1), labels)


def sources_with(head: nn.Module) -> dict[str, LogitsSource]:
    """Return logits of six positions, of which a head computes all or some in several ways."""
    draw = torch.Generator().manual_seed(0)
    hidden, logits = (torch.randn(6, size, generator=draw).double() for size in (4, VOCABULARY))
    states, other = Projected(hidden, head), Dense(logits)
    square = nn.Linear(VOCABULARY, 4, dtype=torch.float64)
    nn.init.ones_(square.weight)
    nn.init.zeros_(square.bias)
    place, owner = torch.arange(6), torch.tensor([0, 1, 0, 1, 1, 0])
    return {
        "head": states,
        "detached": Detached(states),
        "mixture": Mixture((other, states), (0.25, 0.75)),
        "tempered": Tempered(Mixture((other, Detached(states)), (0.25, 0.75)), 2.0),
        "stacked": Stacked((other, Detached(states)), owner, place),
        "transform": Projected(logits, square.requires_grad_(False), head),
    }


def parts_of_teachers(mesh: DeviceMesh) -> dict[str, float]:
    """Return how much losses deviate whose teacher has a part of a head on each rank."""
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(6, 4, generator=draw).double()
    whole, head = (Case(head="biased").make_head(4, seed) for seed in (1, 2))
    whole.requires_grad_(False)
    teachers = sources_with(whole), sources_with(divide_columns(whole, mesh))  # type: ignore[arg-type]
    students = {"": head, "divided head, ": divide_columns(head, mesh)}  # type: ignore[arg-type]
    found = {}
    for name, (prefix, own) in product(teachers[0], students.items()):
        for way in ("auto", True) if not prefix else ("auto",):
            results = []
            for student, each, group in (
                (head, teachers[0][name], None),
                (own, teachers[1][name], mesh.get_group()),
            ):
                hidden = states.clone().requires_grad_()
                options = {"chunked": way, "row_group": group}
                loss = token_sum(divergence, Projected(hidden, student), each, **options)
                values = token_values(divergence, Projected(hidden, student), each, **options)
                (loss.total + values.square().sum()).backward()
                assert hidden.grad is not None
                results.append([loss.total.detach(), values.detach(), hidden.grad])
            found[f"{prefix}{name} {way}"] = deviation(results[1], results[0])
    return found


def shares_of_teachers(mesh: DeviceMesh) -> dict[str, float]:
    """Return how much the shares of teachers deviate from those of one process."""
    draw = torch.Generator().manual_seed(1)
    states, one, two = (torch.randn(6, n, generator=draw) for n in (4, VOCABULARY, VOCABULARY))
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.7, 0.3], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    place, owner, names = torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 0]), ("a", "b")
    head = nn.Linear(4, VOCABULARY)
    sources = Dense(one), Dense(two)
    makers: dict[str, Callable[[], LogitsSource]] = {
        "mixture": lambda: Mixture(sources, GivenWeights(weights), names),
        "tempered": lambda: Tempered(Mixture(sources, GivenWeights(weights), names), 2.0),
        "stacked": lambda: Stacked(sources, owner, place, names, (0, 1)),
    }
    masks = {"all": None, "one": place == 2, "none": place < 0}
    heads = {"whole": head, "divided": divide_columns(head, mesh)}
    found = {}
    for (name, make), (of, mask), (how, own) in product(
        makers.items(), masks.items(), heads.items()
    ):
        for reduce in (token_sum, token_values, many_parts):
            results = []
            for student, group in ((head, None), (own, mesh.get_group())):
                teacher = make()
                for _ in range(2):  # the second loss adds to the sums of the first
                    reduce(
                        distance,
                        Projected(states, student),
                        teacher,
                        mask=mask,
                        chunked=Chunking(2, 1) if how == "divided" and group else False,
                        row_group=group,
                    )
                results.append(list(teacher.shares.values()))
                assert [*teacher.shares] == ["a", "b"]
            found[f"{name} {of} {how} {reduce.__name__}"] = deviation(results[1], results[0])
    return found


def many_parts(loss: Any, *sources: Any, **options: Any) -> None:
    """Sum a loss with more parts than the collective of the results has room for at once."""

    def with_parts(*rows: Any) -> Any:
        values = loss(*rows)
        return values, {str(number): torch.full_like(values, number) for number in range(70)}

    summed = token_sum(with_parts, *sources, **options)
    for name, part in summed.parts.items():
        assert part == int(name) * summed.count


def failed(mesh: DeviceMesh) -> dict[str, str]:
    """Return the errors of this rank where one row raises an error."""

    def check(student: Tensor, teacher: Any, labels: Any) -> Tensor:
        if (labels == 99).any():
            raise ValueError("an impossible label")
        return student.square().sum(-1)

    head = nn.Linear(4, VOCABULARY)
    heads = {"whole": head, "divided": divide_columns(head, mesh).requires_grad_()}
    found = {}
    for (how, own), (way, chunked), reduce, grad, row in product(
        heads.items(),
        {"at once": False, "chunked": Chunking(2, 1)}.items(),
        (token_sum, token_values),
        (True, False),
        (0, 7),  # of the first rank, of the last one
    ):
        if how == "divided" and not chunked:
            continue
        labels = torch.zeros(8, dtype=torch.long)
        labels[row] = 99
        name = f"{how} {way} {reduce.__name__} {grad} row {row}"
        with torch.set_grad_enabled(grad):
            try:
                reduce(
                    check,
                    Projected(torch.ones(8, 4), own),
                    labels=labels,
                    chunked=chunked,
                    row_group=mesh.get_group(),
                )
            except (ValueError, RuntimeError) as error:
                found[name] = f"{type(error).__name__}: {error}"
            else:
                found[name] = "no error"
    return found


if __name__ == "__main__":
    rank_scripts.fit_as_rank(run)
