"""The network of DAC-KL that predicts the thresholds of the teacher's distribution."""

from __future__ import annotations

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor, nn

from kdlight.checks import check_at_least, check_range
from kdlight.losses.likeliest import likeliest
from kdlight.losses.log_space import log_probs

FLOOR = -20.0
"""Log-probabilities below this look alike to the network."""


class ClippingNetwork(nn.Module):
    """Predicts two thresholds from logits of both sides, (n, V), (n, V) -> (n,), (n,).

    Its input does not depend on the size of the vocabulary: the log-probabilities of the teacher's
    most likely tokens under teacher and student, both entropies, and the mass of all other tokens.
    The input takes no gradient. The output satisfies ``0 <= lower < upper <= 1``. At
    initialization the thresholds are the same for all rows. The paper has such a network; its
    inputs, architecture, bounds and initialization are choices made here.

    Args:
        top_k: number of most likely tokens in the input.
        hidden: width of each hidden layer.
        layers: number of hidden layers.
        upper_min: lower bound of the upper threshold, in [0, 1). With ``rule="mass"`` at least this
            much of the teacher's mass is kept; 0 is no bound.
        lower_max: upper bound of the lower threshold, as a share of the upper one, in [0, 1).
        lower: initial lower threshold, as a share of ``lower_max`` times the upper one.
        upper: initial upper threshold, above ``upper_min``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> lower, upper = ClippingNetwork()(torch.randn(2, 9), torch.randn(2, 9))
        >>> upper.detach()
        tensor([0.9500, 0.9500])
    """

    def __init__(
        self,
        *,
        top_k: int = 64,
        hidden: int = 64,
        layers: int = 2,
        upper_min: float = 0.5,
        lower_max: float = 0.3,
        lower: float = 0.018,
        upper: float = 0.95,
    ) -> None:
        super().__init__()
        for name, size in (("top_k", top_k), ("hidden", hidden), ("layers", layers)):
            check_at_least(name, size, 1)
        check_range("upper_min", upper_min, 0.0, 1.0, open_high=True)
        check_range("lower_max", lower_max, 0.0, 1.0, open_high=True)
        if not upper_min < upper < 1:
            raise ValueError(f"upper must be between upper_min={upper_min} and 1, got {upper}")
        if not 0 < lower < 1:
            raise ValueError(f"lower is a share and must be between 0 and 1, got {lower}")
        self.top_k, self.upper_min, self.lower_max = top_k, float(upper_min), float(lower_max)
        widths = [2 * top_k + 4, *[hidden] * layers]
        blocks = [(nn.Linear(a, b), nn.GELU()) for a, b in zip(widths, widths[1:], strict=False)]
        last = nn.Linear(hidden, 2)
        nn.init.zeros_(last.weight)
        share = (upper - upper_min) / (1 - upper_min)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([_logit(lower), _logit(share)]))
        self.net = nn.Sequential(*(layer for block in blocks for layer in block), last)

    def forward(
        self, student: Tensor, teacher: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict the lower and the upper threshold of each row, (n, V), (n, V) -> (n,), (n,).

        The ``features`` of these logits may be passed if they are known already.
        """
        weight = self.net[0].weight
        assert isinstance(weight, Tensor)
        if features is None:
            features = self.features(student, teacher)
        features = features.to(weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            lower, upper = self.net(features).sigmoid().unbind(-1)
        upper = self.upper_min + (1 - self.upper_min) * upper
        return self.lower_max * lower * upper, upper

    @torch.no_grad()
    def features(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the input of the network, (n, V), (n, V) -> (n, 2 top_k + 4)."""
        log_q, log_p = log_probs(student), log_probs(teacher)
        top, order = likeliest(log_p, min(self.top_k, log_p.shape[-1]))
        # the clamp turns 0 * -inf into 0, and changes nothing else
        entropies = (-(x.exp() * x.clamp(min=-1e30)).sum(-1) for x in (log_p, log_q))
        return self.assembled((top, log_q.gather(-1, order)), entropies)

    @torch.no_grad()
    def assembled(self, tops: Iterable[Tensor], entropies: Iterable[Tensor]) -> Tensor:
        """Compute `features` from what they depend on, of teacher and student each.

        Args:
            tops: log-probabilities of the teacher's most likely tokens, in order, ``(n, k)``: its
                ``top_k``, or all of a smaller vocabulary.
            entropies: entropies of all tokens, ``(n,)``.
        """
        top_tokens, scalars = [], []
        for log_top, entropy in zip(tops, entropies, strict=True):
            missing = self.top_k - log_top.shape[-1]
            padded = nn.functional.pad(log_top, (0, missing), value=-torch.inf)
            top_tokens.append(padded.clamp(min=FLOOR) / 10)
            rest = (1 - log_top.exp().sum(-1)).clamp(min=0.0)
            scalars += [entropy, rest]
        return torch.cat([*top_tokens, torch.stack(scalars, -1)], -1)


def _logit(share: float) -> float:
    return log(share / (1 - share))
