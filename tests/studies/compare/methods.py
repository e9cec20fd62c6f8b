"""What is compared: each objective as its config or its authors have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch import Callback

from kdlight.callbacks import AdaptiveTAID
from kdlight.objectives import (
    BDKD,
    DACKL,
    TAID,
    AdaptiveKL,
    CrossEntropy,
    DecoupledKL,
    ForwardKL,
    JensenShannon,
    Objective,
    ReverseKL,
    SinkhornKD,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
    TotalVariation,
)


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: what it is called there.
        objective: what the student learns by; None for one that does not learn.
        callbacks: what moves over time.
        teacher: how the teacher is remembered, whole or by its top.
    """

    title: str
    objective: Callable[[], Objective] | None
    callbacks: Callable[[], list[Callback]] = list
    teacher: Literal["whole", "top"] = "whole"


def _sinkd() -> Objective:
    return SinkhornKD(
        cross_entropy=0.2,
        kd=0.8,
        sinkhorn=0.8,
        kd_temperature=2.0,
        temperature=2.0,
        geometry="sequence",
        relative_epsilon=True,
        epsilon=0.1,
    )


METHODS = {
    "teacher": Method("the teacher itself", None),
    "before": Method("student before", None),
    "cross_entropy": Method("cross-entropy", CrossEntropy),
    "forward_kl": Method("forward KL", ForwardKL),
    "reverse_kl": Method("reverse KL", ReverseKL),
    "symmetric_kl": Method("symmetric KL", SymmetricKL),
    "jensen_shannon": Method("Jensen-Shannon", JensenShannon),
    "total_variation": Method("total variation", TotalVariation),
    "skew_forward_kl": Method("skew forward KL", SkewForwardKL),
    "skew_reverse_kl": Method("skew reverse KL", SkewReverseKL),
    "adaptive_kl": Method("AKL", AdaptiveKL),
    "decoupled_kl": Method("DKD", DecoupledKL),
    # the authors' alpha is made for runs of thousands of steps
    "taid": Method("TAID", TAID, lambda: [AdaptiveTAID(alpha=0.05)]),
    "bdkd": Method("BD-KD", BDKD),
    "dackl": Method("DAC-KL", DACKL),
    "sinkd": Method("SinKD", _sinkd),
    "cached": Method("forward KL, top-k cache", ForwardKL, teacher="top"),
}

LEARNED = [name for name, method in METHODS.items() if method.objective is not None]
