"""Perplexity of responses under a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.data.traces.chat import Tokens, tokenize
from kdlight.data.traces.scoring.batches import batch_logits, batches_by_length
from kdlight.data.traces.trace import Trace
from kdlight.losses.cross_entropy import cross_entropy
from kdlight.models.context import context_length
from kdlight.models.evaluating import evaluating
from kdlight.sources import LogitsSource

LOGITS = 2**26
"""Number of logits that are computed at once, which bounds their memory."""


@torch.no_grad()
def perplexities(
    model: Any, tokenizer: Any, traces: Iterable[Trace], *, chat: bool, batch_size: int = 8
) -> list[float | None]:
    """Return the perplexity of each response under a model, for ``Trace.perplexity``.

    It is exp of the mean negative log-likelihood of the tokens of the response, given the prompt,
    in float32. The tokens are those on which a student is trained, the end of the response
    included, so that the logarithm is the cross-entropy of a fit on this trace. The other
    traces of a batch change it by rounding only.

    Args:
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`, which needs less
            memory where responses are long.
        tokenizer: the tokenizer of the model.
        traces: traces.
        chat: whether to apply the chat template of the tokenizer.
        batch_size: number of traces that the model reads at once.

    Returns:
        A perplexity for each trace, in the same order; None for an empty response, for a prompt
        without tokens, which leaves nothing to predict the first token from, and for a trace that
        is longer than the context of the model.

    Raises:
        TypeError: If ``batch_size`` is no integer.
        ValueError: If ``batch_size`` is below 1, a token is outside the vocabulary of the model, or
            the model gives logits that are NaN.

    Example:
        >>> from types import SimpleNamespace
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=8, n_layer=1, n_head=1))
        >>> _ = model.lm_head.weight.data.zero_()  # all tokens are equally likely
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": list(text.encode())}
        >>> values = perplexities(model, Characters(), [Trace("1 + 1 =", "2")], chat=False)
        >>> round(values[0], 3)
        256.0
    """
    traces = list(traces)
    rows = [tokenize(trace, tokenizer, chat=chat) for trace in traces]
    reasons = (why_none(trace, row, model) for trace, row in zip(traces, rows, strict=True))
    usable = [number for number, reason in enumerate(reasons) if reason is None]
    lengths = [len(rows[number].prompt) + len(rows[number].completion) for number in usable]
    values: list[float | None] = [None] * len(rows)
    with evaluating(model):
        for batch in batches_by_length(lengths, batch_size):
            numbers = [usable[i] for i in batch]
            means = mean_losses(model, [rows[number] for number in numbers])
            for number, value in zip(numbers, means.exp().tolist(), strict=True):
                if value != value:
                    raise ValueError(
                        "the model gives logits that are NaN on a trace of prompt"
                        f" {traces[number].prompt_id!r}; try another dtype, such as float32"
                    )
                values[number] = value
    return values


def why_none(trace: Trace, row: Tokens, model: Any) -> str | None:
    """Return why a trace, with its tokens, has no perplexity under a model; None if it has one."""
    if not trace.response or not row.completion:
        return "empty response"
    if not row.prompt:
        return "prompt without tokens"
    context = context_length(model)
    if context is not None and len(row.prompt) + len(row.completion) > context:
        return f"longer than the context of {context:,} tokens"
    return None


def mean_losses(model: Any, rows: Sequence[Tokens]) -> Tensor:
    """Return the mean negative log-likelihood of each response of a batch, in float64, ``(B,)``."""
    source = batch_logits(model, [[*row.prompt, *row.completion] for row in rows])
    length = source.shape[1]
    positions = [  # each token is predicted at the one before
        number * length + len(row.prompt) - 1 + i
        for number, row in enumerate(rows)
        for i in range(len(row.completion))
    ]
    labels = [token for row in rows for token in row.completion]
    losses = _losses(source, positions, labels).double()
    parts = losses.split([len(row.completion) for row in rows])
    return torch.stack([part.mean() for part in parts])


def _losses(source: LogitsSource, positions: Sequence[int], labels: Sequence[int]) -> Tensor:
    """Return the negative log-likelihood of labels at flattened positions, ``(n,)``."""
    index = torch.tensor(positions, device=source.device)
    targets = torch.tensor(labels, device=source.device)
    size = max(LOGITS // source.shape[-1], 1)
    parts = zip(index.split(size), targets.split(size), strict=True)
    return torch.cat([cross_entropy(source.select(i).logits(), y) for i, y in parts])
