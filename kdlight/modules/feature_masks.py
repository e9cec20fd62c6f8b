"""Which positions of features are padding, and which are not those of the logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.data.label_positions import padding_mask
from kdlight.models import MultiLabel, model_kind
from kdlight.models.model_kind import base_model, kind_of_model, outermost_models


def feature_masks(
    features: Mapping[str, Tensor], batch: Any, network: Any = None, own: Collection[str] = ()
) -> dict[str, Tensor]:
    """Return the masks ``(B, T)`` of features ``(B, T, D)`` whose padding is known, by path.

    Args:
        features: features by path; those of other shapes have no mask.
        batch: the batch, whose ``attention_mask`` marks padding, or ``decoder_attention_mask`` that
            of the decoder of an encoder-decoder.
        network: the network of the features, which may shorten sound to frames; None if unknown.
        own: from `own_positions`.

    Returns:
        Boolean masks, False at padding, for ``feature_masks`` of `kdlight.LossInputs`.

    Example:
        >>> import torch
        >>> batch = {"attention_mask": torch.tensor([[1, 1, 0]])}
        >>> feature_masks({"a": torch.zeros(1, 3, 8), "b": torch.zeros(1, 8)}, batch)
        {'a': tensor([[ True,  True, False]])}
    """
    masks: dict[str, Tensor] = {}
    has_decoder = network is not None and model_kind(network).is_encoder_decoder
    for path, feature in features.items():
        if feature.dim() != 3:
            continue
        in_decoder = has_decoder and path not in own
        mask = padding_mask(
            batch, feature.shape[:2], is_encoder_decoder=in_decoder, network=network
        )
        if mask is not None:
            masks[path] = mask
    return masks


def own_positions(network: nn.Module, modules: Mapping[str, nn.Module]) -> frozenset[str]:
    """Return the paths whose positions are not those of the logits, even where there are as many.

    These are the paths inside of the encoder of an encoder-decoder, whose logits are those of its
    decoder, and all paths where the logits of a sample are answers to several questions.

    Args:
        network: the student's network.
        modules: the modules of the features, by path.

    Example:
        >>> network = nn.Linear(2, 3)
        >>> own_positions(network, {"": network})
        frozenset()
    """
    models = [base_model(each) for each in outermost_models(network)]
    has_questions = any(isinstance(each, MultiLabel) for each in network.modules())
    if has_questions or any(kind_of_model(each).is_multi_label for each in models):
        return frozenset(modules)
    encoders = [each.get_encoder() for each in models if kind_of_model(each).is_encoder_decoder]
    inside = {id(part) for encoder in encoders for part in encoder.modules()}
    return frozenset(path for path, module in modules.items() if id(module) in inside)
