"""The network that learns between which thresholds a teacher's distribution counts."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from kdlight.losses.checks import check_range
from kdlight.losses.log_space import log_probs

FLOOR = -20.0
"""Log-probabilities below this tell the network nothing."""


class ClippingNetwork(nn.Module):
    """From a row of logits of both sides to its two thresholds, (n, V), (n, V) -> (n,), (n,).

    It sees what a vocabulary of any size has: the log-probabilities of the teacher's likeliest
    tokens on both sides, both entropies, and the mass of all other tokens; nothing it sees gets a
    gradient. Its outputs obey ``0 <= lower < upper <= 1``. It starts with the same thresholds
    everywhere. That there is such a network is known of the paper; its inputs, shape, bounds and
    start are choices made here.

    Args:
        top_k: how many of the likeliest tokens it sees.
        hidden: width of each hidden layer.
        layers: number of hidden layers.
        upper_min: the upper threshold stays above this. With ``rule="mass"`` so much of the
            teacher's mass is kept whatever the network would like; 0 guards nothing.
        lower_max: the lower threshold stays below this share of the upper one.
        lower: where the lower threshold starts, as a share of ``lower_max`` times the upper one.
        upper: where the upper threshold starts, above ``upper_min``.

    Raises:
        ValueError: a number out of its range.

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
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        check_range("upper_min", upper_min, 0.0, 1.0, open_high=True)
        check_range("lower_max", lower_max, 0.0, 1.0, open_high=True)
        if not upper_min < upper < 1:
            raise ValueError(f"upper must be between upper_min={upper_min} and 1, got {upper}")
        if not 0 < lower < 1:
            raise ValueError(f"lower is a share, between 0 and 1, got {lower}")
        self.top_k, self.upper_min, self.lower_max = top_k, float(upper_min), float(lower_max)
        widths = [2 * top_k + 4, *[hidden] * layers]
        body = [(nn.Linear(a, b), nn.GELU()) for a, b in zip(widths, widths[1:], strict=False)]
        last = nn.Linear(hidden, 2)
        nn.init.zeros_(last.weight)
        share = (upper - upper_min) / (1 - upper_min)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([_logit(lower), _logit(share)]))
        self.net = nn.Sequential(*(part for pair in body for part in pair), last)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper threshold of each row, (n, V), (n, V) -> (n,), (n,)."""
        weight = self.net[0].weight
        assert isinstance(weight, Tensor)
        features = self.features(student, teacher).to(weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            lower, upper = self.net(features).sigmoid().unbind(-1)
        upper = self.upper_min + (1 - self.upper_min) * upper
        return self.lower_max * lower * upper, upper

    @torch.no_grad()
    def features(self, student: Tensor, teacher: Tensor) -> Tensor:
        """What the network sees, (n, V), (n, V) -> (n, 2 top_k + 4)."""
        log_q, log_p = log_probs(student), log_probs(teacher)
        top, order = log_p.topk(min(self.top_k, log_p.shape[-1]), -1)
        seen, numbers = [], []
        for log_x, known in ((log_p, top), (log_q, log_q.gather(-1, order))):
            missing = self.top_k - known.shape[-1]
            padded = nn.functional.pad(known, (0, missing), value=-torch.inf)
            seen.append(padded.clamp(min=FLOOR) / 10)
            # the floor makes 0 of 0 log 0, and is seen nowhere else
            entropy = -(log_x.exp() * log_x.clamp(min=-1e30)).sum(-1)
            rest = (1 - known.exp().sum(-1)).clamp(min=0.0)
            numbers += [entropy, rest]
        return torch.cat([*seen, torch.stack(numbers, -1)], -1)


def _logit(share: float) -> float:
    return log(share / (1 - share))
