"""Text of several domains for a causal language model, drawn by weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset

from kdlight.checks import check_integer
from kdlight.data.domains.domain_checks import check_domains, check_weights
from kdlight.data.domains.domain_sampler import DomainSampler
from kdlight.data.loaders import eval_loader, train_loader
from kdlight.data.packing import Blocks
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import shuffle
from kdlight.data.text import TextDataModule
from kdlight.models.pretrained import as_tokenizer

Files = list[str] | str | None


class DomainDataModule(SplitDataModule):
    """Text of several domains in blocks of tokens, with a validation split for each domain.

    A training batch is drawn by weights, block by block, see `kdlight.data.DomainSampler`. The
    weights are uniform, or those that `kdlight.callbacks.DomainReweighting` or your own code sets
    on the `sampler`. They are saved in checkpoints. An epoch has as many blocks as the training
    text, but need not contain each of them. Validation runs over the validation blocks of all
    domains in a fixed random order, each once.

    Batches and splits are those of a `kdlight.data.TextDataModule` of each domain: dicts of
    ``input_ids`` and ``labels``, ``(batch_size, block_size)``, with labels that are not shifted; a
    block never holds text of two domains.

    Args:
        tokenizer: location of the tokenizer, or a tokenizer.
        domains: the texts of two or more domains by name, see `kdlight.data.read_documents`: paths,
            globs, ``package:NAME/GLOB``, ``hf:NAME``; None for the documentation of Python's
            standard library.
        weights: of the domains in the beginning: ``"uniform"``, ``"proportional"`` to their number
            of blocks, or a number in [0, 1] for each name, of sum 1.
        text_field: the field of a JSON line or dataset row that holds the text.
        block_size: number of tokens in a block.
        batch_size: number of blocks in a training batch.
        eval_batch_size: number of blocks in a validation batch; None for ``batch_size``.
        validation_fraction: fraction of the tokens of each domain to validate on, in whole
            documents.
        seed: seed of the split and of the draws.
        num_workers: number of worker processes; the blocks are in memory, so 0 is fast, and new
            weights act at once.
        max_tokens: use only the first documents of each domain, in random order, that hold this
            many tokens.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there are fewer than two domains, or an argument is out of range; at setup,
            if a file of a domain is missing, empty or not text, or a domain does not fill one
            training and one validation block.

    Example:
        >>> from kdlight.data import DomainDataModule
        >>> data = DomainDataModule(
        ...     "HuggingFaceTB/SmolLM2-135M", {"help": None, "code": "package:asyncio/*.py"}
        ... )
        >>> data.names  # nothing is read before setup
        ['help', 'code']
    """

    def __init__(
        self,
        tokenizer: str | Callable[..., Any],
        domains: Mapping[str, Files],
        *,
        weights: str | Mapping[str, float] = "uniform",
        text_field: str = "text",
        block_size: int = 128,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_domains(domains)
        check_weights(weights, list(domains))
        self.tokenizer_source, self.block_size = tokenizer, block_size
        self.initial_weights = weights
        self.texts = {
            name: TextDataModule(
                tokenizer,
                files,
                text_field=text_field,
                block_size=block_size,
                validation_fraction=validation_fraction,
                seed=seed,
                max_tokens=max_tokens,
            )
            for name, files in domains.items()
        }
        self._sampler: DomainSampler | None = None

    @property
    def names(self) -> list[str]:
        """The names of the domains."""
        return list(self.texts)

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded on first access."""
        return as_tokenizer(self.tokenizer_source)

    def prepare_data(self) -> None:
        """Download datasets, in one process per machine."""
        for text in self.texts.values():
            text.prepare_data()

    def load_parts(self) -> tuple[ConcatDataset, Subset]:
        """Read, split, encode and pack the text of each domain."""
        parts: tuple[list[Blocks], list[Blocks]] = ([], [])
        for name, text in self.texts.items():
            text.tokenizer = self.tokenizer
            try:
                blocks = text.parts
            except ValueError as error:
                raise ValueError(f"domain {name!r}: {error}") from error
            for part, each in zip(parts, blocks, strict=True):
                part.append(each)
        train, validation = (ConcatDataset(part) for part in parts)
        # mixed, so that limit_val_batches leaves blocks of each domain
        mixed = shuffle(range(len(validation)), seed=self.seed)
        return train, Subset(validation, mixed)

    @property
    def sampler(self) -> DomainSampler:
        """What draws the training blocks, on the rank of this process."""
        trainer = self.trainer
        ranks = (trainer and trainer.distributed_sampler_kwargs) or {"num_replicas": 1, "rank": 0}
        known = self._sampler
        if known is None or (known.num_replicas, known.rank) != (
            ranks["num_replicas"],
            ranks["rank"],
        ):
            sizes = [len(text.train_blocks) for text in self._loaded().values()]
            self._sampler = DomainSampler(
                self.parts[0], sizes, seed=self.seed, weights=self._first_weights(sizes), **ranks
            )
            if known is not None:
                self._sampler.load_state_dict(known.state_dict())
        assert self._sampler is not None
        return self._sampler

    def restart(self) -> None:
        """Draw by the weights of the beginning again."""
        sampler = self.sampler
        sampler.load_state_dict({"plan": [(0, self._first_weights(sampler.draws.sizes))]})

    def train_dataloader(self) -> DataLoader:
        """Return training blocks, drawn by weights; outside of a fit all of them, each once."""
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.TESTING:
            # the cache of a teacher is written in a test loop, and needs every block
            return eval_loader(self.parts[0], trainer=self.trainer, batch_size=self.batch_size)
        return train_loader(
            self.parts[0],
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
            sampler=self.sampler,
        )

    def domain_dataloaders(self, samples: int) -> dict[str, DataLoader]:
        """Return the first validation blocks of each domain, at most ``samples`` of each.

        All ranks get the same number of batches.
        """
        check_integer("samples", samples, 1)
        return {
            name: eval_loader(
                Subset(text.validation_blocks, range(min(samples, len(text.validation_blocks)))),
                trainer=self.trainer,
                batch_size=self.eval_batch_size,
            )
            for name, text in self._loaded().items()
        }

    @cached_property
    def tokens_of_blocks(self) -> Tensor:
        """The number of tokens of each training block, ``(blocks,)``; the last one has padding."""
        counts = []
        for text in self._loaded().values():
            blocks = text.train_blocks
            counts.append(torch.full((len(blocks),), self.block_size))
            counts[-1][-1] -= len(blocks) * self.block_size - blocks.tokens
        return torch.cat(counts)

    @property
    def summary(self) -> dict[str, dict[str, int]]:
        """Numbers of documents, tokens and blocks of each domain."""
        return {name: text.summary for name, text in self._loaded().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, and the draws from which on each of them held."""
        return {} if self._sampler is None else {**self._sampler.state_dict(), "names": self.names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the weights of a checkpoint.

        Raises:
            ValueError: If the checkpoint has other domains, or the same in another order.
        """
        if "plan" not in state_dict:
            return
        if state_dict["names"] != self.names:
            raise ValueError(
                f"domains are {self.names}, but the checkpoint has {state_dict['names']}; resume"
                " with the domains of the checkpoint, in their order"
            )
        self.sampler.load_state_dict(state_dict)

    def _loaded(self) -> dict[str, TextDataModule]:
        self.setup()
        return self.texts

    def _first_weights(self, sizes: list[int]) -> list[float]:
        if isinstance(self.initial_weights, Mapping):
            return [self.initial_weights[name] for name in self.names]
        shares = sizes if self.initial_weights == "proportional" else [1] * len(sizes)
        return [share / sum(shares) for share in shares]
