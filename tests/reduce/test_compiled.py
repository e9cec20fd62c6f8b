"""Compiled blocks: results of eager ones, one compilation, and what happens without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset

from kdlight import Chunking, DistillationModule, SingleInput
from kdlight.callbacks import HyperparameterScheduler
from kdlight.objectives import TAID, ForwardKL, build_objective
from kdlight.reduce import compiled, token_sum
from kdlight.reduce.compiled import compiled_gradients, has_compiler
from kdlight.reduce.gradients import TokenRule, token_gradients
from kdlight.schedules import Cosine
from tests.support.chunked_data import OBJECTIVE_FACTORIES, ProjectedData, assert_all_close
from tests.support.device_questions import questions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
SIZES = [(7, None), (12, None), (5, 1.3), (9, 0.2)]
"""Rows of a block, and a factor of all numbers of the objective."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    compiled._block.cache_clear()
    yield
    torch.compiler.reset()
    compiled._block.cache_clear()


def rule_of(objective: Any) -> TokenRule:
    own = tuple(p for p in objective.parameters() if p.requires_grad)
    closed_form = getattr(objective, "value_and_grad", None)  # a mixture may have none
    return TokenRule(objective.per_token_loss, closed_form, own)


def rows(count: int, vocabulary: int = 1501) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    student, teacher = torch.randn(2, count, vocabulary, generator=generator).unbind()
    labels = torch.randint(vocabulary, (count,), generator=generator)
    return student, teacher, labels, torch.rand(count, generator=generator) - 0.3


def compare(rule: TokenRule, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # which a loss that is not compiled gives
        result = compiled_gradients(rule, *(each.clone() for each in data))
    expected = token_gradients(rule, *data)
    assert result.extras.keys() == expected.extras.keys()
    for one, other in (
        (result.values, expected.values),
        (result.student, expected.student),
        *zip(result.parameters, expected.parameters, strict=True),
        *zip(result.extras.values(), expected.extras.values(), strict=True),
    ):
        assert one is not None
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("forward_kl", True),  # its closed form
        ("forward_kl", False),
        ("cross_entropy", False),
        ("mixture", True),  # a dict of weights, parts, a parameter
        ("dackl", False),  # a network
    ],
)
def test_one_compilation_for_all_rows_and_numbers(name, readable, monkeypatch):
    objective = OBJECTIVE_FACTORIES[name]()
    rule = rule_of(objective)
    if not readable:
        monkeypatch.setattr("kdlight.checks._is_on_host", lambda tensor: False)
    numbers = list(compiled._numbers(objective))
    for count, factor in SIZES:
        for each in numbers:
            each.value = each.read() * (factor or 1.0) if name != "dackl" else each.read()
            each.write()
        compare(rule, rows(count))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_losses_do_not_share_the_limit_of_compilations(monkeypatch):
    """PyTorch counts by code object, and computes without compilation after eight."""
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    blocks = [compiled._block(rule_of(each), True) for each in (ForwardKL(), TAID())]
    codes = [block.compiled.__func__.__code__ for block in blocks]
    assert codes[0] is not codes[1]
    student, teacher, labels, _ = rows(4, 9)
    assert blocks[0](student, teacher, labels, None) is not None


def test_blocks_of_no_and_of_one_row_are_not_compiled():
    rule = rule_of(ForwardKL())
    for count in (0, 1):
        compare(rule, rows(count))
    assert not counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("name", ["forward_kl", "taid"])
def test_compiled_chunks_equal_all_logits_at_once(name):
    data, objective = ProjectedData(torch.float32), build_objective(name)
    how = Chunking(5, 2, compiled=True)
    assert_all_close(data.evaluate(objective, how), data.evaluate(objective, False), rtol=1e-4)
    forbidden = torch.zeros(17).index_fill(0, torch.tensor(3), -torch.inf)
    result, eager = (
        data.evaluate(objective, each, student=data.student.logits() + forbidden)
        for each in (how, False)
    )
    assert_all_close(result, eager, rtol=1e-4)


