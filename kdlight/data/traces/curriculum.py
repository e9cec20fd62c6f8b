"""An order of training in which the length of responses changes from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler

from kdlight.checks import check_choice
from kdlight.data.loaders import EpochSampler
from kdlight.data.traces.encode import EncodedTrace

Curriculum: TypeAlias = Literal["long_to_short", "short_to_long"]
CURRICULA = ("long_to_short", "short_to_long")


def check_curriculum(curriculum: Any, *, kind: str, per_prompt: int | str | None) -> None:
    """Raise an error for a curriculum of other samples than all chosen responses of a prompt.

    Raises:
        ValueError: If it is another word, or the samples are of another kind or limited.

    Example:
        >>> check_curriculum("long_to_short", kind="pairs", per_prompt=None)
        Traceback (most recent call last):
        ValueError: curriculum='long_to_short' orders all chosen responses of a prompt, got...
    """
    check_choice("curriculum", curriculum, CURRICULA)
    if kind != "positives" or per_prompt not in ("auto", None):
        raise ValueError(
            f"curriculum={curriculum!r} orders all chosen responses of a prompt, got kind={kind!r}"
            f" and per_prompt={per_prompt!r}; use kind='positives' and leave per_prompt out"
        )


def curriculum_sampler(
    samples: Sequence[Sequence[EncodedTrace]],
    curriculum: Curriculum,
    *,
    trainer: Trainer | None,
    seed: int,
) -> CurriculumSampler:
    """Return the sampler of a curriculum for the epochs and the ranks of a run.

    Args:
        samples: samples of one encoded trace.
        curriculum: see `length_bands`.
        trainer: the trainer of the run; None for one rank and any number of epochs.
        seed: seed of the orders of all epochs.
    """
    # ranks are divided here: what Lightning puts around a sampler hides the epoch from it
    ranks = (trainer and trainer.distributed_sampler_kwargs) or {}
    epochs = (trainer and trainer.max_epochs) or -1
    bands = length_bands(samples, curriculum, epochs=epochs if epochs > 0 else None)
    return CurriculumSampler(bands, seed=seed, **ranks)


def length_bands(
    samples: Sequence[Sequence[EncodedTrace]],
    curriculum: Curriculum,
    *,
    epochs: int | None = None,
) -> list[list[int]]:
    """Return the samples of each epoch: one of each prompt, by the length of its response.

    There are as many bands as the prompt with the most responses has, but at most one per epoch. A
    prompt with fewer responses repeats them, one with more leaves some out, so that the longest of
    each prompt is in the band of the longest ones, and its shortest in that of the shortest ones.

    Args:
        samples: samples of one encoded trace.
        curriculum: ``"long_to_short"`` has the longest responses in the first band,
            ``"short_to_long"`` the shortest.
        epochs: number of epochs of the run, if it is known.

    Returns:
        The positions of samples in each band.

    Raises:
        ValueError: Every prompt has only one response, or the run has only one epoch.
    """
    prompts: dict[str, list[int]] = {}
    for index, (trace,) in enumerate(samples):
        prompts.setdefault(trace.prompt_id, []).append(index)
    number = max(map(len, prompts.values()), default=0)
    if number < 2:
        raise ValueError(
            f"curriculum={curriculum!r} orders the responses of a prompt by their length, but every"
            " prompt has only one; add responses, or leave curriculum out"
        )
    if epochs == 1:
        raise ValueError(
            f"curriculum={curriculum!r} has one length per epoch, but the run has one epoch; set"
            f" max_epochs to {number}, the number of lengths, or leave curriculum out"
        )
    number = min(number, epochs or number)
    sign = -1 if curriculum == "long_to_short" else 1
    for indices in prompts.values():
        indices.sort(key=lambda index: sign * len(samples[index][0].completion))
    return [
        [indices[round(band * (len(indices) - 1) / (number - 1))] for indices in prompts.values()]
        for band in range(number)
    ]


class CurriculumSampler(DistributedSampler):
    """Draws the samples of one band per epoch, in a random order, divided over ranks.

    Epochs after the last band draw the last band. The order is a function of the seed and the
    epoch, which Lightning sets.

    Args:
        bands: positions of samples, in bands of equal size, see `length_bands`.
        seed: seed of the orders of all epochs.
        num_replicas: number of ranks.
        rank: number of this rank.

    Example:
        >>> sampler = CurriculumSampler([[0, 1], [2, 3]], seed=0)
        >>> sampler.set_epoch(7)
        >>> sorted(sampler)
        [2, 3]
    """

    def __init__(
        self, bands: Sequence[Sequence[int]], *, seed: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        self.bands = bands
        super().__init__(bands[0], num_replicas=num_replicas, rank=rank, seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        band = self.bands[min(self.epoch, len(self.bands) - 1)]
        shuffled = EpochSampler(len(band), seed=self.seed)
        shuffled.set_epoch(self.epoch)
        order = [band[position] for position in shuffled]
        order += order[: self.total_size - len(order)]  # every rank has as many
        return iter(order[self.rank : self.total_size : self.num_replicas])
