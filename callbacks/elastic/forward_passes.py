"""Let the forward passes of a training step run some of the layers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from kdlight.models.pruning.sub_network import SubNetworks


class ElasticPasses:
    """Runs a sub-network in each forward pass of a model in training mode, while one is chosen.

    The model is whole before and after each forward pass, also if it raises an error: checkpoints,
    other callbacks and evaluations find all of its layers.

    Args:
        networks: the sub-networks of the model.

    Attributes:
        layers: the layers that run in training mode; None for all.
        count: number of forward passes in training mode since they were chosen.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=1)
        >>> model = GPT2LMHeadModel(config).train()
        >>> passes = ElasticPasses(SubNetworks(model))
        >>> passes.attach()
        >>> passes.choose([0, 2])
        >>> _ = model(input_ids=torch.tensor([[1, 2]]))
        >>> passes.count
        1
        >>> passes.detach()
    """

    def __init__(self, networks: SubNetworks) -> None:
        self.networks = networks
        self.layers: list[int] | None = None
        self.count = 0
        self._running: list[ExitStack] = []
        self._handles: list[RemovableHandle] = []

    def choose(self, layers: list[int] | None) -> None:
        """Choose the layers of the forward passes that follow; None for all."""
        self.layers, self.count = layers, 0

    def attach(self) -> None:
        """Register the hooks on the module that runs the layers."""
        self.detach()
        owner = self.networks.owner
        self._handles = [
            owner.register_forward_pre_hook(self._start),
            owner.register_forward_hook(self._end, always_call=True),
        ]

    def detach(self) -> None:
        """Remove the hooks, and forget the chosen layers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.choose(None)

    def _start(self, owner: nn.Module, args: Any) -> None:
        stack = ExitStack()
        self._running.append(stack)
        if self.layers is not None and owner.training:  # generated text is that of the whole model
            self.count += 1
            stack.enter_context(self.networks.only(self.layers))

    def _end(self, owner: nn.Module, args: Any, output: Any) -> None:
        # also called after an error in an earlier hook, before `_start`
        if self._running:
            self._running.pop().close()
