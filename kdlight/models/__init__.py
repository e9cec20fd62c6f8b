"""Students and teachers: Hugging Face causal language models, pruned ones, and other networks.

Each is a callable from a batch to a logits source. transformers is imported when a model is loaded.
"""

from __future__ import annotations

from kdlight.models.causal_lm import CausalLM
from kdlight.models.layer_pruning import choose_layers, prune_layers
from kdlight.models.lora_causal_lm import LoRACausalLM
from kdlight.models.model_source import Source, resolve_source
from kdlight.models.pretrained import load_model, load_tokenizer
from kdlight.models.pruned_causal_lm import PrunedCausalLM
from kdlight.models.sampling import Sampling
from kdlight.models.single_input import SingleInput
from kdlight.models.student_recipe import StudentRecipe

__all__ = [
    "CausalLM",
    "LoRACausalLM",
    "PrunedCausalLM",
    "Sampling",
    "SingleInput",
    "Source",
    "StudentRecipe",
    "choose_layers",
    "load_model",
    "load_tokenizer",
    "prune_layers",
    "resolve_source",
]
