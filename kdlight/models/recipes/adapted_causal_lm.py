"""A causal language model with adapters of peft."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.causal_lm import CausalLM
from kdlight.models.saving import remove_prefix


class AdaptedCausalLM(CausalLM):
    """A causal language model with adapters of peft; `LoRACausalLM` builds it.

    Raises:
        ValueError: If the input or output embeddings have adapters.
    """

    def _adopt(self, model: Any) -> None:
        # the loss calls the head without the model, and an adapter of tied embeddings would be
        # merged into input and output alike
        for name, get in (("output", "get_output_embeddings"), ("input", "get_input_embeddings")):
            if hasattr(getattr(model, get)(), "base_layer"):
                raise ValueError(
                    f"target_modules includes the {name} embeddings, which cannot be adapted;"
                    " name layers between the input and the output embeddings"
                )
        super()._adopt(model)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        tokenizer: Any = None,
        state_dict: Mapping[str, Tensor] | None = None,
        adapter_only: bool = False,
    ) -> None:
        """Write a folder that ``AutoModelForCausalLM`` reads without kdlight and peft.

        Args:
            folder: the folder; it is created.
            tokenizer: a tokenizer to save in the same folder.
            state_dict: weights to save instead of this module's own, under the same names, such as
                the gathered weights of a sharded module.
            adapter_only: save the adapters only, a few megabytes that
                ``peft.PeftModel.from_pretrained(base, folder)`` adds to the base model.
        """
        if not adapter_only:
            CausalLM.wrap(self._merge(state_dict)).save_pretrained(folder, tokenizer=tokenizer)
            return
        # embeddings are not adapted; peft would check on the hub whether they were resized
        self.model.save_pretrained(
            folder, state_dict=self._weights(state_dict), save_embedding_layers=False
        )
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def _weights(self, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        return self.model.state_dict() if state_dict is None else remove_prefix(state_dict)

    def _merge(self, state_dict: Mapping[str, Tensor] | None) -> nn.Module:
        """Return a new model with the adapters merged; this one, which may be sharded, is kept."""
        from peft import get_peft_model

        base, config = self.model.get_base_model(), copy.deepcopy(self.model.peft_config["default"])
        with torch.random.fork_rng(devices=[]):  # the random initial weights are overwritten below
            copied = type(base)(copy.deepcopy(base.config)).to(base.dtype)
            copied.generation_config = copy.deepcopy(base.generation_config)
            adapted = get_peft_model(copied, config)
        missing, unexpected = adapted.load_state_dict(self._weights(state_dict), strict=False)
        # tied weights may have been gathered under one of their names
        assert not unexpected, unexpected
        assert set(missing) <= _tied_names(adapted), missing
        return adapted.merge_and_unload()


def _tied_names(model: nn.Module) -> set[str]:
    """Return the names of the weights that a model holds under several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for each in names.values() if len(each) > 1 for name in each}
