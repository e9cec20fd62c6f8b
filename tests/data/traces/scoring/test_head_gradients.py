"""The norm of the gradient of the output head is that of autograd."""

from __future__ import annotations

import pytest
import torch

from kdlight import CausalLM
from kdlight.data.traces import Trace
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.scoring.head_gradients import head_gradient_norms
from kdlight.sources import Projected
from tests.support import tiny_lm

TOKENIZER = tiny_lm.tokenizer()
TRACES = [Trace("3+4=", "7"), Trace("10-20+1=", "-10\n-9"), Trace("1+1=", "")]


def reference(student: CausalLM, trace: Trace) -> float:
    """Autograd of the log-likelihood of one response, without padding."""
    row = tokenize(trace, TOKENIZER, chat=False)
    ids = torch.tensor([[*row.prompt, *row.completion]])
    source = student({"input_ids": ids})
    assert isinstance(source, Projected)
    logits = source.head(source.hidden.detach())[0, len(row.prompt) - 1 : -1]
    picked = logits.log_softmax(-1).gather(1, torch.tensor(row.completion)[:, None])
    head = student.model.get_output_embeddings()
    (gradient,) = torch.autograd.grad(picked.sum(), head.weight)
    return gradient.norm().item()


def test_it_is_that_of_autograd() -> None:
    student = CausalLM.wrap(tiny_lm.model(dim=32))
    norms = head_gradient_norms(student, TOKENIZER, TRACES, chat=False)
    assert norms == pytest.approx([reference(student.eval(), trace) for trace in TRACES], rel=1e-4)
    assert head_gradient_norms(student, TOKENIZER, [], chat=False) == []


def test_other_traces_of_the_batch_and_the_mode_do_not_matter() -> None:
    student = CausalLM.wrap(tiny_lm.model())
    together = head_gradient_norms(student.train(), TOKENIZER, TRACES, chat=False)
    assert student.training
    alone = [head_gradient_norms(student, TOKENIZER, [trace], chat=False)[0] for trace in TRACES]
    assert together == pytest.approx(alone, rel=1e-4)


def test_a_response_that_is_certain_has_a_small_gradient() -> None:
    student = CausalLM.wrap(tiny_lm.model())
    with torch.no_grad():
        student.model.get_output_embeddings().weight.zero_()
    uniform = head_gradient_norms(student, TOKENIZER, TRACES[:1], chat=False)[0]
    assert uniform > 0
    assert head_gradient_norms(student, TOKENIZER, [Trace("", "7")], chat=False) == [0.0]


def test_a_model_that_does_not_tell_its_hidden_states_is_refused() -> None:
    with pytest.raises(
        ValueError, match="those of LlamaForCausalLM are not; use a kdlight.CausalLM"
    ):
        head_gradient_norms(tiny_lm.model(), TOKENIZER, TRACES, chat=False)
