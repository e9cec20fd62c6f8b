"""Several teachers in one fit, teachers that are asked now and then, teachers that make room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from kdlight import CachedTeacher, FrozenTeacher, SelectiveTeacher, TeacherEnsemble, TopK
from kdlight.cache import Settings
from kdlight.cache.run import write_cache
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, Weighted, build_objective
from tests.support import toy

A, B = (FrozenTeacher(toy.ToyLM(12, seed=seed)) for seed in (2, 3))


@pytest.fixture
def batch() -> dict[str, Any]:
    return next(iter(toy.loader(5)))


@pytest.fixture
def cached(tmp_path: Path) -> CachedTeacher:
    """The second teacher on disk."""
    module = toy.module()
    module.teacher = B
    settings = Settings(k=None, bits=32)
    data = toy.RaggedModule(5)
    write_cache(module, data, toy.trainer(tmp_path), str(tmp_path / "cache"), settings)
    return CachedTeacher(str(tmp_path / "cache"))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_average_is_of_probabilities(batch: Any, cached: CachedTeacher) -> None:
    p, q = (teacher(batch).logits().softmax(-1) for teacher in (A, B))
    mask = batch["labels"].roll(-1, 1) != -100
    mask[:, -1] = False
    for second in (B, cached):
        pool = TeacherEnsemble({"a": A, "b": second}, weights={"a": 3.0})
        rows = pool(batch).select(mask.flatten().nonzero().flatten())
        student = torch.randn(int(mask.sum()), toy.VOCABULARY)
        close(rows.given_student(student).exp(), (0.75 * p + 0.25 * q)[mask])  # type: ignore[attr-defined]
    close(TeacherEnsemble({"a": A, "b": B})(batch).logits().exp(), (p + q) / 2)


@pytest.mark.parametrize("names", [["b", "a", "a", "b", "a"], torch.tensor([1, 0, 0, 1, 0])])
def test_rows_go_to_the_teacher_that_they_name(
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


POOLS: list[tuple[dict[str, Any], str]] = [
    ({"teachers": {}}, "at least one teacher"),
    ({"teachers": {"a": A}, "weights": {"b": 1.0}}, r"weights must be of \['a'\]"),
    ({"teachers": {"a": A}, "weights": {"a": 0.0}}, "must not all be 0"),
    ({"teachers": {"a": A}, "weights": {"a": 1.0}, "route_by": "x"}, "leave out weights"),
]


@pytest.mark.parametrize(("options", "why"), POOLS)
def test_a_pool_that_makes_no_sense(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TeacherEnsemble(**options)


def test_a_pool_without_names() -> None:
    with pytest.raises(TypeError, match=r"as in \{'large': ..., 'small': ...\}, got list"):
        TeacherEnsemble([A, B])  # pyright: ignore[reportArgumentType]


def test_a_row_that_names_nobody(batch: Any) -> None:
    pool = TeacherEnsemble({"a": A, "b": B}, route_by="whose")
    with pytest.raises(ValueError, match="is no field of this batch"):
        pool(batch)
    with pytest.raises(ValueError, match=r"not among \['a', 'b'\]"):
        pool({**batch, "whose": ["a", "b", "c", "a", "a"]})


# ---- queries


class Counting(nn.Module):
    """A classifier that counts the rows it is asked about."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.net, self.per_token_loss = nn.Linear(3, classes), 0

    def forward(self, batch: Any) -> Tensor:
        self.per_token_loss += len(batch[0])
        return self.net(batch[0])


ROWS = torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 2, -100])
SURE, UNSURE = torch.tensor([99.0, 0, 0, 0]), torch.zeros(4)


