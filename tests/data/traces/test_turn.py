"""A response is scored whole, where a model writes it, whatever the chat template."""

from __future__ import annotations

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import prompt_text, tokenize
from tests.support import tiny_lm

USER = "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}{% else %}"
END = "{% endif %}{% endfor %}"
# what an assistant wrote, and the prompt to write it, as the templates of model families have them
ANSWERS = {
    "drops reasoning": ("A:{{ m.content.split('</think>')[-1] }}<end>", "A:"),
    "drops reasoning, opens it": ("A:{{ m.content.split('</think>')[-1] }}<end>", "A:<think>\n"),
    "opens reasoning": ("A:{{ m.content }}<end>", "A:<think>\n"),
    "always opens reasoning": ("A:<think>\n{{ m.content }}<end>", "A:<think>\n"),
    "formats reasoning": (
        "A:<think>\n{{ m.content.split('</think>')[0].split('<think>')[-1].strip() if '</think>'"
        " in m.content else '' }}\n</think>\n\n{{ m.content.split('</think>')[-1].strip() }}<end>",
        "A:",
    ),
    "strips": ("A:{{ m.content | trim }}<end>", "A:"),
    "strips behind a space": ("A: {{ m.content | trim }}<end>", "A:"),
    "refuses reasoning": (
        "{% if 'think' in m.content %}{{ raise_exception('no') }}{% endif %}A:{{ m.content }}<end>",
        "A:",
    ),
}
RESPONSES = {
    "plain": "It is 3",
    "reasoning": "<think>\n1 and 2 make 3</think> It is 3",
    "reasoning that the prompt opened": "1 and 2 make 3\n</think>\n\nIt is 3",
    "spaces": "  It is\t3 \n",
    "a space at its end": "It is 3\n",
    "nothing before the answer": "<think></think>3",
}


def template(name: str) -> str:
    answer, prompt = ANSWERS[name]
    return f"{USER}{answer}{END}{{% if add_generation_prompt %}}{prompt}{{% endif %}}"


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_response_is_scored_whole_whatever_the_template(
    name: str, response: str, finished: bool
) -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = template(name)
    prompt, completion = tokenize(Trace("1+2=", response, finished=finished), tokenizer, chat=True)
    scored = tokenizer.decode(completion)
    assert scored.removesuffix("<end>").endswith(response)
    assert scored.endswith("<end>") == finished
    whole = tokenizer.decode(prompt) + scored
    assert whole.startswith("U:1+2=A:")
    assert whole.count(response) == 1
    assert whole.count("<think>") <= 1


@pytest.mark.parametrize(
    ("name", "response", "before", "scored"),
    [
        ("drops reasoning", "reasoning", "A:", "{}"),
        # the prompt has the opening mark already: it is not written twice
        ("opens reasoning", "reasoning", "A:", "{}"),
        ("always opens reasoning", "reasoning", "A:", "{}"),
        # a response that a model gave after the opening mark
        ("opens reasoning", "reasoning that the prompt opened", "A:<think>\n", "{}"),
        ("drops reasoning, opens it", "reasoning that the prompt opened", "A:<think>\n", "{}"),
        # a response without reasoning is not put inside of it
        ("drops reasoning, opens it", "plain", "A:", "{}"),
        # spaces are put back behind what a template writes before a response
        ("strips behind a space", "a space at its end", "A:", " {}"),
        ("strips behind a space", "spaces", "A:", "{}"),
        # what a template writes before a response belongs to the turn
        ("formats reasoning", "plain", "A:", "<think>\n\n</think>\n\n{}"),
    ],
)
def test_a_response_stands_where_a_model_writes_it(
    name: str, response: str, before: str, scored: str
) -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = template(name)
    text = RESPONSES[response]
    prompt, completion = tokenize(Trace("1+2=", text), tokenizer, chat=True)
    assert tokenizer.decode(prompt) == f"U:1+2={before}"
    assert tokenizer.decode(completion) == scored.format(text) + "<end>"


@pytest.mark.parametrize(
    "answer", ["A:{{ m.content | upper }}<end>", "A:<end>", "A:{{ m.content }}{{ m.content }}<end>"]
)
def test_a_template_that_does_not_write_a_response_is_refused(answer: str) -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = f"{USER}{answer}{END}{{% if add_generation_prompt %}}A:{{% endif %}}"
    with pytest.raises(ValueError, match="does not write the response once"):
        tokenize(Trace("1+2=", "three"), tokenizer, chat=True)


def test_an_error_of_a_template_is_one_clear_error() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    with pytest.raises(ValueError, match="chat template .* System role not supported"):
        prompt_text(messages, tokenizer, chat=True)


@pytest.mark.parametrize(
    ("written", "end"),
    [
        ("<turn>\n", "<turn>"),  # Gemma: a turn ends with another token than a text
        ("<turn>\n<end>", "<turn>"),  # Phi-3: and the text ends behind it
        ("<over><turn>", "<over><turn>"),  # Command R: two tokens
        (" <end>", " <end>"),  # Llama 2: a space before it
        ("\n", "\n<end>"),  # no special token: the text ends
        ("", "<end>"),
    ],
)
def test_a_turn_ends_as_the_template_ends_it(written: str, end: str) -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<over>"]})
    tokenizer.chat_template = (
        f"{USER}A:{{{{ m.content }}}}{written}{END}{{% if add_generation_prompt %}}A:{{% endif %}}"
    )
    for response, scored in (
        ("three", f"three{end}"),
        (f"three{end.strip()}", f"three{end.strip()}"),  # an end that is there is not repeated
    ):
        _, completion = tokenize(Trace("1+2=", response), tokenizer, chat=True)
        assert tokenizer.decode(completion) == scored
