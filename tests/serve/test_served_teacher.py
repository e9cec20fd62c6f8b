"""A served teacher answers what it answers in a fit, whatever runs together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher, SingleInput, TeacherEnsemble
from kdlight.cache.fingerprints import fingerprint_tokenizer, fingerprint_weights
from kdlight.remote.wire import TeacherRequest
from kdlight.serve import ServedTeacher
from tests.support import tiny_lm
from tests.support.scored import is_same
from tests.support.served import SEQUENCES, V, local, network


def prepared(teacher: Any, **options: Any) -> ServedTeacher:
    served = ServedTeacher(teacher, **options)
    served.prepare()
    return served


def top(*sequences: list[int], k: int | None = None) -> TeacherRequest:
    return TeacherRequest("score", list(sequences), k=k)


class Smoothed(nn.Module):
    """Logits that depend on the whole row, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 30)

    def forward(self, batch: Any) -> torch.Tensor:
        each = self.table(batch["input_ids"])
        return each + each.mean(1, keepdim=True)


@pytest.mark.parametrize("batch_tokens", [1, 8, 4096])
def test_what_runs_together_changes_nothing(batch_tokens: int) -> None:
    served = prepared(network(), batch_tokens=batch_tokens)
    requests = [top(*SEQUENCES[:3]), top(*SEQUENCES[3:], k=5), top(SEQUENCES[1])]
    together = served.answer(requests)
    for request, answer in zip(requests, together, strict=True):
        assert len(answer) == len(request.sequences)
        for tokens, found in zip(request.sequences, answer, strict=True):
            [(alone,)] = served.answer([top(tokens, k=request.k)])
            assert is_same(alone, found, atol=1e-6)  # type: ignore[arg-type]
    expected = local(network(), SEQUENCES[1]).flatten().numpy()
    assert together[2][0].log_probs == pytest.approx(expected, abs=1e-6)  # type: ignore[union-attr]


def test_kinds_of_requests_run_together() -> None:
    served = prepared(network(), states="float32")
    ids = TeacherRequest("score_ids", [SEQUENCES[0]], ids=[np.array([[1], [2], [3]])])
    states = TeacherRequest("states", SEQUENCES[:2])
    answers: Any = served.answer([top(SEQUENCES[1], k=2), ids, states])
    assert answers[0][0].ids.shape == (14,)
    assert answers[1][0].ids.tolist() == [1, 2, 3]
    assert [each.shape for each in answers[2]] == [(3, 16), (7, 16)]


def test_rows_that_padding_would_change_run_with_rows_of_their_length() -> None:
    network = Smoothed()
    served = prepared(network)
    assert not served.allows_padding
    assert prepared(SingleInput(nn.Embedding(30, 30), key="input_ids")).allows_padding
    rows = [[1, 2], [3, 4, 5], [6, 7]]
    for tokens, found in zip(rows, served.answer([top(*rows)])[0], strict=True):
        expected = network({"input_ids": torch.tensor([tokens])})[0].log_softmax(-1)
        assert found.log_probs == pytest.approx(expected.detach().flatten().numpy(), abs=1e-6)  # type: ignore[union-attr]


def test_an_ensemble_answers_its_average() -> None:
    networks = {"a": network(0), "b": network(1)}
    served = prepared(TeacherEnsemble(networks))
    [(found,)] = served.answer([top(SEQUENCES[0])])
    both = torch.stack([local(each, SEQUENCES[0]) for each in networks.values()])
    expected = both.exp().mean(0).log().flatten().numpy()
    assert found.log_probs == pytest.approx(expected, abs=1e-6)  # type: ignore[union-attr]


def test_it_tells_what_it_is() -> None:
    tokenizer = tiny_lm.tokenizer()
    teacher = FrozenTeacher(network(), dtype="bfloat16", vocab_size=100)
    info = prepared(teacher, tokenizer=tokenizer, name="tiny").info
    assert info["model"] == "tiny"
    assert (info["vocab_size"], info["input_size"], info["context_length"]) == (100, V, 256)
    assert info["tokenizer"] == fingerprint_tokenizer(tokenizer)
    assert info["weights"] == fingerprint_weights(teacher.networks())
    assert (info["dtype"], info["states"]) == ("bfloat16", None)
    assert prepared(network()).info["model"] == "LlamaForCausalLM"
    assert prepared(network()).info["tokenizer"] is None


def test_it_runs_in_the_precision_of_the_fit() -> None:
    entered = []

    @contextmanager
    def precision() -> Any:
        entered.append(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    served = prepared(network(), precision=precision)
    [(found,)] = served.answer([top(SEQUENCES[0])])
    exact = local(network(), SEQUENCES[0]).flatten().numpy()
    assert entered
    assert 1e-5 < abs(found.log_probs - exact).max() < 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("teacher", "states", "message"),
    [
        (nn.Linear(3, 5), None, "Linear cannot be served, as it does not answer on token ids"),
        (SingleInput(nn.Linear(3, 5), key="pixels"), None, "does not answer on token ids alone"),
        (
            TeacherEnsemble({"a": nn.Embedding(9, 9)}, route_by="domain"),
            None,
            "does not answer on token ids alone: .*domain",
        ),
        (SingleInput(nn.Embedding(9, 9), key="input_ids"), "float32", "returns Dense logits"),
        (TeacherEnsemble({"a": network()}), "float32", "returns Mixture logits"),
    ],
)
def test_what_does_not_answer_on_tokens_is_refused(teacher: Any, states: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(teacher, states=states)


def test_states_that_are_nan_are_an_error() -> None:
    broken = network()
    served = prepared(broken, states="float32")
    torch.nn.init.constant_(broken.model.model.norm.weight, torch.nan)
    with pytest.raises(ValueError, match="hidden states are NaN"):
        served.answer([TeacherRequest("states", [[1]])])


def test_an_unknown_dtype_of_states_is_refused() -> None:
    with pytest.raises(ValueError, match="states must be one of 'bfloat16', 'float32', None"):
        ServedTeacher(network(), states="float8")


def test_without_states_there_is_no_head() -> None:
    with pytest.raises(ValueError, match="start it with --states"):
        prepared(network()).encoded_head()
