"""A language model whose layers have shortcuts: a small adapter that takes the place of a layer."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pruning.token_means import valid_tokens
from kdlight.sources import LogitsSource


class ShortcutLayer(nn.Module):
    r"""A layer with a shortcut around it, (B, T, D) -> (B, T, D).

    .. math:: h' = w\, g(h) + (1 - w)\, f(h), \qquad w = \sigma(router(h)), \qquad
              g(h) = h + U \operatorname{SiLU}(D h)

    The layer f is frozen; router, D and U are trained. In the beginning U is zero, so that the
    shortcut leaves out the layer, and w is the same for all tokens.

    Args:
        layer: the layer; its first argument and its first output are the hidden states.
        width: D, the width of the hidden states.
        bottleneck: width of the adapter.
        initial_weight: w in the beginning.

    Attributes:
        last_weight: w in the last forward pass, (B, T, 1), with its graph; None before.

    Example:
        >>> layer = ShortcutLayer(nn.Linear(4, 4), width=4, bottleneck=2, initial_weight=0.25)
        >>> layer(torch.zeros(2, 3, 4)).shape, layer.last_weight.mean().item()
        (torch.Size([2, 3, 4]), 0.25)
    """

    last_weight: Tensor | None

    def __init__(
        self, layer: nn.Module, *, width: int, bottleneck: int, initial_weight: float
    ) -> None:
        super().__init__()
        self.layer = layer
        self.router = nn.Linear(width, 1)
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.router.weight)
        nn.init.constant_(self.router.bias, log(initial_weight) - log(1 - initial_weight))
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.last_weight = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer and its shortcut on the same hidden states."""
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        output = self.layer(*args, **kwargs)
        full: Tensor = output if isinstance(output, Tensor) else output[0]
        wide = hidden.to(self.router.weight.dtype)
        self.last_weight = self.router(wide).sigmoid()
        shortcut = wide + self.up(nn.functional.silu(self.down(wide)))
        # in this form w = 0 gives the layer's own output, to the bit
        mixed = full + (self.last_weight * (shortcut - full)).to(full.dtype)
        return mixed if isinstance(output, Tensor) else type(output)((mixed, *output[1:]))

    def __getattr__(self, name: str) -> Any:
        """Return what a model asks its layers for, such as the kind of their attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer" or name.startswith("__"):
                raise
            return getattr(self.layer, name)

    def __getstate__(self) -> dict[str, Any]:
        # a tensor with a graph can neither be copied nor pickled
        return {**self.__dict__, "last_weight": None}


class ShortcutCausalLM(nn.Module):
    """A causal language model with shortcuts; `kdlight.models.DepthShortcut` builds it.

    It has no ``save_pretrained``, because no architecture of transformers has such layers: its
    weights are in the checkpoints of a run.

    Args:
        language_model: a language model whose layers are replaced by `ShortcutLayer`.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from kdlight.models import DepthShortcut
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=1)
        >>> teacher = CausalLM.wrap(GPT2LMHeadModel(config))
        >>> student = DepthShortcut(initial_weight=0.5).build(teacher)
        >>> student({"input_ids": torch.tensor([[1, 2, 3]])}).shape
        torch.Size([1, 3, 9])
        >>> student.mean_weight().item()
        0.5
    """

    def __init__(self, language_model: CausalLM) -> None:
        super().__init__()
        self.language_model = language_model
        self._valid: Tensor | None = None

    def forward(self, batch: Any) -> LogitsSource:
        """Compute the logits of the next token at every position, (B, T) -> (B, T, V)."""
        logits = self.language_model(batch)
        self._valid = valid_tokens(batch)
        return logits

    def mean_weight(self) -> Tensor:
        """Return the mean of w over layers and tokens of the last forward pass, with its graph.

        The share of the depth that shortcuts take the place of. Padding does not count: tokens
        whose ``attention_mask`` is 0 or, in a batch without one, whose label is -100. To raise it,
        return ``-0.1 * self.student.mean_weight()`` from ``extra_loss`` of a module.

        Raises:
            RuntimeError: If there was no forward pass.
        """
        layers = [part for part in self.modules() if isinstance(part, ShortcutLayer)]
        weights = [part.last_weight for part in layers if part.last_weight is not None]
        if not weights or self._valid is None:
            raise RuntimeError("the weights of shortcuts are known after a forward pass only")
        mean = torch.stack(weights).mean(0).squeeze(-1)  # of the layers, (B, T)
        valid = self._valid.to(mean.device)
        return (mean * valid).sum() / valid.sum().clamp(min=1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_valid": None}

    @property
    def vocab_size(self) -> int:
        """Width V of the logits."""
        return self.language_model.vocab_size

    @property
    def context_length(self) -> int | None:
        """Maximal length of a sequence; None if the model has no limit."""
        return self.language_model.context_length

    def generate(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Generate continuations of prompts in evaluation mode, (B, T) -> (B, T + new)."""
        return self.language_model.generate(input_ids, **kwargs)
