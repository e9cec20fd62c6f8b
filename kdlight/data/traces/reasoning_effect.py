"""By prompt, how reasoning changes the pass rate."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch.utilities import rank_zero_warn

from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def reasoning_helps(
    with_: Iterable[Trace], without: Iterable[Trace], *, threshold: float = CORRECT
) -> dict[str, float]:
    """Return, by prompt id, the pass rate with reasoning minus that without.

    Reasoning helps where it is above 0. Qin et al., "Incentivizing Reasoning for Advanced
    Instruction-Following of Large Language Models", 2025, contrast responses with and without
    reasoning for each sample. The pass rate of a prompt is the fraction of its traces that are
    correct; the difference of two is a choice of kdlight.

    The result is an argument of `kdlight.data.traces.without_thinking`, and may be written to a
    JSON file for it.

    Args:
        with_: traces with reasoning, with scores.
        without: traces without reasoning, with scores, of the same prompts.
        threshold: the smallest score of a correct trace.

    Returns:
        Differences from -1 to 1 of the prompts with traces of both kinds, sorted by id. There is a
        warning about the other prompts.

    Raises:
        ValueError: If a trace has no score, the threshold is not finite, or there are traces of
            both kinds and no prompt has both.

    Example:
        >>> hard = [Trace("37 * 43 =", text, score=text == "1591") for text in ("1591", "1951")]
        >>> list(reasoning_helps(hard[:1], hard[1:]).values())
        [1.0]
    """
    check_number("threshold", threshold)
    rates = [
        {
            name: sum(is_correct(trace, threshold) for trace in group) / len(group)
            for name, group in group_by_prompt(traces).items()
        }
        for traces in (with_, without)
    ]
    both = sorted(rates[0].keys() & rates[1].keys())
    if all(rates) and not both:
        raise ValueError(
            "with_ and without must have traces of the same prompts, but no prompt_id is in both:"
            f" {next(iter(rates[0]))!r} and {next(iter(rates[1]))!r}"
        )
    alone = len(rates[0].keys() ^ rates[1].keys())
    if alone:
        rank_zero_warn(
            f"reasoning_helps leaves out {alone} prompts that have traces of one kind only, and"
            f" compares {len(both)}"
        )
    return {name: rates[0][name] - rates[1][name] for name in both}
