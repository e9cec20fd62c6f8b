"""Solved sums as a Lightning data module, which needs no files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.sums import sample_sums, solve_sums
from kdlight.data.traces.trace import Trace


class SumsDataModule(TracesDataModule):
    """Sums of small numbers with their solutions, made anew from the seed; see `sample_sums`.

    A small task whose answers the verifier ``number`` can judge, to try callbacks in which a
    student generates text.

    Args:
        tokenizer: location of the tokenizer, or a tokenizer, as for a
            `kdlight.data.TracesDataModule`.
        size: number of sums, of which ``validation_fraction`` are validated on.
        min_terms: smallest number of terms.
        max_terms: largest number of terms.
        max_digits: largest number of digits of a term.
        batch_size: number of samples in a training batch.
        eval_batch_size: number of samples in a validation batch; None for ``batch_size``.
        validation_fraction: fraction of the prompts to validate on; 0 for no validation.
        seed: seed of the sums, of the split and of the order of the samples.
        num_workers: number of worker processes.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range.

    Example:
        >>> data = SumsDataModule("HuggingFaceTB/SmolLM2-135M", size=200, max_terms=3)
        >>> data.kind, data.per_prompt
        ('positives', None)
    """

    def __init__(
        self,
        tokenizer: str | Callable[..., Any],
        size: int = 1000,
        *,
        min_terms: int = 2,
        max_terms: int = 4,
        max_digits: int = 1,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        validation_fraction: float = 0.05,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            tokenizer,
            "sums",
            chat=False,
            per_prompt=None,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            validation_fraction=validation_fraction,
            seed=seed,
            num_workers=num_workers,
        )
        sizes = {"min_terms": min_terms, "max_terms": max_terms, "max_digits": max_digits}
        self.prompts = sample_sums(size, seed=seed, **sizes)

    def read(self) -> list[Trace]:
        """Return the solved sums."""
        return solve_sums(self.prompts)
