"""The first thought of a teacher, put before the first turn of a trajectory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kdlight.checks import check_type
from kdlight.data.files import file_names
from kdlight.data.traces.messages import Prompt, content_text, prefix_content
from kdlight.data.traces.operators.selection import Selection, warn_of_missing
from kdlight.data.traces.prompt_groups import in_order
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_text

MARK = "think(?:ing)?|thoughts?|reason(?:ing)?"
OPENING = re.compile(rf"\A\s*(?:<(?:{MARK})>|\[(?:{MARK})\])?\s*", re.IGNORECASE)
"""Spaces and the mark that opens reasoning, such as <think>."""

CLOSING = re.compile(rf"\n[^\S\n]*\n|</(?:{MARK})>|\[/(?:{MARK})\]", re.IGNORECASE)
"""The end of a paragraph: a blank line, or the mark that closes reasoning."""


def first_thought_prefix(
    traces: Iterable[Trace],
    *,
    thoughts: str | Sequence[str] | Sequence[Trace] | None = None,
    key: str = "chain_of_thought",
    separator: str = "\n\n",
) -> Selection:
    r"""Put the first paragraph of the teacher's chain of thought before the first turn.

    Kang et al., "Distilling LLM Agent into Small Models with Retrieval and Code Tools", 2025: the
    first step of the reasoning that a teacher gives without tools makes its first turn as an agent
    better. The paragraph ends at a blank line or where reasoning is closed; marks such as
    ``<think>`` are removed. A turn that begins with the paragraph and the separator is left as it
    is, and so is a trajectory without a chain of thought.

    Args:
        traces: trajectories; the first message of the assistant is changed, or the response if it
            is the only one. Then ``n_tokens`` and ``perplexity`` are unknown.
        thoughts: traces with chains of thought as responses, or files of them, see `read_traces`;
            those of the same prompt id are used, the one with the highest score first.
        key: without ``thoughts``, the name in ``meta`` of a chain of thought.
        separator: what stands between the paragraph and the content.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If ``key`` is empty, or a file cannot be read.

    Example:
        >>> chain = {"chain_of_thought": "One more than 1.\n\nSo it is 2."}
        >>> [trace.response for trace in first_thought_prefix([Trace("1 + 1", "2", meta=chain)])]
        ['One more than 1.\n\n2']
    """
    check_text("separator", separator)
    check_text("key", key)
    if not key:
        raise ValueError("key must be a name in meta, got an empty text")
    given = _given(thoughts)
    ordered = in_order(traces)
    if given is None and ordered:
        given = read_traces(thoughts)  # pyright: ignore[reportArgumentType]
    chains: dict[str, str] = {}
    for thought in sorted(in_order(given or ()), key=_rank):
        chains.setdefault(thought.prompt_id, thought.response)
    kept, missing, changed = [], 0, 0
    for trace in ordered:
        if thoughts is None:
            chain = trace.meta.get(key)
            if chain is not None:
                check_text(f"meta[{key!r}] of a trace of prompt {trace.prompt_id!r}", chain)
        else:
            chain = chains.get(trace.prompt_id)
        paragraph = first_paragraph(chain or "")
        missing += not paragraph
        prefixed = _with_thought(trace, paragraph, separator) if paragraph else trace
        changed += prefixed is not trace
        kept.append(prefixed)
    where = f"meta[{key!r}]" if thoughts is None else "thoughts"
    selection = Selection(
        in_order(kept),
        missing={"chains of thought": missing},
        notes=[f"changed: {changed}"] if changed else [],
    )
    return warn_of_missing(
        "first_thought_prefix", selection, remedy=f"put them into {where}, or drop such traces"
    )


def first_paragraph(chain: str) -> str:
    r"""Return the first paragraph of a chain of thought, without the mark that opens it.

    Example:
        >>> first_paragraph("<think>\nOne more.\n\nSo 2.</think>")
        'One more.'
    """
    return CLOSING.split(OPENING.sub("", chain), maxsplit=1)[0].strip()


def _given(thoughts: str | Sequence[str] | Sequence[Trace] | None) -> list[Trace] | None:
    """Return the traces of chains of thought; None for files, whose names are checked."""
    if thoughts is None:
        return []
    words = "a file, a list of files, or a list of traces"
    check_type("thoughts", thoughts, (str, Sequence), words)
    traces = [] if isinstance(thoughts, str) else [t for t in thoughts if isinstance(t, Trace)]
    if traces and len(traces) == len(thoughts):
        return traces
    if not isinstance(thoughts, str) and not thoughts:
        raise ValueError("thoughts must hold at least one trace or file, got none")
    file_names("thoughts", thoughts)
    return None


def _rank(thought: Trace) -> float:
    return float("inf") if thought.score is None else -thought.score


def _with_thought(trace: Trace, paragraph: str, separator: str) -> Trace:
    """Return a trace whose first turn of the assistant begins with a paragraph."""
    prompt: Prompt = trace.prompt
    messages = [] if isinstance(prompt, str) else list(prompt)
    first = next((i for i, m in enumerate(messages) if m["role"] == "assistant"), None)
    content = trace.response if first is None else messages[first].get("content")
    text = content_text(content)
    if text == paragraph or text.startswith(paragraph + separator):
        return trace
    new = prefix_content(content, paragraph + (separator if text else ""))
    if first is None:
        return replace(trace, response=new, n_tokens=None, perplexity=None)
    messages[first] = {**messages[first], "content": new}
    return replace(trace, prompt=messages, perplexity=None)
