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
from kdlight.models.pruning.layer_importance import layer_importance, top_units
from kdlight.models.pruning.layer_pruning import choose_layers, prune_layers
from kdlight.models.pruning.layer_search import RankedLayers, rank_layers, remove_layers
from kdlight.models.pruning.sub_network import SubNetworks, sub_network
from kdlight.models.pruning.sub_network_check import check_sub_network
from kdlight.models.pruning.width_importance import WidthImportance, width_importance
from kdlight.models.pruning.width_pruning import prune_width
from kdlight.models.recipes.depth_shortcut import DepthShortcut
from kdlight.models.recipes.hybrid_mamba import HybridMamba
from kdlight.models.recipes.lora_causal_lm import LoRACausalLM
from kdlight.models.recipes.merged_causal_lm import MergedCausalLM
from kdlight.models.recipes.pruned_causal_lm import PrunedCausalLM
from kdlight.models.recipes.quantized import Quantized
from kdlight.models.recipes.student_recipe import StudentRecipe, rebuild_config
from kdlight.models.sampling import Sampling
from kdlight.models.single_input import SingleInput
from kdlight.models.transformers_model import TransformersModel

__all__ = [
    "CausalLM",
    "Crepe",
    "DepthShortcut",
    "Hybrid",
    "HybridMamba",
    "LearnerStack",
    "LoRACausalLM",
    "MergedCausalLM",
    "ModelKind",
    "MultiLabel",
    "PrunedCausalLM",
    "Quantized",
    "RankedLayers",
    "Sampling",
    "SingleInput",
    "Source",
    "StudentRecipe",
    "SubNetworks",
    "TransformersModel",
    "WidthImportance",
    "assemble",
    "call_network",
    "check_sub_network",
    "choose_layers",
    "cut_modules",
    "layer_importance",
    "load_model",
    "load_tokenizer",
    "model_kind",
    "prune_layers",
    "prune_width",
    "rebuild_config",
    "rank_layers",
    "remove_layers",
    "resolve_source",
    "sub_network",
    "sufficient_learners",
    "top_units",
    "width_importance",
]
