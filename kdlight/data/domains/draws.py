"""An endless sequence of samples of several domains, as a function of a seed and of weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import isclose

import torch
from torch import Tensor

from kdlight.checks import check_integer

BLOCK = 4096
"""Number of draws that are computed at once."""

Plan = list[tuple[int, list[float]]]


class DomainDraws:
    """Which sample is drawn at each number of draw: 0, 1, 2 and so on without an end.

    A draw chooses a domain at random by the weights that hold for it, and takes the next sample of
    this domain. The samples of a domain come in random order, and in a new one when all of them
    were taken. So draw n is a function of the seed and of the plan, the list of all weights with
    the first draw for which each holds: no other state needs to be saved, and the processes of a
    run agree without a word.

    Args:
        sizes: number of samples of each domain; the samples of the first domain are 0, 1, ..., then
            come those of the second one.
        seed: any seed of `torch.Generator`.
        weights: weights of the domains from draw 0 on; uniform by default.

    Raises:
        ValueError: A domain without samples, or weights that are not positive in sum.

    Example:
        >>> draws = DomainDraws([2, 4], seed=0, weights=[1.0, 0.0])
        >>> sorted(draws.samples(0, 4).tolist())
        [0, 0, 1, 1]
        >>> draws.set_weights([0.0, 1.0], draw=4)
        >>> sorted(draws.samples(4, 8).tolist())
        [2, 3, 4, 5]
        >>> draws.plan
        [(0, [1.0, 0.0]), (4, [0.0, 1.0])]
    """

    def __init__(
        self, sizes: Sequence[int], *, seed: int, weights: Sequence[float] | None = None
    ) -> None:
        for size in sizes:
            check_integer("the number of samples of a domain", size, 1)
        self.sizes = list(sizes)
        self._starts = [0, *accumulate(self.sizes)]
        generator = torch.Generator().manual_seed(seed)
        # a stream of random numbers for the domains, and one for the order of each of them
        self._seeds = torch.randint(2**62, (len(self.sizes) + 1,), generator=generator).tolist()
        self._orders: dict[int, tuple[int, Tensor]] = {}
        uniform = [1 / len(self.sizes)] * len(self.sizes)
        self._set_plan([(0, self._checked(uniform if weights is None else weights))])

    @property
    def plan(self) -> Plan:
        """The weights, with the first draw for which each holds."""
        return [(draw, list(weights)) for draw, weights in self._plan]

    @plan.setter
    def plan(self, plan: Plan) -> None:
        rows = [(int(draw), self._checked(weights)) for draw, weights in plan]
        numbers = [draw for draw, _ in rows]
        if not rows or numbers[0] != 0 or numbers != sorted(set(numbers)):
            raise ValueError(f"a plan must begin at draw 0 and go upwards, got {numbers}")
        self._set_plan(rows)

    @property
    def weights(self) -> list[float]:
        """The last weights of the plan."""
        return list(self._plan[-1][1])

    def set_weights(self, weights: Sequence[float], *, draw: int) -> None:
        """Set the weights for all draws from ``draw`` on.

        Raises:
            ValueError: The number of draw is before that of the last weights, or the weights are no
                list of numbers, one for each domain.
        """
        check_integer("draw", draw, self._plan[-1][0])
        row = (int(draw), self._checked(weights))
        plan = self._plan if draw > self._plan[-1][0] else self._plan[:-1]
        self._plan = [*plan, row]
        self._taken = self._taken[: draw // BLOCK + 1]
        self._cached = (-1, torch.empty(0), torch.empty(0))

    def __getitem__(self, draw: int) -> int:
        """Return the sample of a draw."""
        return int(self._block(draw // BLOCK)[1][draw % BLOCK])

    def samples(self, start: int, stop: int) -> Tensor:
        """Return the samples of draws ``start`` to ``stop - 1``, ``(stop - start,)``."""
        return self._slice(start, stop, 1)

    def domains(self, start: int, stop: int) -> Tensor:
        """Return the number of the domain of each draw, ``(stop - start,)``."""
        return self._slice(start, stop, 0)

    def _slice(self, start: int, stop: int, part: int) -> Tensor:
        blocks = range(start // BLOCK, -(-stop // BLOCK))
        parts = [self._block(number)[part] for number in blocks if stop > start]
        first = start - start % BLOCK
        whole = torch.cat([torch.empty(0, dtype=torch.int64), *parts])
        return whole[start - first : max(stop, start) - first]

    def _set_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._taken = [torch.zeros(len(self.sizes), dtype=torch.int64)]
        self._cached = (-1, torch.empty(0), torch.empty(0))

    def _checked(self, weights: Sequence[float]) -> list[float]:
        values = [float(weight) for weight in weights]
        valid = len(values) == len(self.sizes) and all(0 <= weight <= 1 for weight in values)
        if not valid or not isclose(sum(values), 1, abs_tol=1e-4):
            raise ValueError(
                f"weights must be {len(self.sizes)} numbers in [0, 1] of sum 1, one for each"
                f" domain, got {list(weights)}"
            )
        return values

    def _block(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the domains and samples of a block of draws."""
        for earlier in range(len(self._taken) - 1, number):  # how many of each domain come before
            counts = self._chosen(earlier).bincount(minlength=len(self.sizes))
            self._taken.append(self._taken[-1] + counts)
        if self._cached[0] != number:
            domains = self._chosen(number)
            samples = torch.empty_like(domains)
            for domain, taken in enumerate(self._taken[number].tolist()):
                places = (domains == domain).nonzero().flatten()
                samples[places] = self._next_samples(domain, taken, len(places))
            self._cached = (number, domains, samples)
        return self._cached[1:]

    def _chosen(self, number: int) -> Tensor:
        """Return the domain of each draw of a block."""
        generator = torch.Generator().manual_seed(self._seeds[0] + number)
        uniform = torch.rand(BLOCK, dtype=torch.float64, generator=generator)
        first, domains = number * BLOCK, torch.zeros(BLOCK, dtype=torch.int64)
        ends = [draw for draw, _ in self._plan[1:]] + [first + BLOCK]
        for (start, weights), end in zip(self._plan, ends, strict=True):
            if end > first and start < first + BLOCK:
                part = slice(max(start - first, 0), min(end - first, BLOCK))
                bounds = torch.tensor(weights, dtype=torch.float64).cumsum(0)
                found = torch.searchsorted(bounds / bounds[-1], uniform[part], right=True)
                domains[part] = found
        return domains

    def _next_samples(self, domain: int, taken: int, count: int) -> Tensor:
        """Return the next samples of a domain, of which some were taken before."""
        size, parts = self.sizes[domain], []
        while count > 0:
            offset = taken % size
            part = self._order(domain, taken // size)[offset : offset + count]
            parts.append(part)
            taken, count = taken + len(part), count - len(part)
        return torch.cat([torch.empty(0, dtype=torch.int64), *parts]) + self._starts[domain]

    def _order(self, domain: int, number: int) -> Tensor:
        """Return the order of the samples of a domain when they are taken for the n-th time."""
        known = self._orders.get(domain)
        if known is None or known[0] != number:
            generator = torch.Generator().manual_seed(self._seeds[1 + domain] + number)
            known = (number, torch.randperm(self.sizes[domain], generator=generator))
            self._orders[domain] = known
        return known[1]
