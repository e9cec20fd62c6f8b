"""Features: tensors from inside a network, captured by the path of a module."""

from __future__ import annotations

from kdlight.features.calls import ModuleCall, ModuleCalls
from kdlight.features.capture import Capture, not_captured
from kdlight.features.layer_mapping import LayerMapping
from kdlight.features.paths import FeaturePath, find_module, find_modules
from kdlight.features.width import feature_width, is_map

__all__ = [
    "Capture",
    "FeaturePath",
    "LayerMapping",
    "ModuleCall",
    "ModuleCalls",
    "feature_width",
    "find_module",
    "find_modules",
    "is_map",
    "not_captured",
]
