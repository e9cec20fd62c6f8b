"""The losses on features from their formulas: numpy in float64, in loops.

Nothing is imported from kdlight. `CASES` lists what the laws run over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def huber(x: float, beta: float = 1.0) -> float:
    return x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2


def norm(x: Array) -> float:
    return math.sqrt(sum(float(v) ** 2 for v in x.flatten()))


def unit(x: Array) -> Array:
    return x / norm(x) if norm(x) else np.zeros_like(x)


def feature_distance(student: Array, teacher: Array, *, kind: str, beta: float = 1.0) -> Array:
    values = []
    for s, t in zip(student, teacher, strict=True):
        if kind == "mse":
            values.append(float(np.mean([(a - b) ** 2 for a, b in zip(s, t, strict=True)])))
        elif kind == "smooth_l1":
            values.append(float(np.mean([huber(a - b, beta) for a, b in zip(s, t, strict=True)])))
        elif kind == "cosine":
            values.append(1 - float(unit(s) @ unit(t)))
        else:
            values.append(norm(unit(s) - unit(t)) ** 2)
    return np.array(values)


def similarities(vectors: Array) -> Array:
    """Inner products of the rows, each row of them divided by its norm."""
    return np.array([unit(np.array([float(a @ b) for b in vectors])) for a in vectors])


def similarity_preserving(student: Array, teacher: Array) -> Array:
    count = len(student)
    g_s, g_t = (similarities(x.reshape(count, -1)) for x in (student, teacher))
    return np.array(norm(g_t - g_s) ** 2 / count**2)


def inter_channel_correlation(student: Array, teacher: Array) -> Array:
    channels, values = student.shape[1], []
    for s, t in zip(student, teacher, strict=True):
        g_s, g_t = (similarities(x.reshape(channels, -1)) for x in (s, t))
        values.append(norm(g_t - g_s) ** 2 / channels)
    return np.array(values)


def attention_relation(
    student: Array,
    teacher: Array,
    *,
    heads: int,
    kind: str = "kl",
    mask: Any = None,
    causal: bool = False,
) -> Array:
    batch, positions = student.shape[:2]
    tokens = np.ones((batch, positions)) if mask is None else np.asarray(mask)
    values = np.zeros((batch, positions))
    for b in range(batch):
        for i in range(positions):
            if not tokens[b, i]:
                continue
            keys = [j for j in range(positions) if tokens[b, j] and (j <= i or not causal)]
            for head in range(heads):
                scores = []
                for features in (student, teacher):
                    width = features.shape[-1] // heads
                    x = features[b, :, head * width : (head + 1) * width]
                    scores.append([float(x[i] @ x[j]) / math.sqrt(width) for j in keys])
                values[b, i] += relation(*scores, kind=kind) / heads
    return values


def relation(student: list[float], teacher: list[float], *, kind: str) -> float:
    if kind == "mse":
        return float(np.mean([(s - t) ** 2 for s, t in zip(student, teacher, strict=True)]))
    q, p = ([math.exp(x) / sum(map(math.exp, side)) for x in side] for side in (student, teacher))
    return sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))


def attention_transfer(student: Array, teacher: Array, *, p: float = 2.0) -> Array:
    values = []
    for s, t in zip(student, teacher, strict=True):
        maps = []
        for x in (s, t):
            columns = x.reshape(len(x), -1).T
            maps.append(unit(np.array([np.mean([abs(v) ** p for v in c]) for c in columns])))
        values.append(float(np.mean((maps[0] - maps[1]) ** 2)))
    return np.array(values)


def relational_distance(student: Array, teacher: Array) -> Array:
    sides = []
    for x in (student, teacher):
        distances = np.array([[norm(a - b) for b in x] for a in x])
        positive = distances[distances > 0]
        sides.append(distances / positive.mean() if positive.size else distances)
    return np.array(np.mean([huber(float(d)) for d in (sides[0] - sides[1]).flatten()]))


def relational_angle(student: Array, teacher: Array) -> Array:
    terms, samples = [], range(len(student))
    for i in samples:
        for j in samples:
            for k in samples:
                s, t = (float(unit(x[i] - x[j]) @ unit(x[k] - x[j])) for x in (student, teacher))
                terms.append(huber(s - t))
    return np.array(np.mean(terms))


def linear_cka(student: Array, teacher: Array, *, debiased: bool = False) -> Array:
    estimate = unbiased_hsic if debiased else biased_hsic
    k, m = (x @ x.T for x in (student, teacher))
    return np.array(estimate(k, m) / math.sqrt(estimate(k, k) * estimate(m, m)))


def biased_hsic(k: Array, m: Array) -> float:
    center = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ center @ m @ center)) / (len(k) - 1) ** 2


def unbiased_hsic(k: Array, m: Array) -> float:
    """The estimator of Song et al. (2012) in their own form."""
    n, one = len(k), np.ones(len(k))
    k, m = (x - np.diag(np.diag(x)) for x in (k, m))
    first = float(np.trace(k @ m))
    second = float((one @ k @ one) * (one @ m @ one)) / ((n - 1) * (n - 2))
    third = 2 * float(one @ k @ m @ one) / (n - 2)
    return (first + second - third) / (n * (n - 3))


class Case(NamedTuple):
    """A loss, shapes it takes, and its options."""

    name: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])


def cases() -> Iterator[Case]:
    for kind in ("mse", "smooth_l1", "cosine", "normalized_mse"):
        yield Case("feature_distance", (5, 4), (5, 4), {"kind": kind})
    yield Case("feature_distance", (5, 4), (5, 4), {"kind": "smooth_l1", "beta": 0.3})
    yield Case("similarity_preserving", (5, 4), (5, 7), {})
    yield Case("inter_channel_correlation", (3, 4, 5), (3, 4, 2, 3), {})
    for kind in ("kl", "mse"):
        for causal in (False, True):
            yield Case(
                "attention_relation",
                (2, 4, 6),
                (2, 4, 9),
                {"heads": 3, "kind": kind, "causal": causal},
            )
    for p in (1.0, 2.0, 3.5):
        yield Case("attention_transfer", (3, 4, 2, 3), (3, 5, 2, 3), {"p": p})
    yield Case("relational_distance", (5, 4), (5, 7), {})
    yield Case("relational_angle", (5, 4), (5, 7), {})
    yield Case("linear_cka", (6, 2), (6, 3), {})  # by covariances
    yield Case("linear_cka", (5, 8), (5, 7), {})  # by Gram matrices
    yield Case("linear_cka", (6, 4), (6, 7), {"debiased": True})


CASES = list(cases())
REFERENCE: dict[str, Callable[..., Array]] = {
    each.__name__: each
    for each in (
        feature_distance,
        similarity_preserving,
        inter_channel_correlation,
        attention_relation,
        attention_transfer,
        relational_distance,
        relational_angle,
        linear_cka,
    )
}
