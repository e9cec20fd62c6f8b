"""The held-out KL of some depths, beside the metrics of the whole student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kdlight.callbacks.elastic.depth_means import depth_means
from kdlight.callbacks.elastic.held_out import kl_sum, metrics_temperature
from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.checks import check_integer, check_type
from kdlight.models.pruning.sub_network import SubNetworks
from kdlight.modules.base import DistillationBase


class DepthValidation:
    """Evaluates some depths on the batches of a validation, and logs ``val/depth_D/forward_kl``.

    The teacher runs once for all of them.

    Args:
        networks: the sub-networks of the student.
        depths: the depths to evaluate.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=1)
        >>> validation = DepthValidation(SubNetworks(GPT2LMHeadModel(config)), [1, 2])
        >>> list(validation.sums)
        [1, 2]
    """

    def __init__(self, networks: SubNetworks, depths: Sequence[int]) -> None:
        self.networks, self.depths = networks, list(depths)
        self.sums: dict[int, Tensor] = {}
        self.reset()

    def reset(self) -> None:
        """Start new sums."""
        self.sums = {depth: torch.zeros(2, dtype=torch.float64) for depth in self.depths}

    def update(self, trainer: Trainer, module: DistillationBase, batch: Any) -> None:
        """Add a batch."""
        if not self.depths:
            return
        temperature = metrics_temperature(module)
        with inference_context(trainer, module):
            teacher = module.teacher_logits(batch)
            for depth in self.depths:
                with self.networks.only(depth):
                    inputs = logit_inputs(module, batch, teacher)
                self.sums[depth] += kl_sum(inputs, temperature)

    def means(self, trainer: Trainer) -> dict[int, float]:
        """Return the mean of each depth over all ranks."""
        return depth_means(trainer, self.sums)

    def log(self, trainer: Trainer, module: DistillationBase) -> None:
        """Log the mean of each depth over all ranks."""
        for depth, mean in self.means(trainer).items():
            module.log(f"val/depth_{depth}/forward_kl", mean, sync_dist=True)


def depths_to_validate(
    depth: int, smallest: int, given: Sequence[int] | None, *, teacher: Any
) -> list[int]:
    """Return the depths to validate: those given, or the smallest and the middle one.

    Args:
        depth: number of layers of the student.
        smallest: the smallest number of layers that is trained.
        given: depths to validate; None for the default, which is none without a teacher.
        teacher: the teacher, or None.

    Raises:
        TypeError: ``given`` is no list, or a depth is no integer.
        ValueError: A depth that the student does not have; depths without a teacher.

    Example:
        >>> depths_to_validate(10, 4, None, teacher="a network")
        [4, 7]
    """
    if given is None:
        return [] if teacher is None else sorted({smallest, (smallest + depth) // 2})
    check_type("validate_depths", given, (list, tuple), "a list of numbers of layers")
    for each in given:
        check_integer("validate_depths", each, 1, depth)
    if given and teacher is None:
        raise ValueError(
            "validate_depths compares the student with its teacher, but the teacher is None; set"
            " validate_depths=[]"
        )
    return list(given)
