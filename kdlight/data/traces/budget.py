"""How many responses to sample for each prompt, out of a given total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf, log
from typing import Any, overload

from kdlight.checks import check_at_least, check_finite, check_integer, check_range, check_type
from kdlight.data.traces.apportion import apportion
from kdlight.data.traces.mappings import as_mapping, check_same_keys
from kdlight.data.traces.trace_checks import check_number


@overload
def allocate_budget(
    gradient_norm: Mapping[str, float],
    accept_rate: Mapping[str, float],
    total: int,
    *,
    alpha: float = ...,
    beta: float = ...,
    max_accept: float | None = ...,
    min_expected: float | None = ...,
) -> dict[str, int]: ...
@overload
def allocate_budget(
    gradient_norm: Sequence[float],
    accept_rate: Sequence[float],
    total: int,
    *,
    alpha: float = ...,
    beta: float = ...,
    max_accept: float | None = ...,
    min_expected: float | None = ...,
) -> list[int]: ...
def allocate_budget(
    gradient_norm: Any,
    accept_rate: Any,
    total: int,
    *,
    alpha: float = 1e-3,
    beta: float = 2.0,
    max_accept: float | None = None,
    min_expected: float | None = None,
) -> dict[str, int] | list[int]:
    r"""Divide a number of responses among prompts so that the gradient has a small variance.

    Yao et al., "Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization in
    Rejection Sampling and RL" (GVM), 2025. The number of responses to a prompt is proportional to

    .. math:: G / \sqrt{p + \alpha / p^{\beta - 1}}

    with the norm G of its gradient and its accept rate p, and 0 if either is 0. The authors
    estimate both from 8 responses to each prompt: G as the mean norm of the gradient of the output
    head over the correct ones. They limit the total to 8 responses per prompt, which is left to
    ``total`` here.

    Args:
        gradient_norm: norms of gradients by prompt id; or a sequence of them.
        accept_rate: fractions of correct responses, likewise.
        total: number of responses in all.
        alpha: weight of the term that takes responses from prompts that are hardly ever solved.
        beta: exponent of that term.
        max_accept: give nothing to prompts with a higher accept rate; None for no limit.
        min_expected: give nothing to prompts with a smaller expected number of correct responses,
            ``accept_rate`` times the share of all prompts in ``total``; None for no limit.

    Returns:
        Numbers by prompt id, or a list of them, which sum to ``total`` exactly. They are rounded by
        the largest remainder; of equal ones the first prompt, or prompt id, gets more.

    Raises:
        TypeError: If a number is of another kind, or only one of the two is a mapping.
        ValueError: If a norm is negative, a rate outside [0, 1], a prompt has only one of them, or
            no prompt is left that could get a response.

    Example:
        >>> allocate_budget({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 1.0, "b": 0.25, "c": 0.0}, 9)
        {'a': 3, 'b': 6, 'c': 0}
    """
    check_integer("total", total, 1)
    if max_accept is not None:
        check_number("max_accept", max_accept)
        check_range("max_accept", max_accept, 0, 1)
    if min_expected is not None:
        check_number("min_expected", min_expected)
        check_at_least("min_expected", min_expected, 0)
    ratios = budget_ratios(gradient_norm, accept_rate, alpha=alpha, beta=beta)
    by_id = isinstance(ratios, Mapping)
    shares = dict(sorted(ratios.items())) if by_id else dict(enumerate(ratios))
    rates: Any = accept_rate if by_id else _sequence("accept_rate", accept_rate)
    kept = {
        name: share
        for name, share in shares.items()
        if share
        and (max_accept is None or rates[name] <= max_accept)
        and (min_expected is None or total * share * rates[name] >= min_expected)
    }
    if not kept:
        raise ValueError(
            f"no prompt is left to share a total of {total} responses with max_accept={max_accept}"
            f" and min_expected={min_expected}; loosen these limits"
        )
    numbers = apportion(total, kept)
    if by_id:
        return {name: numbers.get(name, 0) for name in ratios}
    return [numbers.get(name, 0) for name in shares]


def budget_ratios(
    gradient_norm: Any, accept_rate: Any, *, alpha: float = 1e-3, beta: float = 2.0
) -> dict[str, float] | list[float]:
    """Return the fraction of the total that each prompt gets before rounding and without limits.

    Args:
        gradient_norm: as for `allocate_budget`.
        accept_rate: as for `allocate_budget`.
        alpha: as for `allocate_budget`.
        beta: as for `allocate_budget`.

    Raises:
        TypeError: As `allocate_budget`.
        ValueError: As `allocate_budget`.

    Example:
        >>> budget_ratios([1.0, 3.0, 3.0], [1.0, 1.0, 0.0])
        [0.25, 0.75, 0.0]
    """
    check_number("alpha", alpha)
    check_at_least("alpha", alpha, 0)
    check_number("beta", beta)
    names = None
    if isinstance(gradient_norm, Mapping) or isinstance(accept_rate, Mapping):
        names, norms, rates = _by_id(gradient_norm, accept_rate)
    else:
        norms = _sequence("gradient_norm", gradient_norm)
        rates = _sequence("accept_rate", accept_rate)
        if len(norms) != len(rates):
            raise ValueError(
                "gradient_norm and accept_rate must have one number for each prompt, got"
                f" {len(norms)} and {len(rates)}"
            )
    for norm, rate in zip(norms, rates, strict=True):
        check_number("gradient_norm", norm)
        check_at_least("gradient_norm", norm, 0)
        check_number("accept_rate", rate)
        check_range("accept_rate", rate, 0, 1)
    logs = [_log_weight(g, p, alpha, beta) for g, p in zip(norms, rates, strict=True)]
    largest = max(logs, default=-inf)
    if largest == -inf:
        raise ValueError(
            f"none of {len(logs)} prompts has both a gradient_norm and an accept_rate above 0, so"
            " that no response can be allocated"
        )
    weights = [exp(value - largest) for value in logs]
    whole = sum(weights)
    ratios = [weight / whole for weight in weights]
    return ratios if names is None else dict(zip(names, ratios, strict=True))


def _log_weight(norm: float, rate: float, alpha: float, beta: float) -> float:
    """Return the logarithm of the weight of a prompt, which is finite where powers are not."""
    if norm == 0 or rate == 0:
        return -inf
    first = log(rate)
    second = log(alpha) - (beta - 1) * log(rate) if alpha else -inf
    largest = max(first, second)
    check_finite("alpha / accept_rate ** (beta - 1)", largest)
    return log(norm) - (largest + log(exp(first - largest) + exp(second - largest))) / 2


def _by_id(norms: Any, rates: Any) -> tuple[list[str], list[float], list[float]]:
    words = "a mapping like the other one, from prompt ids to numbers"
    for name, values in (("gradient_norm", norms), ("accept_rate", rates)):
        check_type(name, values, Mapping, words)
        as_mapping(name, values)
    check_same_keys("gradient_norm", norms, "accept_rate", rates)
    return list(norms), list(norms.values()), [rates[name] for name in norms]


def _sequence(name: str, values: Any) -> list[float]:
    values = values.tolist() if hasattr(values, "tolist") else values  # of tensors and arrays
    check_type(name, values, (list, tuple), "a mapping from prompt ids to numbers, or a list")
    return list(values)
