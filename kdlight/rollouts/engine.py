"""The base of what generates text for training: a network in this process, or a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from kdlight.models.sampling import Sampling
from kdlight.rollouts.writer import Writer


class RolloutEngine(ABC):
    """Generates text with a student, or with the model of a server.

    Callbacks such as `kdlight.callbacks.OnPolicy`, and `kdlight.data.traces.generate_traces`, call
    `prepare` once before the work, then `synchronise` and `generate` for each batch, on all ranks
    equally often. Each rank generates for its own prompts.

    Attributes:
        runs_network: whether `generate` calls the ``generate`` method of the network.

    Example:
        >>> import torch
        >>> class Repeats(RolloutEngine):
        ...     def generate(self, writer, prefixes, room, *, sampling, seed, end):
        ...         return [
        ...             torch.cat([ids, ids[-1:].repeat(most)])
        ...             for ids, most in zip(prefixes, room, strict=True)
        ...         ]
        >>> options = {"sampling": Sampling(), "seed": 0, "end": []}
        >>> Repeats().generate(Writer(None), [torch.tensor([3, 4])], [2], **options)
        [tensor([3, 4, 4, 4])]
    """

    runs_network: ClassVar[bool] = False

    @abstractmethod
    def generate(
        self,
        writer: Writer,
        prefixes: Sequence[Tensor],
        room: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        end: Sequence[int],
    ) -> list[Tensor]:
        """Return each prefix with its continuation, on the CPU.

        A continuation ends with its first end token, or where the context of the network ends. The
        global random generators are left as they are. If the network is sharded, all ranks call
        this equally often, even without prefixes.

        Args:
            writer: the network that generates.
            prefixes: token ids (n,) of each sequence.
            room: maximal number of new tokens of each sequence.
            sampling: temperature and top_p; its length and seed are not used.
            seed: the seed of these sequences.
            end: ids of the tokens that end a text.
        """

    def prepare(self, writer: Writer) -> None:  # noqa: B027
        """Raise an error for what would fail later; called on all ranks before the work starts."""

    def synchronise(self, writer: Writer, step: int) -> None:  # noqa: B027
        """Take over the weights after ``step`` optimizer steps, if that is due; on all ranks."""

    def check_unchanged(self) -> None:  # noqa: B027
        """Raise an error if the last text may be of another model than that of `prepare`.

        `kdlight.data.traces.generate_traces` calls it before it keeps a batch. An engine that gets
        the weights of the network checks in `generate` whose they are.
        """

    @property
    def context(self) -> int | None:
        """Number of tokens of a text, if it is not the network that limits it."""
        return None

    def names(self) -> list[str]:
        """Return the names of the model that the engine has of its own; none if it has none."""
        return []

    def identity(self) -> dict[str, Any]:
        """Return what determines the text beside the network, for the settings of a file."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Return what to log about the last batch, by name."""
        return {}

    def close(self) -> None:  # noqa: B027
        """Free what the engine holds; called after the work."""
