"""Students and teachers: models of transformers, pruned ones, and other networks.

Each is a callable from a batch to a logits source. transformers is imported when a model is loaded.
"""

from __future__ import annotations

from kdlight.models.call_network import call_network
from kdlight.models.causal_lm import CausalLM
from kdlight.models.crepe import Crepe
from kdlight.models.cut_modules import assemble, cut_modules
from kdlight.models.hybrid import Hybrid
from kdlight.models.learner_stack import LearnerStack, sufficient_learners
from kdlight.models.model_kind import ModelKind, model_kind
from kdlight.models.model_source import Source, resolve_source
from kdlight.models.multi_label import MultiLabel
from kdlight.models.pretrained import load_model, load_tokenizer
from kdlight.models.pruning.layer_pruning import choose_layers, prune_layers
from kdlight.models.recipes.lora_causal_lm import LoRACausalLM
from kdlight.models.recipes.pruned_causal_lm import PrunedCausalLM
from kdlight.models.recipes.student_recipe import StudentRecipe
from kdlight.models.sampling import Sampling
from kdlight.models.single_input import SingleInput
from kdlight.models.transformers_model import TransformersModel

__all__ = [
    "CausalLM",
    "Crepe",
    "Hybrid",
    "LearnerStack",
    "LoRACausalLM",
    "ModelKind",
    "MultiLabel",
    "PrunedCausalLM",
    "Sampling",
    "SingleInput",
    "Source",
    "StudentRecipe",
    "TransformersModel",
    "assemble",
    "call_network",
    "choose_layers",
    "cut_modules",
    "load_model",
    "load_tokenizer",
    "model_kind",
    "prune_layers",
    "resolve_source",
    "sufficient_learners",
]
