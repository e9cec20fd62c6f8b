"""From a network and a batch to logits, whatever kind of network it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.models.model_inputs import model_inputs
from kdlight.models.model_kind import is_transformers_model, model_kind
from kdlight.sources import Dense, LogitsSource, as_source


def call_network(network: Callable[[Any], Any], batch: Any) -> LogitsSource:
    """Call ``network`` on a whole batch and return its logits.

    A model of transformers is called with the entries of the batch that its ``forward`` takes.

    Raises:
        TypeError: the network cannot read the batch, which is not a tensor.
        ValueError: it is not clear which axis of its logits holds the classes.

    Example:
        >>> call_network(torch.nn.Linear(3, 5), torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """
    source = plain_logits(network, batch)
    if not is_transformers_model(network):
        return source
    kind = model_kind(network)
    if kind.labels is None and isinstance(batch, Mapping):
        check_not_one_per_token(source, batch, type(network).__name__)
    return binary_logits(source) if kind.is_multi_label else source


def plain_logits(network: Callable[[Any], Any], batch: Any) -> LogitsSource:
    """Return the logits of ``network`` as they are, with the axis of the classes at the end.

    Raises:
        TypeError: the network cannot read the batch, which is not a tensor.
        ValueError: it is not clear which axis of its logits holds the classes.

    Example:
        >>> plain_logits(torch.nn.Linear(3, 5), torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """
    name = type(network).__name__
    if is_transformers_model(network) and isinstance(batch, Mapping):
        model: Any = network
        output = model(**model_inputs(model, batch))
        if isinstance(output, Mapping) and "logits" not in output:
            raise ValueError(
                f"{name} has no output 'logits'; name one of {sorted(output)} with"
                " kdlight.TransformersModel.wrap(model, output=...)"
            )
        return to_logits(output, class_dim=model_kind(network).class_dim, name=name)
    try:
        output = network(batch)
    except (TypeError, AttributeError) as error:
        if isinstance(batch, Tensor):
            raise
        key = next(iter(batch), 0) if isinstance(batch, Mapping) else 0
        raise TypeError(
            f"{name} was called with the whole batch, a {type(batch).__name__},"
            f" and failed: {error}. Wrap a network that reads one entry of the batch, for example"
            f" kdlight.SingleInput(network, key={key!r}); for any other batch define student_logits"
            " and teacher_logits in a subclass"
        ) from error
    return to_logits(output, name=name)


def to_logits(output: Any, *, class_dim: int | None = None, name: str) -> LogitsSource:
    """Return the logits of a network's output, with the classes on the last axis.

    Args:
        output: a tensor, an object with ``logits``, or a logits source, whose last axis is known.
        class_dim: the axis of a tensor that holds the classes; None for the last of at most three.
        name: name of the network.

    Raises:
        ValueError: If a tensor has more than three axes and ``class_dim`` is None.

    Example:
        >>> to_logits(torch.zeros(2, 5, 4, 4), class_dim=1, name="Conv2d").shape
        torch.Size([2, 4, 4, 5])
    """
    if not isinstance(output, (Tensor, LogitsSource)):
        output = as_source(output)  # refuses what has no logits
        output = output.tensor if isinstance(output, Dense) else output
    if isinstance(output, LogitsSource):
        return output
    if class_dim is None:
        check_class_axis(output, name)
        return Dense(output)
    if not -output.dim() <= class_dim < output.dim():
        raise ValueError(
            f"class_dim={class_dim} is no axis of the logits {tuple(output.shape)} of {name}"
        )
    return Dense(output.movedim(class_dim, -1))


def check_class_axis(logits: Tensor, name: str) -> None:
    """Raise a ValueError for logits of which it is not clear which axis holds the classes."""
    if logits.dim() > 3:
        raise ValueError(
            f"{name} returns logits of shape {tuple(logits.shape)}, of which any axis could hold"
            " the classes. Say which: kdlight.SingleInput(network, class_dim=1) for (B, C, H, W),"
            " class_dim=-1 if they are on the last axis; where you compute logits yourself, return"
            " kdlight.Dense(logits.movedim(1, -1))"
        )


def check_not_one_per_token(source: LogitsSource, batch: Mapping[str, Any], name: str) -> None:
    """Raise a ValueError for one logit a token ``(B, T)``, whose last axis would be the classes."""
    tokens = batch.get("input_ids")
    if isinstance(tokens, Tensor) and tokens.dim() == 2 and source.shape == tokens.shape:
        raise ValueError(
            f"{name} returns logits of shape {tuple(source.shape)}, one for each token of a batch,"
            " and not one for each class. Wrap it in kdlight.MultiLabel if each is a yes or no of"
            " its own; if the last axis does hold classes, in kdlight.TransformersModel.wrap"
        )


def binary_logits(source: LogitsSource) -> Dense:
    r"""Return ``(..., C, 2)`` logits of C independent yes-or-no questions, ``(..., C)``.

    The softmax over :math:`(0, z)` is :math:`(1 - \sigma(z), \sigma(z))`.

    Example:
        >>> from kdlight.sources import Dense
        >>> binary_logits(Dense(torch.zeros(4, 3))).shape
        torch.Size([4, 3, 2])
    """
    logits = source.logits()
    return Dense(torch.stack((torch.zeros_like(logits), logits), -1))
