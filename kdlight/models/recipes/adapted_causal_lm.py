"""A causal language model with adapters of peft."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.checks import check_finite, check_type
from kdlight.models.causal_lm import CausalLM
from kdlight.models.new_copy import new_model
from kdlight.models.saving import remove_prefix


class AdaptedCausalLM(CausalLM):
    """A causal language model with adapters of peft; `LoRACausalLM` builds it.

    Attributes:
        has_own_base: whether the base model was made for this student, as a pruned one is, and is
            not what its config names.

    Raises:
        ValueError: If the input or output embeddings have adapters.
    """

    has_own_base: bool = False

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
        adapter_scale: float | None = None,
    ) -> None:
        """Write a folder that ``AutoModelForCausalLM`` reads without kdlight and peft.

        Args:
            folder: the folder; it is created.
            tokenizer: a tokenizer to save in the same folder.
            state_dict: weights to save instead of this module's own, under the same names, such as
                the gathered weights of a sharded module.
            adapter_only: save the adapters only, a few megabytes that
                ``peft.PeftModel.from_pretrained(base, folder)`` adds to the base model. If that was
                pruned, it is `kdlight.prune_layers` of the model it was pruned from.
            adapter_scale: multiplies what the adapters add to the weights, see `check_scale`; None
                for 1.

        Raises:
            ValueError: If ``adapter_scale`` cannot be applied.
        """
        self.check_scale(adapter_scale, adapter_only=adapter_only)
        if not adapter_only:
            merged = self._merge(state_dict, 1.0 if adapter_scale is None else adapter_scale)
            CausalLM.wrap(merged).save_pretrained(folder, tokenizer=tokenizer)
            return
        config: Any = self.model.peft_config["default"]
        named = config.base_model_name_or_path
        if self.has_own_base:  # loaders would put the adapters on the whole model of this name
            config.base_model_name_or_path = ""
        # embeddings are not adapted; peft would check on the hub whether they were resized
        self.model.save_pretrained(
            folder, state_dict=self._weights(state_dict), save_embedding_layers=False
        )
        config.base_model_name_or_path = named
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def merged(self) -> CausalLM:
        """Return a new model with the adapters merged, in evaluation mode; this one is kept."""
        return CausalLM.wrap(self._merge(None)).eval()

    def check_scale(self, adapter_scale: float | None, *, adapter_only: bool = False) -> None:
        r"""Raise a ValueError for a factor that the adapters cannot be merged with.

        .. math:: W' = W + adapter\_scale \cdot \frac{alpha}{r} B A

        0 gives the base model and 1 the student. In between the behavior can change gradually, such
        as the length of a chain of thought in Ma, Wan et al., "CoT-Valve: Length-Compressible
        Chain-of-Thought Tuning", 2025, who also extrapolate: any finite number is valid.

        Args:
            adapter_scale: the factor; None for 1, which is always possible.
            adapter_only: whether the adapters are saved without being merged.

        Raises:
            TypeError: If the factor is no number.
            ValueError: If it is not finite, nothing is merged, or the adapters are not LoRA alone,
                whose weights would not be linear in the factor.
        """
        if adapter_scale is None:
            return
        check_type("adapter_scale", adapter_scale, (int, float), "a number")
        check_finite("adapter_scale", adapter_scale)
        if adapter_only:
            raise ValueError(
                f"adapter_scale={adapter_scale} scales adapters as they are merged, but"
                " adapter_only=True merges none; set adapter_only=False, or scale lora_alpha in"
                " adapter_config.json"
            )
        from peft import LoraConfig

        config: Any = self.model.peft_config["default"]
        others = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
        more = {name: value for name in others if (value := getattr(config, name, None))}
        if not isinstance(config, LoraConfig) or more or config.bias != "none":
            more = more or {"bias": getattr(config, "bias", None)}
            raise ValueError(
                f"adapter_scale={adapter_scale} needs adapters of LoRA alone, with weights that are"
                f" linear in it, got a {type(config).__name__} with {more}; leave adapter_scale out"
            )

    def _weights(self, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        return self.model.state_dict() if state_dict is None else remove_prefix(state_dict)

    def _merge(self, state_dict: Mapping[str, Tensor] | None, scale: float = 1.0) -> nn.Module:
        """Return a new model with the adapters merged; this one, which may be sharded, is kept."""
        from peft import get_peft_model
        from peft.tuners.lora import LoraLayer

        base, config = self.model.get_base_model(), copy.deepcopy(self.model.peft_config["default"])
        with torch.random.fork_rng(devices=[]):  # the random initial weights are overwritten below
            adapted = get_peft_model(new_model(base, base.config, base.dtype), config)
        missing, unexpected = adapted.load_state_dict(self._weights(state_dict), strict=False)
        # tied weights may have been gathered under one of their names
        assert not unexpected, unexpected
        assert set(missing) <= _tied_names(adapted), missing
        for part in adapted.modules():
            if scale != 1 and isinstance(part, LoraLayer):
                part.scale_layer(scale)
        return adapted.merge_and_unload()


def _tied_names(model: nn.Module) -> set[str]:
    """Return the names of the weights that a model holds under several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for each in names.values() if len(each) > 1 for name in each}
