"""A stack of small learners, of which as few are used as a token needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlight.checks import check_integer, check_positive


class LearnerStack(nn.Module):
    r"""A two-layer network in parts, whose outputs add up, (..., D) -> (..., D').

    Learner :math:`i` of :math:`N` has a part of the hidden units. The output with :math:`k`
    learners is the sum of the first :math:`k`, and zero for :math:`k = 0`:

    .. math:: y_k = \sum_{i=1}^{k} W_i^{(2)} \, \sigma\bigl(W_i^{(1)} x + b_i\bigr)

    All of them together are one network of the same size, such as the feed-forward layer of a
    transformer, which a stack replaces. A layer is replaced for each token by the cheapest output
    that is good enough, see `sufficient_learners`; the network that predicts how many learners a
    token needs, and the training end to end after it, are not part of this class.

    A `kdlight.LayerwiseDistillationModule` trains all outputs at once on the output of the layer
    that is replaced, where ``call_module`` returns ``module.outputs(*args)`` and ``loss`` compares
    rows ``(n, N + 1, D')`` with rows ``(n, D')``.

    Args:
        learners: number N of learners.
        width: D.
        hidden: number of hidden units of all learners together, a multiple of N.
        out: D'; None for D.
        activation: :math:`\sigma`; None for GELU.
        detached: in `outputs`, the gradient of the output with k learners reaches learner k only,
            as in the authors' code. False lets it reach all of the first k.

    Raises:
        ValueError: a number below 1, or ``hidden`` is no multiple of ``learners``.

    Wójcik, Przewięźlikowski, Szatkowski, et al., Adaptive Computation Modules: Granular Conditional
    Computation For Efficient Inference, 2023.

    Example:
        >>> stack = LearnerStack(4, width=8, hidden=32)
        >>> x = torch.randn(2, 5, 8)
        >>> stack(x).shape, stack.outputs(x).shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 5, 8]))
    """

    def __init__(
        self,
        learners: int = 4,
        *,
        width: int,
        hidden: int,
        out: int | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        detached: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("learners", learners), ("width", width), ("hidden", hidden)):
            check_integer(name, value, 1)
        if hidden % learners:
            raise ValueError(
                f"hidden must be a multiple of learners ({learners}), as each has as many units,"
                f" got {hidden}"
            )
        self.learners, self.detached = learners, detached
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width if out is None else out, bias=False)
        self.activation = nn.GELU() if activation is None else activation

    def forward(self, x: Tensor, learners: int | None = None) -> Tensor:
        """Compute the output with the first ``learners``, of all by default.

        Raises:
            ValueError: there are fewer learners.
        """
        count = self.learners if learners is None else learners
        check_integer("learners", count, 0, self.learners)
        units = count * self.first.out_features // self.learners
        if not units:
            return x.new_zeros(*x.shape[:-1], self.second.out_features)
        hidden = nn.functional.linear(x, self.first.weight[:units], self.first.bias[:units])
        return nn.functional.linear(self.activation(hidden), self.second.weight[:, :units])

    def outputs(self, x: Tensor) -> Tensor:
        """Compute the outputs with 0 to N learners, (..., D) -> (..., N + 1, D')."""
        hidden = self.activation(self.first(x))
        weights = self.second.weight.chunk(self.learners, -1)
        parts = zip(hidden.chunk(self.learners, -1), weights, strict=True)
        total = hidden.new_zeros(*x.shape[:-1], self.second.out_features)
        outputs = [total]
        for part, weight in parts:
            before = outputs[-1].detach() if self.detached else outputs[-1]
            outputs.append(before + nn.functional.linear(part, weight))
        return torch.stack(outputs, -2)


def sufficient_learners(outputs: Tensor, target: Tensor, *, factor: float = 1.2) -> Tensor:
    r"""Return how many learners are enough, (..., N + 1, D), (..., D) -> (...).

    It is the smallest :math:`k` below :math:`N` for which one learner more is no large gain,

    .. math:: \frac{\| y_k - y \|_2}{\| y_{k+1} - y \|_2} < \mathrm{factor},

    and :math:`N` if there is none. These are the labels that a gate learns. The authors' code
    counts one learner more, and takes all of them where none would do.

    Args:
        outputs: the outputs with 0 to N learners.
        target: the output of the layer that is replaced.
        factor: above 0; 1.2 in the authors' code.

    Raises:
        ValueError: the shapes do not fit, or ``factor`` is not above 0 and finite.

    Example:
        >>> outputs = torch.tensor([[0.0], [0.9], [0.95], [0.96]])  # with 0, 1, 2 and 3 learners
        >>> sufficient_learners(outputs, torch.tensor([1.0]), factor=3.0)
        tensor(1)
    """
    check_positive("factor", factor)
    if outputs.dim() < 2 or outputs.shape[:-2] + outputs.shape[-1:] != target.shape:
        raise ValueError(
            "outputs must be (..., N + 1, D) and target (..., D), got"
            f" {tuple(outputs.shape)} and {tuple(target.shape)}"
        )
    errors = torch.linalg.vector_norm(outputs - target.unsqueeze(-2), dim=-1)
    fewer, more = errors[..., :-1], errors[..., 1:]
    is_enough = (fewer < factor * more) | (fewer == 0)  # no quotient, as an error may be 0
    last = torch.ones_like(is_enough[..., :1])
    return torch.cat((is_enough, last), -1).int().argmax(-1)
