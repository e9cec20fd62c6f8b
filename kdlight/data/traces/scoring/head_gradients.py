"""How strongly each response would change the output head of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.data.traces.chat import Tokens, tokenize
from kdlight.data.traces.scoring.batches import batch_logits
from kdlight.data.traces.trace import Trace
from kdlight.models.evaluating import evaluating
from kdlight.sources import LogitsSource, Projected


@torch.no_grad()
def head_gradient_norms(
    model: Any, tokenizer: Any, traces: Sequence[Trace], *, chat: bool
) -> list[float]:
    r"""Return the norm of the gradient of the output head for each response, in one batch.

    It is the Frobenius norm of the derivative of :math:`\log p(response \mid prompt)`, the sum over
    the tokens of the response, with respect to the weight W of the output head:

    .. math:: G = \sum_t (y_t - p_t) h_t^\top, \quad
              \|G\|^2 = \sum_{s, t} (y_s - p_s)^\top (y_t - p_t) \; h_s^\top h_t

    with hidden states h, probabilities p and one-hot tokens y. The second form needs neither a
    backward pass nor a matrix of the size of the head.

    Yao et al., "Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization in
    Rejection Sampling and RL" (GVM), 2025, estimate with it which prompts deserve more responses,
    see `kdlight.data.traces.allocate_budget`.

    Args:
        model: a `kdlight.CausalLM`, or another network that returns a `kdlight.sources.Projected`.
        tokenizer: the tokenizer of the model.
        traces: traces, which are read in one batch.
        chat: whether to apply the chat template of the tokenizer.

    Returns:
        A norm for each trace; 0 for a prompt without tokens.

    Raises:
        ValueError: If the model does not tell its hidden states, or scales or caps its logits
            behind the head.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from kdlight import CausalLM
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": list(text.encode())}
        >>> config = GPT2Config(vocab_size=256, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM.wrap(GPT2LMHeadModel(config))
        >>> traces = [Trace("1 + 1 =", "2"), Trace("", "2")]
        >>> [norm > 0 for norm in head_gradient_norms(model, Characters(), traces, chat=False)]
        [True, False]
    """
    if not traces:
        return []
    rows = [tokenize(trace, tokenizer, chat=chat) for trace in traces]
    with evaluating(model):
        source = batch_logits(model, [[*row.prompt, *row.completion] for row in rows])
        check_head(model, source)
        return [_norm(source, number, row) for number, row in enumerate(rows)]


def check_head(model: Any, source: LogitsSource) -> None:
    """Raise an error for logits that are not an output head applied to hidden states.

    Raises:
        ValueError: They are something else.
    """
    if not isinstance(source, Projected) or source.transform is not None:
        raise ValueError(
            "the gradient of the output head needs logits that are the head of hidden states, and"
            f" nothing else, but those of {type(model).__name__} are not; use a kdlight.CausalLM of"
            " a model without soft-cap or scale of its logits"
        )


def _norm(source: LogitsSource, number: int, row: Tokens) -> float:
    if not (row.completion and row.prompt):
        return 0.0
    assert isinstance(source, Projected)
    first = number * source.shape[1] + len(row.prompt) - 1  # a token is predicted at the one before
    places = torch.arange(first, first + len(row.completion), device=source.device)
    chosen = source.select(places)
    errors = -chosen.logits().float().softmax(-1)
    labels = torch.tensor(row.completion, device=source.device)
    errors[torch.arange(len(labels), device=source.device), labels] += 1
    hidden: Tensor = chosen.hidden.float()
    squared = ((errors @ errors.T) * (hidden @ hidden.T)).sum()
    return squared.clamp(min=0).sqrt().item()
