"""Perplexity is that of the model itself, row by row, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace
from math import exp, inf, isinf
from typing import Any

import pytest
import torch

from kdlight.data.traces import Trace, perplexities
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.scoring import perplexity
from kdlight.models import CausalLM
from tests.data.traces.scoring.judges import constant_judge
from tests.support import tiny_lm

TRACES = [
    Trace(f"{i} + {j} =", f" {'so ' * (i * j % 7)}{i + j}", finished=j % 3 > 0 or None)
    for i in range(4)
    for j in range(5)
]


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_lm.model().eval()


def by_hand(network: Any, tokenizer: Any, trace: Trace, *, chat: bool) -> float:
    """One row, with the model of transformers and nothing of kdlight but the token ids."""
    prompt, response = tokenize(trace, tokenizer, chat=chat)
    with torch.no_grad():
        logits = network(torch.tensor([prompt + response])).logits[0].float()
    log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    chosen = [log_probs[i, token].item() for i, token in enumerate(response)]
    return exp(-sum(chosen) / len(chosen))


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_it_is_that_of_each_row_alone(batch_size: int, side: str, chat: bool, network: Any) -> None:
    tokenizer = tiny_lm.tokenizer(chat=chat)
    tokenizer.padding_side = side
    values = perplexities(network, tokenizer, TRACES, chat=chat, batch_size=batch_size)
    expected = [by_hand(network, tokenizer, trace, chat=chat) for trace in TRACES]
    assert values == pytest.approx(expected, rel=1e-5)
    assert len({round(value, 3) for value in expected}) > 15  # they differ


def test_it_is_exp_of_the_loss_of_transformers(network: Any) -> None:
    tokenizer = tiny_lm.tokenizer()
    for trace, value in zip(
        TRACES, perplexities(network, tokenizer, TRACES, chat=False), strict=True
    ):
        prompt, response = tokenize(trace, tokenizer, chat=False)
        ids = torch.tensor([prompt + response])
        labels = torch.tensor([[-100] * len(prompt) + response])
        with torch.no_grad():
            loss = network(ids, labels=labels).loss
        assert value == pytest.approx(loss.exp().item(), rel=1e-5)


def test_a_wrapped_model_gives_the_same_and_keeps_its_mode() -> None:
    network = tiny_lm.model().eval()
    expected = perplexities(network, tiny_lm.tokenizer(), TRACES, chat=False)
    wrapped = CausalLM.wrap(tiny_lm.model())  # in training mode
    state = torch.get_rng_state()
    values = perplexities(wrapped, tiny_lm.tokenizer(), TRACES, chat=False)
    assert values == pytest.approx(expected, rel=1e-5)
    assert wrapped.training
    assert torch.equal(torch.get_rng_state(), state)


def test_logits_are_computed_in_parts(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = perplexities(network, tiny_lm.tokenizer(), TRACES, chat=False)
    monkeypatch.setattr(perplexity, "LOGITS", 500)  # four positions
    parts = perplexities(network, tiny_lm.tokenizer(), TRACES, chat=False)
    assert parts == pytest.approx(whole, rel=1e-6)


def test_values_do_not_depend_on_the_order(network: Any) -> None:
    forward = perplexities(network, tiny_lm.tokenizer(), TRACES, chat=False, batch_size=3)
    backward = perplexities(network, tiny_lm.tokenizer(), TRACES[::-1], chat=False, batch_size=3)
    assert backward[::-1] == pytest.approx(forward, rel=1e-6)


def test_a_known_model() -> None:
    model = constant_judge({"a": 2.0, "b": 1.0}, others=-inf)
    trace = Trace("?", "aab", finished=False)
    (value,) = perplexities(model, tiny_lm.tokenizer(), [trace], chat=False)
    log_a, log_b = (x - torch.tensor([2.0, 1.0]).logsumexp(0).item() for x in (2.0, 1.0))
    assert value == pytest.approx(exp(-(2 * log_a + log_b) / 3), rel=1e-6)
    (value,) = perplexities(model, tiny_lm.tokenizer(), [replace(trace, finished=True)], chat=False)
    assert value is not None
    assert isinf(value)  # the end is impossible


def test_what_has_no_perplexity_is_none_and_changes_nothing_else(network: Any) -> None:
    without = [
        Trace("1 + 1 =", ""),
        Trace("", "2"),
        Trace("1 + 1 =", "so " * 90),
        Trace("1 + 1 =", "x" * 248),  # 7 + 248 + 1 tokens are the whole context
    ]
    values = perplexities(network, tiny_lm.tokenizer(), [*without, *TRACES], chat=False)
    assert values[:3] == [None, None, None]
    assert values[3] is not None
    alone = perplexities(network, tiny_lm.tokenizer(), TRACES, chat=False)
    assert values[4:] == pytest.approx(alone, rel=1e-6)
    assert perplexities(network, tiny_lm.tokenizer(), [], chat=False) == []
    assert perplexities(network, tiny_lm.tokenizer(), without[:1], chat=False) == [None]


def test_the_reasons_are_told(network: Any) -> None:
    def reason(trace: Trace) -> str | None:
        row = tokenize(trace, tiny_lm.tokenizer(), chat=False)
        return perplexity.why_none(trace, row, network)

    assert reason(Trace("1", "")) == "empty response"
    assert reason(Trace("", "2")) == "prompt without tokens"
    assert reason(Trace("1", "x" * 255)) == "longer than the context of 256 tokens"
    assert reason(Trace("1", "x" * 254)) is None


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [
        (0, ValueError, "batch_size must be at least 1, got 0"),
        (True, TypeError, "batch_size must be an integer, got True"),
    ],
)
def test_a_wrong_batch_size_is_named_without_traces(
    batch_size: Any, error: Any, message: str, network: Any
) -> None:
    with pytest.raises(error, match=message):
        perplexities(network, tiny_lm.tokenizer(), [], chat=False, batch_size=batch_size)


def test_a_broken_model_is_named() -> None:
    model = tiny_lm.model().eval()
    model.lm_head.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match="NaN on a trace of prompt 'sum'; try another dtype"):
        perplexities(model, tiny_lm.tokenizer(), [Trace("1", "2", prompt_id="sum")], chat=False)
