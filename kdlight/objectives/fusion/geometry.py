"""What a ratio network reads of a position: where student, teacher and label stand to each other.

The label is the one-hot vector G; a position without one (-100) has G = 0. All features are between
0 and 2, whatever the logits. None takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kdlight.losses.kl import kl
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import log_probs, sum_terms, tempered_pair

SCALARS = 8
"""Number of features of `scalar_features`."""

BLOCKS = 9
"""Number of features of `class_features` for each class."""


@torch.no_grad()
def class_features(student: Tensor, teacher: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    r"""Return nine vectors over the classes, (n, C), (n, C), (n,), (n, C) -> (n, 9C).

    .. math:: [S, T, G, \bar T, (\bar T - S)^2, (G - S)^2, (T - S)^2, (T - G)^2, (\bar T - G)^2]

    S and T are the probabilities of student and teacher at temperature 1. Squares are element by
    element.

    Args:
        student: logits of S.
        teacher: logits of T.
        labels: integers, or -100.
        means: the mean of T over samples of the same label.

    Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge
    Distillation", 2024; the order is that of the authors' code.

    >>> row = torch.zeros(1, 2)
    >>> class_features(row, row, torch.tensor([0]), torch.tensor([[1.0, 0.0]]))[0, :8]
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 1.0000, 0.0000, 1.0000, 0.0000])
    """
    s, t, g = _points(*tempered_pair(student, teacher), labels)
    m = means.to(s.dtype)
    pairs = ((m, s), (g, s), (t, s), (t, g), (m, g))
    return torch.cat([s, t, g, m, *((a - b).square() for a, b in pairs)], -1)


@torch.no_grad()
def scalar_features(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    r"""Return eight numbers of each row, (n, V), (n, V), (n,) -> (n, 8).

    .. math:: [S_y, T_y, e^{-H(S)}, e^{-H(T)}, e^{-\operatorname{KL}(T \| S)},
               |T - S|^2, |S - G|^2, |T - G|^2]

    The same geometry for a vocabulary, whose size does not matter here: the probabilities of the
    label y, both entropies, the divergence, and squared distances. Exponentials keep them bounded:
    a perplexity has no upper end, its inverse does. The choice is one of this library.

    Args:
        student: logits of S.
        teacher: logits of T.
        labels: integers, or -100, where a probability of the label is 0.

    >>> row = torch.zeros(1, 4)
    >>> scalar_features(row, row, torch.tensor([0]))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500, 1.0000, 0.0000, 0.7500, 0.7500]])
    """
    student, teacher = tempered_pair(student, teacher)
    log_s, log_t = log_probs(student), log_probs(teacher)
    s, t = log_s.exp(), log_t.exp()
    known = labels != IGNORE_INDEX
    index = labels.masked_fill(~known, 0).unsqueeze(-1)
    s_y, t_y = (x.gather(-1, index).squeeze(-1) * known for x in (s, t))
    one = known.to(s.dtype)  # |G|^2
    return torch.stack(
        [
            s_y,
            t_y,
            sum_terms(s * log_s, s).exp(),
            sum_terms(t * log_t, t).exp(),
            (-kl(log_t, log_s, p=t)).exp(),
            (t - s).square().sum(-1),
            s.square().sum(-1) - 2 * s_y + one,
            t.square().sum(-1) - 2 * t_y + one,
        ],
        -1,
    )


def _points(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s, t = log_probs(student).exp(), log_probs(teacher).exp()
    known = (labels != IGNORE_INDEX).unsqueeze(-1)
    g = functional.one_hot(labels.masked_fill(~known.squeeze(-1), 0).long(), s.shape[-1])
    return s, t, (g * known).to(s.dtype)
