"""Token ids of all turns of the assistant, as a model gets and writes them."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import prompt_ids, tokenize
from kdlight.data.traces.trajectory import tokenize_turns
from tests.data.traces import chat_templates as templates
from tests.data.traces.test_conversation_parts import CALLS, TALK, TOOLS, USER, WHOLE, said
from tests.support import tiny_lm


def merging(template: str, *, prefix_space: bool = False) -> Any:
    """Return a tokenizer that merges characters, and that may put a space before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    scheme = "first" if prefix_space else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    special = [*templates.SPECIAL, "<end>"]
    alphabet = [chr(code) for code in range(32, 127)] + ["\n", "▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["assistant\nfirst second\nuser\nthen? and? last\nq"] * 20, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    made.add_special_tokens({"additional_special_tokens": templates.SPECIAL})
    made.chat_template = template
    return made


@pytest.mark.parametrize(("template", "prompt", "tools"), WHOLE.values(), ids=WHOLE)
def test_the_ids_before_each_turn_are_those_of_the_prompt_at_that_point(
    template: str, prompt: Any, tools: Any
) -> None:
    tokenizer = templates.tokenizer(template)
    ids = tokenize_turns(Trace(prompt, "last", tools=tools), tokenizer, chat=True)
    numbers = [i for i, m in enumerate(prompt) if m["role"] == "assistant"]
    assert len(ids.turns) == len(numbers) + 1
    for (start, stop), number in zip(ids.turns, [*numbers, len(prompt)], strict=True):
        before = ids.prompt + ids.completion[:start]
        assert before == prompt_ids(prompt[:number], tokenizer, chat=True, tools=tools)
        assert start < stop
    assert ids.turns[0][0] == 0
    assert ids.turns[-1][1] == len(ids.completion)


@pytest.mark.parametrize("prefix_space", [False, True])
@pytest.mark.parametrize("template", [templates.CHATML, templates.LLAMA], ids=["chatml", "llama"])
def test_no_token_covers_a_boundary_and_none_is_added(template: str, prefix_space: bool) -> None:
    tokenizer = merging(template, prefix_space=prefix_space)
    ids = tokenize_turns(Trace(TALK, "last"), tokenizer, chat=True)
    texts = [tokenizer.decode(ids.completion[start:stop]) for start, stop in ids.turns]
    ends = ("<|im_end|>", "<|eot|>")
    assert [text.removesuffix(ends[0]).removesuffix(ends[1]).strip(" ") for text in texts] == [
        "first",
        "second\n\nline",
        "last",
    ]
    # between two turns, the ids are those that the whole text has behind the end of a turn
    whole = prompt_ids(TALK, tokenizer, chat=True)
    (_, stop), (start, _) = ids.turns[:2]
    between = ids.completion[stop:start]
    assert any(whole[i : i + len(between)] == between for i in range(len(whole)))


def test_a_trace_of_one_turn_is_encoded_as_ever() -> None:
    for prompt in ("q", [USER], [said("s", "system"), USER]):
        for chat in (False, True):
            tokenizer = tiny_lm.tokenizer(chat=True)
            trace = Trace(prompt, "last")
            expected = tokenize(trace, tokenizer, chat=chat)
            assert tokenize_turns(trace, tokenizer, chat=chat) == (
                *expected,
                [(0, len(expected.completion))],
            )


@pytest.mark.parametrize("finished", [None, False])
def test_without_a_template_messages_are_lines(finished: Any) -> None:
    tokenizer = tiny_lm.tokenizer()
    ids = tokenize_turns(Trace(TALK, "last", finished=finished), tokenizer, chat=False)
    assert tokenizer.decode(ids.prompt) == "q\n"
    assert [tokenizer.decode(ids.completion[start:stop]) for start, stop in ids.turns] == [
        "first\n",
        "second\n\nline\n",
        "last" if finished is False else "last<end>",
    ]
    whole = tokenize(Trace(TALK, "last", finished=finished), tokenizer, chat=False)
    assert ids.prompt + ids.completion == whole.prompt + whole.completion


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (Trace([said("hello"), USER], "last"), "message 1 is of the assistant"),
        (Trace(CALLS, "last"), "only a chat template can write tool_calls of a message"),
        (Trace(TALK, "last", tools=TOOLS), "only a chat template can write tools"),
        (
            Trace([USER, said("a", thinking="b"), USER], "last"),
            "only a chat template can write thinking",
        ),
    ],
    ids=range(4),
)
def test_what_cannot_be_written_without_a_template_is_refused(trace: Trace, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenize_turns(trace, tiny_lm.tokenizer(), chat=False)


def test_turns_without_an_end_token_end_the_text_only_once() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    ids = tokenize_turns(Trace(TALK, "last"), tokenizer, chat=True)
    assert [tokenizer.decode(ids.completion[start:stop]) for start, stop in ids.turns] == [
        "first\n",
        "second\n\nline\n",
        "last\n<end>",
    ]
