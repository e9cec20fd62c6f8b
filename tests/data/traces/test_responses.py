"""Responses of a model: padding, ends, special tokens, and the room in its context."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace, answer
from kdlight.models import Sampling
from tests.support import tiny_lm
from tests.support.saying import saying

GREEDY = Sampling(max_new_tokens=8, temperature=0.0).options()


def say(text: str, **options: Any) -> Trace:
    """Return the response of a model that says ``text``."""
    model, tokenizer = saying(text, **options)
    return answer(model, tokenizer, [Trace("q", "")], chat=False, **GREEDY)[0]


def test_padding_changes_no_answer() -> None:
    network = tiny_lm.model().eval()
    prompts = [Trace("a", ""), Trace("a much longer prompt", "")]
    together = answer(network, tiny_lm.tokenizer(), prompts, chat=False, **GREEDY)
    alone = [answer(network, tiny_lm.tokenizer(), [p], chat=False, **GREEDY)[0] for p in prompts]
    assert together == alone


@pytest.mark.parametrize("end", ["<end>", "<turn>"])
@pytest.mark.parametrize("ends", [(), ("<turn>",), ("<end>", "<turn>")], ids=["none", "one", "two"])
def test_a_response_ends_at_any_end_of_the_model_and_the_tokenizer(
    end: str, ends: tuple[str, ...]
) -> None:
    trace = say(f"x{end}y", special=("<turn>",), ends=ends)
    if end == "<end>" or end in ends:
        assert (trace.response, trace.finished, trace.n_tokens) == ("x", True, 2)
    else:
        assert (trace.response, trace.finished, trace.n_tokens) == ("x<turn>yyyyyy", False, 8)


def test_special_tokens_other_than_ends_are_a_part_of_the_response() -> None:
    trace = say("[THINK]a[/THINK]b<end>", special=("[THINK]", "[/THINK]"))
    assert (trace.response, trace.finished) == ("[THINK]a[/THINK]b", True)


def test_a_response_without_any_possible_end_is_refused() -> None:
    tokenizer, model = tiny_lm.tokenizer(), tiny_lm.model()
    tokenizer.eos_token = model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="an end token, so that no response would end"):
        answer(model, tokenizer, [Trace("q", "")], chat=False, **GREEDY)


def test_a_network_in_training_mode_answers_without_dropout() -> None:
    model = tiny_lm.model().train()
    model.config.attention_dropout = 0.9
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    options: dict[str, Any] = {"chat": False, **GREEDY}
    trained = answer(model, tiny_lm.tokenizer(), [Trace("ab", "")], **options)
    assert model.training
    assert trained == answer(model.eval(), tiny_lm.tokenizer(), [Trace("ab", "")], **options)


@pytest.mark.parametrize(
    ("prompt", "new", "message"),
    [
        ("abcd", 253, "'id' has 4 tokens, .* context of the model is 256; set .* to 252 or less"),
        ("x" * 256, 1, "'id' has 256 tokens, but the context of the model is 256; remove it"),
        ("", 1, "'id' has no tokens"),
    ],
    ids=["response", "prompt", "empty"],
)
def test_what_the_context_has_no_room_for_is_refused(prompt: str, new: int, message: str) -> None:
    model, trace = tiny_lm.model(), Trace(prompt, "", prompt_id="id")
    options: dict[str, Any] = {"chat": False, "do_sample": False, "max_new_tokens": new}
    with pytest.raises(ValueError, match=message):
        answer(model, tiny_lm.tokenizer(), [Trace("a", "", prompt_id="b"), trace], **options)


def test_a_response_replaces_all_of_an_old_one_and_its_prompt_has_the_tools() -> None:
    model, tokenizer = saying("x<end>")
    tokenizer.chat_template = (
        "{% for t in tools or [] %}{{ t.name }}{% endfor %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    prompt = Trace("q", "old", tools=[{"name": "add"}], response_fields={"thinking": "old"})
    (trace,) = answer(model, tokenizer, [prompt], chat=True, **GREEDY)
    assert (trace.response, trace.response_fields, trace.tools) == ("x", {}, [{"name": "add"}])
    tokenizer.chat_template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="does not write the tool 'add'"):
        answer(model, tokenizer, [prompt], chat=True, **GREEDY)
