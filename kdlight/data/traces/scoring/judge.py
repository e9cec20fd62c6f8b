"""Difficulty of prompts by the judgement of a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.checks import check_type
from kdlight.data.traces.chat import plain_ids, text_ids
from kdlight.data.traces.messages import as_messages, content_text, other_fields, written_text
from kdlight.data.traces.rendering import render
from kdlight.data.traces.scoring.batches import batch_logits, batches_by_length
from kdlight.data.traces.scoring.pass_rate import check_levels, to_level
from kdlight.data.traces.trace import Prompt, Trace
from kdlight.models.context import context_length
from kdlight.models.end_tokens import decode
from kdlight.models.evaluating import evaluating

INSTRUCTION = (
    "You are given a problem. Do not solve it. Decide whether it is difficult, and answer with a"
    " single digit: 1 if it is difficult, 0 if it is not."
)
"""What the judge is told."""

INSTRUCTING = ("system", "developer")
"""Roles of the messages that the judge does not read."""


class Judgement(NamedTuple):
    """The difficulty of a problem, and whether 0 or 1 is among the two most likely tokens."""

    difficulty: float
    answered: bool


def judge_difficulty(
    model: Any,
    tokenizer: Any,
    traces: Iterable[Trace],
    *,
    chat: bool,
    batch_size: int = 8,
    instruction: str = INSTRUCTION,
    levels: int | None = None,
) -> list[float | None]:
    """Return the difficulty of each trace's prompt as a language model judges it.

    The judge is told to answer 1 if a problem is difficult, else 0. The difficulty is the
    probability of 1 as its first token, divided by the sum of those of the two most likely tokens.

    Yang et al., "Select2Reason", 2025. Their judge is Qwen2.5-1.5B-Instruct. As in their code, the
    difficulty is 0 if 1 is not among the two most likely tokens. Choices of kdlight are the words
    of the instruction, and that spaces in a token are ignored. A prompt that occurs several times
    is judged once.

    Args:
        model: the judge, a Hugging Face causal language model or a `kdlight.CausalLM`.
        tokenizer: the tokenizer of the model.
        traces: traces; of a prompt of several messages, the judge reads all but system and
            developer messages.
        chat: whether to apply the chat template of the tokenizer. The instruction is a system
            message, or stands before the problem if the template knows no system messages.
        batch_size: number of prompts that the model reads at once.
        instruction: what the judge is told.
        levels: number of levels, of equal width; the difficulty is then a level from 1, the
            easiest, to this number. None for no levels.

    Returns:
        A difficulty for each trace, in the same order; None for a prompt that is longer than the
        context of the judge.

    Raises:
        TypeError: If a number or the instruction is of another kind.
        ValueError: If ``batch_size`` is below 1, ``levels`` below 2, the instruction is empty, or
            the judge gives logits that are NaN.

    Example:
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": list(text.encode())}
        ...     def decode(self, ids, **options):
        ...         return bytes(ids).decode()
        >>> class Judge(torch.nn.Embedding):  # with the same logits after any text
        ...     def forward(self, batch):
        ...         return super().forward(batch["input_ids"])
        >>> model = Judge.from_pretrained(torch.zeros(256, 256))
        >>> model.weight[:, list(b"10")] = torch.tensor([3.0, 1.0])
        >>> values = judge_difficulty(model, Characters(), [Trace("1 + 1 =", "2")], chat=False)
        >>> round(values[0], 3)
        0.881
    """
    check_levels(levels)
    asked = [problem_of(trace.prompt) for trace in traces]
    problems = list(dict.fromkeys(asked))
    options: Any = {"chat": chat, "batch_size": batch_size, "instruction": instruction}
    judgements = dict(zip(problems, judge(model, tokenizer, problems, **options), strict=True))
    unanswered = sum(each is not None and not each.answered for each in judgements.values())
    if unanswered:
        rank_zero_warn(
            f"to {unanswered} of {len(judgements)} prompts, neither 0 nor 1 is among the two most"
            " likely tokens of the judge, so that their difficulty is 0; use another judge or"
            " instruction"
        )
    found = (judgements[problem] for problem in asked)
    return [None if each is None else level_of(each.difficulty, levels) for each in found]


def level_of(difficulty: float, levels: int | None) -> float:
    """Return a difficulty, or its level if there are levels."""
    return difficulty if levels is None else to_level(difficulty, levels)


def problem_of(prompt: Prompt) -> str:
    """Return the text of a prompt that is judged: all messages but those of system and developer.

    A message with tool calls is read with them.

    Example:
        >>> problem_of([{"role": "system", "content": "Think."}, {"role": "user", "content": "1?"}])
        '1?'
    """
    messages = as_messages(prompt)
    asked = [each for each in messages if each["role"] not in INSTRUCTING] or messages
    texts = (written_text(content_text(m.get("content")), other_fields(m)) for m in asked)
    return "\n\n".join(text for text in texts if text)


@torch.no_grad()
def judge(
    model: Any,
    tokenizer: Any,
    problems: Sequence[str],
    *,
    chat: bool,
    batch_size: int,
    instruction: str,
) -> list[Judgement | None]:
    """Return the judgement of each problem; None for one that is longer than the context."""
    check_type("instruction", instruction, str, "a text")
    if not instruction.strip():
        raise ValueError("instruction must tell the judge what to do, got an empty text")
    rows = [question_ids(each, instruction, tokenizer, chat=chat) for each in problems]
    context = context_length(model)
    usable = [i for i, row in enumerate(rows) if context is None or len(row) <= context]
    judgements: list[Judgement | None] = [None] * len(rows)
    with evaluating(model):
        for batch in batches_by_length([len(rows[i]) for i in usable], batch_size):
            numbers = [usable[i] for i in batch]
            source = batch_logits(model, [rows[i] for i in numbers])
            last = [row * source.shape[1] + len(rows[i]) - 1 for row, i in enumerate(numbers)]
            logits = source.select(torch.tensor(last, device=source.device)).logits()
            top = logits.double().topk(2)
            shares = top.values.softmax(-1)  # the two probabilities, divided by their sum
            if shares.isnan().any():
                raise ValueError(
                    "the judge gives logits that are NaN; try another dtype, such as float32"
                )
            found = zip(numbers, shares.tolist(), top.indices.tolist(), strict=True)
            for number, share, ids in found:
                texts = [decode(tokenizer, [token]).strip() for token in ids]
                ones = [p for p, text in zip(share, texts, strict=True) if text == "1"]
                judgements[number] = Judgement(sum(ones, 0.0), bool({"0", "1"} & set(texts)))
    return judgements


def question_ids(problem: str, instruction: str, tokenizer: Any, *, chat: bool) -> list[int]:
    """Return the token ids of the question to the judge."""
    if chat:
        text = _chat_text(problem, instruction, tokenizer)
    else:
        text = f"{instruction}\n\n{problem}\n\nAnswer:"
    return text_ids(text, tokenizer) if chat else plain_ids(text, tokenizer)


def _chat_text(problem: str, instruction: str, tokenizer: Any) -> str:
    user = {"role": "user", "content": problem}
    try:
        text = render([{"role": "system", "content": instruction}, user], tokenizer, prompt=True)
    except ValueError:  # a template that refuses system messages
        text = ""
    if instruction.strip() in text:
        return text
    user = {"role": "user", "content": f"{instruction}\n\n{problem}"}
    return render([user], tokenizer, prompt=True)
