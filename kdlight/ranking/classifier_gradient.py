"""The gradient of the cross-entropy with respect to the weights of a linear classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import widen
from kdlight.ranking.places import Place
from kdlight.ranking.recording import Recorded


def classifier_gradient(
    seen: Recorded, logits: Tensor, labels: Tensor, place: Place | None
) -> Tensor:
    r"""Return the gradient with respect to the weights of N classes, (N, D).

    .. math:: \nabla_{w_n} L = \sum_i (q_{in} - y_{in}) \, h_i

    with the probability :math:`q_{in}` of class n for sample i, its label :math:`y_{in}` of 0 or 1
    and the input :math:`h_i` of the classifier. Weights and their gradients stay as they are.

    Args:
        seen: tensors of a forward pass, of which ``logits`` have the graph.
        logits: the logits in float32 or wider, (..., V).
        labels: the labels, (...); those of -100 do not count.
        place: the classifier; None if it does not run as a module.

    Raises:
        ValueError: If the classifier is not linear, or the logits do not depend on it.

    Example:
        >>> hidden, logits = torch.ones(1, 3), torch.zeros(1, 2, requires_grad=True)
        >>> seen = Recorded(hidden, hidden, logits, logits)
        >>> classifier_gradient(seen, logits, torch.tensor([0]), None)
        tensor([[-0.5000, -0.5000, -0.5000],
                [ 0.5000,  0.5000,  0.5000]])
    """
    counted = labels != IGNORE_INDEX  # selected, as a loss of NaN times 0 would be NaN
    loss = nn.functional.cross_entropy(logits[counted], labels[counted], reduction="sum")
    slopes = None
    if loss.requires_grad:
        slopes = torch.autograd.grad(loss, seen.outputs, allow_unused=True)[0]
    if slopes is None:
        raise ValueError(
            f"the logits do not depend on {place.module if place else 'the hidden states'}, the"
            " last layer with parameters that runs"
        )
    hidden, slopes = widen(seen.inputs.detach()), widen(slopes)
    if place is not None and place.channel_dim == 1:
        hidden, slopes = hidden.movedim(1, -1), slopes.movedim(1, -1)
    # a normalization after the classifier keeps the shape, and has no weights between channels
    is_scale = place is not None and all(p.dim() < 2 for p in place.module.parameters())
    if hidden.shape[:-1] != slopes.shape[:-1] or is_scale:
        raise ValueError(
            f"the last layer with parameters must be linear, or a convolution of size 1, got"
            f" {place.module if place else 'no layer'}, from {tuple(seen.inputs.shape)} to"
            f" {tuple(seen.outputs.shape)}"
        )
    hidden, slopes = hidden.flatten(0, -2), slopes.flatten(0, -2)
    used = (slopes != 0).any(-1)  # the hidden states of other positions may be NaN
    return slopes[used].mT @ hidden[used]
