"""A sampler that draws from domains by weights, for one process or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, DistributedSampler

from kdlight.data.domains.draws import DomainDraws


class DomainSampler(DistributedSampler):
    """Draws samples of several domains by weights that may change at any time.

    The draws of a run are numbered over all epochs and ranks, see `DomainDraws`. An epoch has as
    many draws as there are samples, rounded up to a multiple of the number of ranks. Rank r of R
    makes the draws r, r + R, r + 2 R, ... of it, so that the ranks together draw what one process
    draws. An epoch need not contain all samples: a domain with little weight comes in parts over
    several epochs, one with much weight several times in one.

    As it is a `torch.utils.data.DistributedSampler`, Lightning uses it as it is, whether
    ``use_distributed_sampler`` is set or not.

    Args:
        dataset: samples, those of the first domain first.
        sizes: number of samples of each domain.
        seed: seed of the draws.
        weights: weights of the domains in the beginning; uniform by default.
        num_replicas: number of ranks.
        rank: number of this rank.

    Raises:
        ValueError: Sizes that are not those of the dataset, wrong weights, or a rank that is none.

    Attributes:
        draws: which sample comes at which draw.
        drawn: number of draws that were made so far, on all ranks, also those of batches that the
            workers of a loader have prepared.

    Example:
        >>> sampler = DomainSampler(range(6), [2, 4], seed=0)
        >>> sampler.set_weights([0.0, 1.0])
        >>> [index >= 2 for index in sampler]
        [True, True, True, True, True, True]
        >>> sampler.state_dict()
        {'plan': [(0, [0.0, 1.0])]}
    """

    def __init__(
        self,
        dataset: Any,
        sizes: Sequence[int],
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        check_dataset(dataset, sizes)
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.draws = DomainDraws(sizes, seed=seed, weights=weights)
        self.drawn = 0

    @property
    def weights(self) -> list[float]:
        """The weights by which the next draws are made."""
        return self.draws.weights

    def set_weights(self, weights: Sequence[float], *, draw: int | None = None) -> None:
        """Set the weights of the domains.

        Call it on all ranks, with the same arguments.

        Args:
            weights: numbers in [0, 1] of sum 1, one for each domain.
            draw: the first draw that is made by these weights; None for the next one that is not
                made yet. The workers of a loader draw ahead, so that this is some batches later.

        Raises:
            ValueError: Wrong weights, or a draw before that of the weights before.
        """
        self.draws.set_weights(weights, draw=self.drawn if draw is None else draw)

    def epoch_start(self, epoch: int) -> int:
        """Return the number of the first draw of an epoch."""
        return epoch * self.total_size

    def __iter__(self) -> Iterator[int]:
        start = self.epoch_start(self.epoch)
        for draw in range(start + self.rank, start + self.total_size, self.num_replicas):
            self.drawn = draw - self.rank + self.num_replicas
            yield self.draws[draw]

    def state_dict(self) -> dict[str, Any]:
        """Return the plan, which holds for any number of ranks."""
        return {"plan": self.draws.plan}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with a plan; the epoch and the place within it are those of the loader."""
        self.draws.plan = state["plan"]


def check_dataset(dataset: Dataset, sizes: Sequence[int]) -> None:
    """Raise a ValueError where the domains are not those of a dataset.

    Example:
        >>> check_dataset(range(5), [2, 4])
        Traceback (most recent call last):
        ValueError: sizes of the domains, [2, 4], must add up to the 5 samples of the dataset
    """
    count = len(dataset)  # type: ignore[arg-type]
    if sum(sizes) != count:
        raise ValueError(
            f"sizes of the domains, {list(sizes)}, must add up to the {count} samples of the"
            " dataset"
        )
