"""Text from the ``generate`` method of the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from kdlight.models.call_network import call_network
from kdlight.models.evaluating import evaluating
from kdlight.models.sampling import Sampling
from kdlight.rollouts.continuation import continue_text
from kdlight.rollouts.engine import RolloutEngine
from kdlight.rollouts.generation_settings import neutral_settings, suppressed_tokens
from kdlight.rollouts.probe import network_size
from kdlight.rollouts.writer import Writer


class HuggingFaceRollouts(RolloutEngine):
    """Generates in this process, with the ``generate`` method of Hugging Face and its cache.

    With a temperature of 0 the text of a sequence does not depend on the others of the batch, up to
    rounding. Sampled text does: one seed draws for all sequences together. What the generation
    config of the network sets, such as a penalty for repetition, has an effect, unless the writer
    must draw from the network as it is.

    Example:
        >>> HuggingFaceRollouts().runs_network
        True
    """

    runs_network: ClassVar[bool] = True

    @torch.no_grad()
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
        """Return each prefix with its continuation, see `RolloutEngine.generate`."""
        if writer.sharded:  # gather the parameters of the root module, which `generate` does not
            ids = torch.zeros(1, 1, dtype=torch.long, device=writer.device)
            call_network(writer.network, {"input_ids": ids})
        elif not prefixes:
            return []
        options: dict[str, Any] = replace(sampling, max_new_tokens=None).options()
        if writer.vocab_size is not None:
            unknown = range(writer.vocab_size, network_size(writer.network))
            own = [] if writer.as_it_is else suppressed_tokens(writer.network)
            options["suppress_tokens"] = [*own, *unknown]
        settings = neutral_settings(writer.network) if writer.as_it_is else nullcontext()
        with isolate_rng(), evaluating(writer.network), settings:
            torch.manual_seed(seed)
            texts = continue_text(
                writer.network,
                prefixes or [torch.zeros(1, dtype=torch.long)],
                room or [1],
                end=end,
                device=writer.device,
                synced_gpus=writer.sharded,
                **options,
            )
        return texts if prefixes else []
