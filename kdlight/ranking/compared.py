"""What is compared of a network: features of samples, and gradients of its classifier."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from kdlight.data.label_positions import padding_mask
from kdlight.data.targets import batch_labels, find_label_rule
from kdlight.losses.features.channel_correlation import inter_channel_correlation
from kdlight.losses.features.similarity import similarity_preserving
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import widen
from kdlight.models.evaluating import evaluating
from kdlight.models.model_kind import model_kind
from kdlight.ranking.places import Place, find_places
from kdlight.ranking.recording import record

MAX_CLASSES = 1024
"""Number of classes that are compared; of a vocabulary, those that the teacher expects most."""


class Compared(NamedTuple):
    """What is compared of a network on a batch.

    Attributes:
        rows: features of n samples, or of n tokens where each has logits of its own, (n, D).
        gradient: gradient of the cross-entropy with respect to the weights of N classes, (N, D').
        labels: the labels of the cross-entropy, -100 where a position has none.
        classes: the N classes.
        size: number of logits at a position, of which the N classes may be a part.

    Example:
        >>> Compared(*torch.ones(4, 2, 3), 3).size
        3
    """

    rows: Tensor
    gradient: Tensor
    labels: Tensor
    classes: Tensor
    size: int


def compare(student: Compared, teacher: Compared) -> tuple[float, float]:
    """Return the semantic and the relation distance of two networks on one batch.

    Raises:
        ValueError: If they have different samples.

    Example:
        >>> same = Compared(torch.eye(3), torch.ones(2, 4), torch.ones(3), torch.arange(2), 2)
        >>> compare(same, same)
        (0.0, 0.0)
    """
    semantic = inter_channel_correlation(student.gradient[None], teacher.gradient[None])
    return semantic.item(), similarity_preserving(student.rows, teacher.rows).item()


def read_network(
    network: nn.Module, batch: Any, *, path: str | None = None, teacher: Compared | None = None
) -> Compared:
    r"""Run a network on a batch, and return its last features and the gradient of its classifier.

    The gradient with respect to the weights of class n is the sum over samples of
    :math:`(q_n - y_n)\, h`, with the probability :math:`q_n`, the label :math:`y_n` of 0 or 1 and
    the input :math:`h` of the classifier. Labels are those of the batch, or the classes that the
    teacher finds most probable if it has none. Padding, where ``attention_mask`` is 0, is left out.
    Weights, their gradients and the modes of the modules stay as they are.

    Args:
        network: maps the batch to logits.
        batch: a batch, which is moved to the device of the network.
        path: see `kdlight.ranking.places.find_places`.
        teacher: the same of the teacher, whose labels and classes are taken; None for the teacher.

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
            labels = teacher.labels.to(logits.device)
            if logits.shape[-1] != teacher.size:
                raise ValueError(
                    "student and teacher must have the same classes, but their logits have"
                    f" {logits.shape[-1]} and {teacher.size}"
                )
            if labels.shape != logits.shape[:-1]:
                raise ValueError(
                    f"student and teacher must have logits at the same positions, got shapes"
                    f" {tuple(logits.shape)} and {(*labels.shape, teacher.size)}"
                )
        _check_labels(labels, logits.shape[-1], type(network).__name__)
        gradient = _gradient(seen.outputs, seen.inputs, logits, labels, places.classifier)
    if teacher is None:
        mean = gradient.new_ones(len(gradient))
        if len(gradient) > MAX_CLASSES:  # the classes of a vocabulary
            mean = logits.detach()[labels != IGNORE_INDEX].softmax(-1).mean(0)
        classes = mean.topk(min(len(mean), MAX_CLASSES)).indices.sort().values
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
    return Compared(rows, gradient, labels, classes, logits.shape[-1])


def _labels(batch: Any, logits: Tensor, mask: Tensor | None, rule: Any) -> Tensor:
    """Return the labels of a batch at the positions of the logits, or the most probable classes."""
    rule = rule or find_label_rule(batch)
    labels = None if rule in (None, "none") else batch_labels(batch, rule)
    is_other = labels is None or labels.shape != logits.shape[:-1] or labels.is_floating_point()
    found = logits.argmax(-1) if labels is None or is_other else labels.long()
    return found if mask is None else found.masked_fill(~mask, IGNORE_INDEX)


def _check_labels(labels: Tensor, size: int, name: str) -> None:
    counts = labels[labels != IGNORE_INDEX]
    if not len(counts):
        raise ValueError("batch must have labels that count, but all of them are -100")
    wrong = counts[(counts < 0) | (counts >= size)]
    if len(wrong):
        raise ValueError(
            f"label {int(wrong[0])} is outside of the {size} classes of {name}; labels of the value"
            " -100 are ignored"
        )


def _gradient(
    outputs: Tensor, inputs: Tensor, logits: Tensor, labels: Tensor, place: Place | None
) -> Tensor:
    """Return the gradient with respect to the weights of a linear classifier, (N, D)."""
    loss = nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    slopes = (
        torch.autograd.grad(loss, outputs, allow_unused=True)[0] if loss.requires_grad else None
    )
    if slopes is None:
        raise ValueError(
            f"the logits do not depend on {place.module if place else 'the hidden states'}, the"
            " last layer with parameters that runs"
        )
    hidden, slopes = widen(inputs.detach()), widen(slopes)
    if place is not None and place.channel_dim == 1:
        hidden, slopes = hidden.movedim(1, -1), slopes.movedim(1, -1)
    if hidden.shape[:-1] != slopes.shape[:-1]:
        raise ValueError(
            f"the last layer with parameters must be linear, or a convolution of size 1, got"
            f" {place.module if place else 'no layer'}, from {tuple(inputs.shape)} to"
            f" {tuple(outputs.shape)}"
        )
    hidden, slopes = hidden.flatten(0, -2), slopes.flatten(0, -2)
    counts = (slopes != 0).any(-1)  # others may hold anything
    return slopes[counts].mT @ hidden[counts]


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
