"""A model that runs with some of its layers: what a pruned copy computes, on the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from kdlight.models.pruning.kept_layers import prune_config
from kdlight.models.pruning.layer_list import layer_list
from kdlight.models.pruning.layer_pruning import choose_layers

INDEX = "layer_idx"
"""The attribute of the modules in a layer that is its place in the model."""


class SubNetworks:
    """The sub-networks of a model that have some of its layers.

    Within `only`, the model computes what `prune_layers` would return a copy of, bitwise, and
    gradients go to its own weights: its list of layers is shorter, and so are the lists in its
    config with an entry per layer. Nothing is copied. Parameters, their names and their hooks are
    those of the whole model before and after.

    Check a choice of layers with `kdlight.models.check_sub_network` first: what `prune_layers`
    refuses would compute something else here.

    Args:
        model: a Hugging Face causal language model whose layers are one `torch.nn.ModuleList`.

    Attributes:
        path: path of that list in the model.
        depth: number of layers of the model.
        layers: all layers.
        owner: the module that runs the layers, one after the other.

    Raises:
        ValueError: If there is not exactly one list of as many modules as the config has layers.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=4, n_head=1)
        >>> networks = SubNetworks(GPT2LMHeadModel(config))
        >>> with networks.only([0, 3]):
        ...     networks.model.config.num_hidden_layers, len(networks.model.transformer.h)
        (2, 2)
        >>> len(networks.model.transformer.h)
        4
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.path = layer_list(model)
        owner, _, self._name = self.path.rpartition(".")
        self.owner: nn.Module = model.get_submodule(owner)
        self.layers: nn.ModuleList = model.get_submodule(self.path)
        self.depth = len(self.layers)
        self._numbered = [
            [part for part in layer.modules() if vars(part).get(INDEX) == index]
            for index, layer in enumerate(self.layers)
        ]

    @contextmanager
    def only(self, layers: int | Sequence[int]) -> Iterator[None]:
        """Let the model run some layers only.

        Args:
            layers: indices of the layers, or their number, see `choose_layers`.

        Raises:
            TypeError: If ``layers`` are no integers.
            ValueError: If there are no such layers.
        """
        kept = choose_layers(layers, depth=self.depth)
        text = self.model.config.get_text_config()
        pruned = vars(prune_config(self.model.config, kept).get_text_config())
        given = {k: v for k, v in vars(text).items() if k in pruned and pruned[k] != v}
        try:
            for name in given:
                setattr(text, name, pruned[name])
            self._number(kept)
            setattr(self.owner, self._name, nn.ModuleList(self.layers[index] for index in kept))
            yield
        finally:
            setattr(self.owner, self._name, self.layers)
            self._number(range(self.depth))
            for name, value in given.items():
                setattr(text, name, value)

    def _number(self, kept: Sequence[int]) -> None:
        """Tell layers their place, by which they find their entry in a cache of keys and values."""
        for place, index in enumerate(kept):
            for part in self._numbered[index]:
                vars(part)[INDEX] = place

    def count_parameters(self, layers: int | Sequence[int]) -> int:
        """Return the number of parameters of a sub-network; tied ones count once."""
        kept = choose_layers(layers, depth=self.depth)
        left_out = [layer for index, layer in enumerate(self.layers) if index not in kept]
        dropped = {id(p) for layer in left_out for p in layer.parameters()}
        return sum(p.numel() for p in self.model.parameters() if id(p) not in dropped)


@contextmanager
def sub_network(model: Any, layers: int | Sequence[int]) -> Iterator[None]:
    """Let a Hugging Face causal language model run some of its layers only, see `SubNetworks`.

    Args:
        model: the model.
        layers: indices of the layers, or their number, see `choose_layers`.

    Raises:
        TypeError: If ``layers`` are no integers.
        ValueError: If there are no such layers, or the model is not built from one list of layers.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=4, n_head=1))
        >>> with sub_network(model, 2):
        ...     model(input_ids=model.dummy_inputs["input_ids"] % 9).logits.shape
        torch.Size([3, 5, 9])
    """
    with SubNetworks(model).only(layers):
        yield