@pytest.mark.parametrize("low", [-torch.inf, torch.finfo(torch.float32).min])
def test_impossible_tokens_are_exact_without_a_look_at_the_values(low, monkeypatch):
    data, objective = ProjectedData(torch.float32), ForwardKL(temperature=2.0)
    teacher = data.teacher.logits().index_fill(-1, torch.tensor([3, 5]), low)

    def evaluate(chunked: Any) -> list[Tensor]:
        student = data.student.logits().index_fill(-1, torch.tensor([3]), low)
        return data.evaluate(objective, chunked, student=student, teacher=teacher)

    expected, how = evaluate(False), Chunking(5, 2, compiled=True)
    with monkeypatch.context() as patch:
        patch.setattr("kdlight.checks._is_on_host", lambda tensor: False)
        evaluate(how)  # compile
    with questions() as found:
        result = evaluate(how)
    assert found.asked == ["nonzero"]
    assert_all_close(result, expected, rtol=1e-5)


class Graphs(Callback):
    """The number of compilations after each step."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen.append(counters["stats"]["unique_graphs"])


def test_a_run_with_a_schedule_compiles_once(tmp_path):
    torch.manual_seed(0)
    student, teacher = (SingleInput(nn.Linear(4, 50)) for _ in range(2))
    module = DistillationModule(
        student,
        ForwardKL(temperature=1.0),
        teacher,
        chunked=Chunking(16, 8, compiled=True),
        normalization="global",
    )
    data = TensorDataset(torch.randn(90, 4), torch.randint(50, (90,)))  # the last block is small
    graphs = Graphs()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[HyperparameterScheduler("temperature", Cosine(1.0, 4.0)), graphs],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(data, batch_size=20))
    assert graphs.seen == [1] * 5


def test_a_loss_that_cannot_be_compiled_is_computed_anyway_with_one_line_of_reason(monkeypatch):
    def fail(*args: Any) -> None:
        raise RuntimeError("this cannot be compiled\nand more words")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: fail)
    data, objective = ProjectedData(torch.float32), ForwardKL()
    how = Chunking(5, 5, compiled=True)
    with pytest.warns(UserWarning, match="without torch.compile, which failed") as record:
        result = data.evaluate(objective, how)
    assert "\n" not in str(record[0].message)
    assert len(record) == 1
    expected = data.evaluate(objective, False)
    assert_all_close(result, expected, rtol=1e-5)
    assert_all_close(data.evaluate(objective, how), expected, rtol=1e-5)  # and no other warning


def test_an_error_of_the_loss_itself_is_raised_as_it_is():
    data, objective = ProjectedData(torch.float32), ForwardKL()
    objective.temperature = -1.0
    with pytest.raises(ValueError, match="temperature must be above 0"):
        data.evaluate(objective, Chunking(5, 5, compiled=True))


def test_parameters_that_are_not_the_modules_own_are_not_compiled():
    data, scale = ProjectedData(torch.float32), torch.tensor(2.0, requires_grad=True)

    def loss(student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return scale * (student - teacher).square().sum(-1)

    totals = []
    for how in (Chunking(5, 5, compiled=True), False):
        result = token_sum(loss, data.student, data.teacher, parameters=(scale,), chunked=how)
        totals.append(torch.autograd.grad(result.total, [scale, *data.leaves]))
    assert_all_close(list(totals[0]), list(totals[1]), rtol=1e-4)
    assert not counters["stats"]["unique_graphs"]


def test_the_default_compiles_for_devices_of_triton(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda name: object())
    assert has_compiler(torch.device("cuda"))
    assert not has_compiler(torch.device("cpu"))
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    assert not has_compiler(torch.device("cuda"))


def test_another_compilation_finds_the_code_on_the_disk():
    rule, data = rule_of(ForwardKL()), rows(11, 1201)
    compiled_gradients(rule, *data)
    torch.compiler.reset()
    counters.clear()
    compiled._block.cache_clear()
    compiled_gradients(rule_of(ForwardKL()), *data)
    found = counters["inductor"]
    assert found["fxgraph_cache_hit"] or counters["aot_autograd"]["autograd_cache_hit"]
    assert not found["fxgraph_cache_miss"]


PROGRAM = """
import torch
from kdlight import Chunking
from kdlight.objectives import ForwardKL, LossInputs

student, teacher = torch.randn(2, 40, 60).unbind()
how = Chunking(20, 10, compiled=True)
ForwardKL()(LossInputs(student.requires_grad_(), teacher, chunked=how)).total.backward()
"""


def test_without_a_compiler_a_warning_says_so(tmp_path):
    missing = {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", PROGRAM],
        env={**os.environ, **missing},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr.count("without torch.compile, which failed") == 1
