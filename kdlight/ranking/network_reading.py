"""What is compared of a network: features of samples, and gradients of its classifier."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from kdlight.data.label_positions import padding_mask
from kdlight.data.targets import batch_labels, find_label_rule
from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation
from kdlight.losses.features.similarity_preserving import similarity_preserving
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import widen
from kdlight.models.evaluating import evaluating
from kdlight.models.model_kind import model_kind
from kdlight.ranking.classifier_gradient import classifier_gradient
from kdlight.ranking.places import Place, find_places
from kdlight.ranking.recording import record

MAX_CLASSES = 1024
"""Number of classes that are compared; of a vocabulary, those that the teacher expects most."""


class NetworkReading(NamedTuple):
    """What is compared of a network on a batch.

    Attributes:
        rows: features of n samples, or of n tokens where each has logits of its own, (n, D).
        gradient: gradient of the cross-entropy with respect to the weights of N classes, (N, D').
        labels: the labels of the cross-entropy, -100 where a position has none.
        classes: the N classes.
        size: number of logits at a position, of which the N classes may be a part.

    Example:
        >>> NetworkReading(*torch.ones(4, 2, 3), 3).size
        3
    """

    rows: Tensor
    gradient: Tensor
    labels: Tensor
    classes: Tensor
    size: int


def compare(student: NetworkReading, teacher: NetworkReading) -> tuple[float, float]:
    """Return the semantic and the relation distance of two networks on one batch.

    Raises:
        ValueError: If they have different samples.

    Example:
        >>> same = NetworkReading(torch.eye(3), torch.ones(2, 4), torch.ones(3), torch.arange(2), 2)
        >>> compare(same, same)
        (0.0, 0.0)
    """
    semantic = inter_channel_correlation(student.gradient[None], teacher.gradient[None])
    return semantic.item(), similarity_preserving(student.rows, teacher.rows).item()


def read_network(
    network: nn.Module,
    batch: Any,
    *,
    path: str | None = None,
    teacher: NetworkReading | None = None,
) -> NetworkReading:
    """Run a network on a batch, and return its last features and the gradient of its classifier.

    The gradient is that of `kdlight.ranking.classifier_gradient`. Labels are those of the batch, or
    the classes that the teacher finds most probable if it has none. Padding, where
    ``attention_mask`` is 0, is left out. Weights, their gradients and the modes of the modules stay
    as they are.

    Args:
        network: maps the batch to logits.
        batch: a batch, which is moved to the device of the network.
        path: see `kdlight.ranking.places.find_places`.
        teacher: what was read of the teacher, whose labels and classes are used; None if the
            network is the teacher.

    Raises:
        ValueError: If the classifier is not linear, the logits do not depend on it, features are
            infinite or NaN, or no label counts.

    Example:
        >>> read = read_network(nn.Linear(3, 5), torch.ones(2, 3))
        >>> read.rows.shape, read.gradient.shape
        (torch.Size([2, 3]), torch.Size([5, 3]))
    """
    parameter = next(network.parameters(), None)
    if parameter is not None:
        batch = move_data_to_device(batch, parameter.device)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        places = find_places(network, batch, path)
        seen = record(network, batch, places)
        kind = model_kind(network)
        mask = padding_mask(
            batch, seen.logits.shape[:-1], is_encoder_decoder=kind.is_encoder_decoder
        )
        logits = widen(seen.logits)
        if teacher is None:
            labels = _labels(batch, logits.detach(), mask, kind.labels)
        else:
            _check_shape(logits.shape, teacher)
            labels = teacher.labels.to(logits.device)
        _check_labels(labels, logits.shape[-1], type(network).__name__)
        gradient = classifier_gradient(seen, logits, labels, places.classifier)
    if teacher is None:
        classes = _compared_classes(logits.detach()[labels != IGNORE_INDEX], len(gradient))
    else:
        classes = teacher.classes.to(gradient.device)
    rows = _rows(seen.features, seen.logits.shape, batch, mask, places.features)
    gradient = gradient[classes]
    if not (rows.isfinite().all() and gradient.isfinite().all()):
        raise ValueError(f"features of {type(network).__name__} are infinite or NaN")
    if teacher is None and not gradient.any():  # of a student it is possible: all its units are 0
        raise ValueError(
            f"the gradient of the classifier of {type(network).__name__} is zero, to which nothing"
            " can be compared; use a batch of other samples"
        )
    return NetworkReading(rows, gradient, labels, classes, logits.shape[-1])


def _labels(batch: Any, logits: Tensor, mask: Tensor | None, rule: Any) -> Tensor:
    """Return the labels of a batch at the positions of the logits, or the most probable classes."""
    rule = rule or find_label_rule(batch)
    labels = None if rule in (None, "none") else batch_labels(batch, rule)
    is_other = labels is None or labels.shape != logits.shape[:-1] or labels.is_floating_point()
    found = logits.argmax(-1) if labels is None or is_other else labels.long()
    return found if mask is None else found.masked_fill(~mask, IGNORE_INDEX)


def _check_shape(logits: torch.Size, teacher: NetworkReading) -> None:
    if logits[-1] != teacher.size:
        raise ValueError(
            "student and teacher must have the same classes, but their logits have"
            f" {logits[-1]} and {teacher.size}"
        )
    if logits[:-1] != teacher.labels.shape:
        raise ValueError(
            "student and teacher must have logits at the same positions, got shapes"
            f" {tuple(logits)} and {(*teacher.labels.shape, teacher.size)}"
        )


def _compared_classes(logits: Tensor, count: int) -> Tensor:
    """Return all ``count`` classes, or of a vocabulary the most probable ones, (n, V) -> (N,)."""
    if count <= MAX_CLASSES:
        return torch.arange(count, device=logits.device)
    return logits.softmax(-1).mean(0).topk(MAX_CLASSES).indices.sort().values


def _check_labels(labels: Tensor, size: int, name: str) -> None:
    counts = labels[labels != IGNORE_INDEX]
    if not len(counts):
        raise ValueError("batch must have labels that count, but all of them are -100")
    wrong = counts[(counts < 0) | (counts >= size)]
    if len(wrong):
        raise ValueError(
            f"label {int(wrong[0])} is outside of the {size} classes of {name}; labels of -100 are"
            " ignored"
        )


def _rows(
    features: Tensor, logits: torch.Size, batch: Any, mask: Tensor | None, place: Place
) -> Tensor:
    """Return features of tokens, (B, T, D) -> (n, D), or of samples, (B, ...) -> (B, D)."""
    features = features.detach()
    if place.channel_dim == -1 and features.dim() > 2 and features.shape[:-1] == logits[:-1]:
        return features.flatten(0, -2) if mask is None else features[mask]
    padding = padding_mask(batch, features.shape[:-1], is_encoder_decoder=False)
    if padding is not None:
        features = features.masked_fill(~padding[..., None], 0.0)
    return features.flatten(1)
