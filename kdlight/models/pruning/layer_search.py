"""Which layers to keep: sub-networks of a model compared by a score, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple

from kdlight.checks import check_integer
from kdlight.models.pruning.layer_pruning import choose_layers
from kdlight.models.pruning.sub_network import SubNetworks
from kdlight.models.pruning.sub_network_check import check_sub_network


class RankedLayers(NamedTuple):
    """Layers of a model, and what a sub-network of them costs and scores.

    Attributes:
        layers: indices of the layers, from 0.
        parameters: number of parameters of the sub-network.
        score: its score; lower is better.

    Example:
        >>> RankedLayers([0, 3], parameters=1000, score=0.5).score
        0.5
    """

    layers: list[int]
    parameters: int
    score: float

    @property
    def rank(self) -> tuple[float, int]:
        """What to sort by: the score, then the size. A score that is not finite comes last."""
        return (self.score if isfinite(self.score) else inf, self.parameters)


def rank_layers(
    model: Any,
    evaluate: Callable[[], float],
    candidates: Iterable[int | Sequence[int]] | None = None,
    *,
    max_parameters: float = inf,
) -> list[RankedLayers]:
    """Score sub-networks of a model, the best first.

    The search of Xu, Mukherjee et al., "Few-shot Task-agnostic Neural Architecture Search for
    Distilling Large Language Models", 2022 (AutoDistil): sub-networks of a trained super-student
    are evaluated with its weights, and the best within a budget is used, without another training.
    Of equal scores the smaller one is first, and a score that is not finite is last.

    Args:
        model: a Hugging Face causal language model, such as ``student.model`` of a
            `kdlight.CausalLM`.
        evaluate: returns the score of the model as it is then; lower is better.
        candidates: layers to keep, or their numbers, see `choose_layers`; all numbers by default.
        max_parameters: leave out sub-networks with more parameters.

    Raises:
        TypeError: If a candidate is neither a number of layers nor a list of them.
        ValueError: If `prune_layers` cannot prune to a candidate, or none has few enough
            parameters.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=1)
        >>> model = GPT2LMHeadModel(config)
        >>> ranked = rank_layers(model, lambda: abs(model.config.n_layer - 2), [1, 2, [0, 1, 2]])
        >>> [each.layers for each in ranked]
        [[0, 2], [0], [0, 1, 2]]
    """
    networks = SubNetworks(model)
    given = range(1, networks.depth + 1) if candidates is None else candidates
    lists = [choose_layers(each, depth=networks.depth) for each in given]
    sizes = [networks.count_parameters(layers) for layers in lists]
    fitting = [pair for pair in zip(lists, sizes, strict=True) if pair[1] <= max_parameters]
    if not fitting:
        raise ValueError(
            f"max_parameters is {max_parameters:,.0f}, but the smallest candidate has"
            f" {min(sizes, default=0):,} parameters; raise it, or add smaller candidates"
        )
    for layers, _ in fitting:
        check_sub_network(model, layers)
    ranked = [_ranked(networks, layers, evaluate) for layers, _ in fitting]
    return sorted(ranked, key=lambda each: each.rank)


def remove_layers(
    model: Any, evaluate: Callable[[], float], *, min_layers: int = 1
) -> list[RankedLayers]:
    """Remove one layer after the other, each time the one without which the score is lowest.

    A greedy search over lists of layers that are not evenly spaced. It evaluates about half the
    square of the depth. Layers without which the rest cannot be pruned, see `prune_layers`, stay.

    Args:
        model: a Hugging Face causal language model.
        evaluate: returns the score of the model as it is then; lower is better.
        min_layers: number of layers to stop at.

    Returns:
        The layers that are left after each removal, from the whole model on.

    Raises:
        ValueError: If ``min_layers`` is below 1 or above the depth.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=1)
        >>> model = GPT2LMHeadModel(config)
        >>> kept = remove_layers(model, lambda: model.config.n_layer, min_layers=2)
        >>> [len(each.layers) for each in kept]
        [3, 2]
    """
    networks = SubNetworks(model)
    check_integer("min_layers", min_layers, 1, networks.depth)
    path = [_ranked(networks, list(range(networks.depth)), evaluate)]
    while len(path[-1].layers) > min_layers:
        last = path[-1].layers
        shorter = [[layer for layer in last if layer != index] for index in last]
        ranked = [_ranked(networks, each, evaluate) for each in shorter if _can_run(model, each)]
        if not ranked:
            break
        path.append(min(ranked, key=lambda each: each.rank))
    return path


def _ranked(
    networks: SubNetworks, layers: list[int], evaluate: Callable[[], float]
) -> RankedLayers:
    with networks.only(layers):
        score = float(evaluate())
    return RankedLayers(layers, networks.count_parameters(layers), score)


def _can_run(model: Any, layers: list[int]) -> bool:
    try:
        check_sub_network(model, layers)
    except ValueError:
        return False
    return True
