"""Generation stops where the chat template ends a turn, and a student that would not is told of."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdlight.data.traces import Trace, answer
from kdlight.data.traces.stopping import turn_end_token, warn_of_turn_end
from tests.data.traces import chat_templates
from tests.support import tiny_lm


def chatml() -> Any:
    """Turns end with <|im_end|>, texts with <end>, as with many base models."""
    return chat_templates.tokenizer(chat_templates.CHATML)


def test_the_token_is_that_of_the_template() -> None:
    tokenizer = chatml()
    assert turn_end_token(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert turn_end_token(tiny_lm.tokenizer(chat=True)) == tiny_lm.tokenizer().eos_token_id
    plain = tiny_lm.tokenizer(chat=True)
    plain.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert turn_end_token(plain) is None


class Writes(torch.nn.Module):
    """A model that writes the same tokens whatever it is asked."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.ids = ids

    def generate(self, ids: Any, *, eos_token_id: list[int], **options: Any) -> Any:
        self.ends = eos_token_id
        return torch.cat([ids, torch.tensor([self.ids] * len(ids))], 1)


@pytest.mark.parametrize(("chat", "finished"), [(True, True), (False, False)])
def test_an_answer_ends_with_its_turn(chat: bool, finished: bool) -> None:
    tokenizer = chatml()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    seven = tokenizer.convert_tokens_to_ids("7")
    model = Writes([seven, end, seven, end])
    (found,) = answer(model, tokenizer, [Trace("3 + 4 =", "")], chat=chat, max_new_tokens=4)
    assert found.finished is finished
    assert (found.response == "7") is finished
    assert (end in model.ends) is chat


def test_only_a_student_that_does_not_stop_is_told_of() -> None:
    tokenizer = chatml()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    stops = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[end]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_turn_end(SimpleNamespace(student=stops), tokenizer)
        warn_of_turn_end(None, tokenizer)
    with pytest.warns(UserWarning, match=r"ends a turn with '<\|im_end\|>', which is no end token"):
        warn_of_turn_end(SimpleNamespace(student=tiny_lm.model()), tokenizer)
