"""Means over tokens of what modules of a model compute, on a few batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models.evaluating import evaluating
from kdlight.models.model_inputs import input_names, model_inputs
from kdlight.models.pruning.random_state import kept_random_state
from kdlight.models.training_weights import training_weights

Statistic = Callable[[Tensor, Tensor], Tensor]
"""From the inputs and outputs of a module at n tokens, (n, D) and (n, E), to values (n, K)."""


@torch.no_grad()
def token_means(
    model: Any, batches: Iterable[Mapping[str, Any]], statistics: Mapping[str, Statistic]
) -> dict[str, Tensor]:
    """Return the mean over valid tokens of a statistic of each named module, (K,) in float64.

    The model runs in evaluation mode, without its head. It is left as it was: mode, weights, hooks
    and the random state. Every token counts the same, whatever batch it is in.

    Args:
        model: a Hugging Face causal language model.
        batches: batches with the inputs of the model. A token is valid if its ``attention_mask`` is
            not 0; without a mask, if its label is not -100; without labels, always.
        statistics: a statistic by the path of its module.

    Raises:
        TypeError: If a batch is not a mapping, or its token ids are no tensor of integers.
        ValueError: If a token id is outside the vocabulary, there is no valid token, a module does
            not run, or a mean is not finite.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> size = lambda inputs, outputs: outputs.square()
        >>> batch = {"input_ids": torch.arange(6)[None]}
        >>> token_means(model, [batch], {"transformer.ln_f": size})["transformer.ln_f"].shape
        torch.Size([8])
    """
    means = {path: _Mean(path, each) for path, each in statistics.items()}
    device = model.get_input_embeddings().weight.device
    with (
        kept_random_state(),
        training_weights(model),
        evaluating(model),
        _watching(model, means),
    ):
        for batch in batches:
            if not isinstance(batch, Mapping):
                raise TypeError(
                    "a batch to measure importance on must be a mapping with the inputs of the"
                    f" model, such as 'input_ids' (B, T), got a {type(batch).__name__}"
                )
            check_token_ids(batch, model.get_input_embeddings().weight.shape[0])
            moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            inputs = model_inputs(model, moved)
            for each in means.values():
                each.mask = valid_tokens(moved)
            body = model.get_decoder()
            takes_all = body is not model and set(inputs) <= input_names(type(body))
            (body if takes_all else model)(**inputs)
    return {path: each.compute(type(model).__name__) for path, each in means.items()}


def check_token_ids(batch: Mapping[str, Any], size: int) -> None:
    """Raise an error for token ids that are no tensor of integers from 0 to ``size - 1``.

    Example:
        >>> check_token_ids({"input_ids": torch.tensor([[3, 9]])}, size=9)
        Traceback (most recent call last):
        ValueError: a batch to measure importance on has the token id 9, but the vocabulary of ...
    """
    ids = batch.get("input_ids")
    if ids is None:
        return
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() != 2:
        got = f"{tuple(ids.shape)}, {ids.dtype}" if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(
            "'input_ids' of a batch to measure importance on must be a tensor of integers (B, T),"
            f" got {got}"
        )
    outside = ids[(ids < 0) | (ids >= size)]
    if len(outside):
        raise ValueError(
            f"a batch to measure importance on has the token id {outside[0].item()}, but the"
            f" vocabulary of the model has {size} entries; tokenize the data with the tokenizer of"
            " the model"
        )


def valid_tokens(batch: Mapping[str, Any]) -> Tensor:
    """Return which tokens of a batch are no padding, (B, T).

    Example:
        >>> batch = {"input_ids": torch.zeros(1, 3), "labels": torch.tensor([[5, 6, -100]])}
        >>> valid_tokens(batch)
        tensor([[ True,  True, False]])
    """
    ids = batch["input_ids"] if "input_ids" in batch else batch["inputs_embeds"][..., 0]
    mask, labels = batch.get("attention_mask"), batch.get("labels")
    if isinstance(mask, Tensor) and mask.shape == ids.shape:
        return mask != 0
    if isinstance(labels, Tensor) and labels.shape == ids.shape:
        return labels != IGNORE_INDEX
    return torch.ones_like(ids, dtype=torch.bool)


class _Mean:
    """The running mean of a statistic of one module."""

    def __init__(self, path: str, statistic: Statistic) -> None:
        self.path, self.statistic = path, statistic
        self.mask = torch.empty(0)
        self.total, self.count = torch.zeros(()), 0

    def update(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        made = output if isinstance(output, Tensor) else output[0]
        # not all devices have float64
        wide = torch.float32 if made.device.type == "mps" else torch.float64
        rows = [each[self.mask.to(each.device)].to(wide) for each in (given, made)]
        self.total = self.total.to(made.device) + self.statistic(*rows).sum(0)
        self.count += len(rows[0])

    def compute(self, name: str) -> Tensor:
        if not self.count:
            raise ValueError(
                f"importance is measured on tokens, but {self.path} of {name} got no valid token;"
                " check that there are batches, and their attention_mask or labels"
            )
        mean = self.total / self.count
        if not mean.isfinite().all():
            raise ValueError(
                f"importance is not finite: {self.path} of {name} computes infinite values or NaN;"
                " load the model in another dtype, such as float32"
            )
        return mean


@contextmanager
def _watching(model: nn.Module, means: Mapping[str, _Mean]) -> Iterator[None]:
    handles = [
        model.get_submodule(path).register_forward_hook(mean.update, with_kwargs=True)
        for path, mean in means.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
