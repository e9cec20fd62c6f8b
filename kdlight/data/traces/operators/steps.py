"""A response as one sample a step, with the steps before it in the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from kdlight.data.traces.messages import Prompt, as_messages
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.splitting import STEP_END, check_split, split_steps
from kdlight.data.traces.operators.user_texts import check_whole
from kdlight.data.traces.prompt_groups import CORRECT, in_order, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def serialise_steps(
    traces: Iterable[Trace],
    split: str = STEP_END,
    *,
    threshold: float = CORRECT,
) -> Selection:
    r"""Make a trace of each step of a response, whose prompt has the steps before it.

    Xiang et al., "AtomThink", 2024, train on such samples a model that is asked for one step at a
    time. The steps so far are the last message of the prompt, of the assistant, which the response
    continues: prompt and response are together the same text as before, with and without a chat
    template.

    Args:
        traces: traces. Incorrect ones are dropped, those without a score are used.
        split: the text that ends a step, with which the response to each but the last step ends.
        threshold: the smallest score of a correct trace.

    Returns:
        As many traces of each given trace as this has steps, with the same prompt id and score, and
        the number of the step and of all steps as ``meta["step"]`` and ``meta["steps"]``. Only the
        last step ends as the response does; the others have ``finished=False``, so that no end
        token follows them. A response of one step stays as it is.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If ``split`` is empty, the prompt has begun the response, or a response has
            fields beside its text.

    Example:
        >>> traces = [Trace("1 + 1 + 1 =", " 2 + 1.\n\nThat is 3.")]
        >>> first, second = serialise_steps(traces)
        >>> second.prompt[-1], second.response
        ({'role': 'assistant', 'content': ' 2 + 1.\n\n'}, 'That is 3.')
    """
    check_split(split)
    check_number("threshold", threshold)
    kept, dropped, whole = [], Counter[str](), 0
    for trace in in_order(traces):
        check_whole("serialise_steps", trace)
        if trace.score is not None and not is_correct(trace, threshold):
            dropped["incorrect"] += 1
            continue
        whole += 1
        steps = split_steps(trace.response, split)
        kept += _samples(trace, steps) if len(steps) > 1 else [trace]
    notes = [f"steps: {len(kept)} of {whole} traces"] if whole else []
    return Selection(kept, dropped=dropped, notes=notes)


def _samples(trace: Trace, steps: list[str]) -> list[Trace]:
    return [
        replace(
            trace,
            prompt=_with_steps(trace, "".join(steps[:number])),
            response=step,
            finished=trace.finished if number == len(steps) - 1 else False,
            n_tokens=None,
            perplexity=None,
            meta={**trace.meta, "step": number + 1, "steps": len(steps)},
        )
        for number, step in enumerate(steps)
    ]


def _with_steps(trace: Trace, steps: str) -> Prompt:
    """Return the prompt of a trace with the steps so far."""
    if not steps:
        return trace.prompt
    messages = as_messages(trace.prompt)
    if messages[-1]["role"] == "assistant":
        raise ValueError(
            f"serialise_steps: the prompt {trace.prompt_id!r} ends with a message of the assistant,"
            " which the response continues; join the two"
        )
    return [*messages, {"role": "assistant", "content": steps}]
