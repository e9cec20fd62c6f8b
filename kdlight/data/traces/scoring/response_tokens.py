"""Lengths of responses in tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.trace import Trace


def count_tokens(tokenizer: Any, traces: Iterable[Trace], *, chat: bool) -> list[int]:
    """Return the number of tokens of each response, for ``Trace.n_tokens``.

    The tokens are those on which a student is trained: they include the end of the response, such
    as the end-of-text token, unless the trace is marked as unfinished (``finished=False``). Traces
    of `kdlight.data.traces.generate_traces` count alike.

    Args:
        tokenizer: a Hugging Face tokenizer.
        traces: traces.
        chat: whether to apply the chat template of the tokenizer.

    Example:
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": list(text.encode())}
        >>> traces = [Trace("1 + 1 =", "so 2"), Trace("1 + 1 =", "so", finished=False)]
        >>> count_tokens(Characters(), traces, chat=False)
        [5, 2]
    """
    return [len(tokenize(trace, tokenizer, chat=chat).completion) for trace in traces]
