"""Students and teachers: Hugging Face causal language models, cut ones, and plain networks.

Each is a callable from a batch to a logits source. transformers is imported when a model is loaded,
not before.
"""

from __future__ import annotations

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pruned import choose_layers, prune_layers
from kdlight.models.lora import LoRACausalLM
from kdlight.models.single_input import SingleInput
from kdlight.models.pretrained import load_model, load_tokenizer
from kdlight.models.recipe import PrunedCausalLM, StudentRecipe
from kdlight.models.source import Source, resolve_source

__all__ = [
    "CausalLM",
    "PrunedCausalLM",
    "LoRACausalLM",
    "SingleInput",
    "Source",
    "StudentRecipe",
    "choose_layers",
    "prune_layers",
    "load_model",
    "load_tokenizer",
    "resolve_source",
]