@pytest.mark.parametrize(
    ("ask", "threshold", "asked"),
    [("entropy", 1.5, [1, 2]), ("random_entropy", 0.0, [1, 2]), ("errors", 0.0, [1, 2])],
)
def test_who_is_asked(ask: Any, threshold: float, asked: list[int]) -> None:
    logits = torch.stack([SURE, UNSURE, UNSURE, UNSURE])  # the last does not count
    network = Counting()
    teacher = SelectiveTeacher(network, ask=ask, threshold=threshold)
    source = teacher.answer(ROWS, logits, ROWS[1])
    assert teacher.share == 0.5
    assert network.rows == 2
    expected = logits.clone()  # who is not asked says what the student says
    expected[asked] = network.net(ROWS[0])[asked].detach()
    close(source.select(None).given_student(logits), expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation", "taid", "adaptive_kl"]
)
def test_where_nobody_is_asked_there_is_nothing_to_learn(name: str) -> None:
    student = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    teacher = SelectiveTeacher(Counting(), threshold=5.0)
    loss = build_objective(name)(LossInputs(student, teacher.answer(ROWS, student, ROWS[1])))
    assert loss.total.abs() < 1e-7
    assert torch.autograd.grad(loss.total, student)[0].abs().max() < 1e-7


@pytest.mark.parametrize(("threshold", "as_often"), [(0.0, 1.0), (9.0, 0.0)])
def test_the_share_is_logged(threshold: float, as_often: float, tmp_path: Path) -> None:
    seen = []

    class Read(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            seen.append(float(trainer.callback_metrics["train/query_share"]))

    objective = Weighted({"kd": ForwardKL(), "ce": CrossEntropy()})
    module = toy.module(objective)
    module.teacher = SelectiveTeacher(toy.ToyLM(12, seed=2), threshold=threshold)
    data = toy.RaggedModule(4, silent=())
    toy.trainer(tmp_path, callbacks=[Read()]).fit(module, datamodule=data)
    assert seen == [as_often] * 8


def test_a_policy_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="ask must be one of"):
        SelectiveTeacher(A, ask="always")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold must not be negative"):
        SelectiveTeacher(A, threshold=-1.0)
    with pytest.raises(ValueError, match="the batch has none"):
        SelectiveTeacher(Counting(), ask="errors").answer(ROWS, torch.zeros(4, 4))


# ---- memory


class Places(nn.Linear):
    """A layer that writes down where it is sent."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.been: list[str] = []

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.been.append(str(args[0]))
        return self


def test_a_teacher_leaves_before_the_optimizer_step_and_comes_back(tmp_path: Path) -> None:
    network = Places()
    teacher = FrozenTeacher(network, offload=True)
    teacher.prepare(torch.device("meta"))
    teacher(torch.zeros(2, 3))
    teacher.offload()
    teacher.offload()
    teacher(torch.zeros(2, 3))
    assert network.been == ["meta", "cpu", "meta"]
    stays = FrozenTeacher(Places())
    stays.offload()
    assert stays.model.been == []
    # and a fit asks for it before every step
    module = toy.module(ForwardKL())
    module.teacher = FrozenTeacher(toy.ToyLM(12, seed=2), offload=True)
    rested = []
    module.teacher._move = lambda device: rested.append(str(device))  # type: ignore[method-assign]
    toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(16))
    assert len(rested) == 6  # prepared; left, woken, left for two steps; validation; released


def test_a_teacher_at_home_sends_logits_only() -> None:
    network = nn.Linear(3, 4)
    teacher = FrozenTeacher(network, device="cpu")
    teacher.prepare(torch.device("meta"))
    source = teacher(torch.zeros(2, 3))
    assert source.shape == (2, 4)
    assert source.logits().device.type == "meta"
    assert network.weight.device.type == "cpu"
    with pytest.raises(ValueError, match="set shard=False"):
        FrozenTeacher(network, device="cpu", shard=True)


def test_a_quantised_teacher_stays_where_its_library_put_it() -> None:
    network = Places()
    vars(network)["hf_quantizer"] = object()  # what transformers leaves on a model it quantised
    teacher = FrozenTeacher(network)
    teacher.prepare(torch.device("meta"))
    teacher.release()
    assert network.been == []


def test_a_pool_knows_all_its_live_teachers(cached: CachedTeacher) -> None:
    pool = TeacherEnsemble({"a": SelectiveTeacher(A), "b": cached, "c": B})
    assert pool.networks() == [A.model, B.model]
    assert isinstance(cached(next(iter(toy.loader(2)))), TopK)
