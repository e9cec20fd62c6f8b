"""What kind of transformers model a network is: where its labels stand, and which axis is V."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import nn

CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of models whose own loss shifts labels, unless they are encoder-decoders."""

ALIGNED = (
    "ForMaskedLM",
    "Classification",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
    "ForQuestionAnswering",
    "ForSemanticSegmentation",
    "XLNetLMHeadModel",
    "WithLMHeadModel",  # XLM and Flaubert
)
"""Ends of the names of models whose own loss takes labels at the logits, whatever makes them."""

UNRELATED = ("ForCTC", "ForRNNT", "ForTDT")
"""Ends of the names of models whose labels are sequences that belong to no single logits."""


class ModelKind(NamedTuple):
    """The kind of a model, as far as its class tells.

    Attributes:
        labels: ``"causal"`` if labels stand at their own tokens, one behind the logits that predict
            them; ``"aligned"`` if they stand at the logits; ``"none"`` if the labels of a batch do
            not belong to single logits; None if the class does not tell.
        is_encoder_decoder: whether logits stand at the positions of a decoder, whose mask is
            not ``attention_mask``.
        class_dim: the axis of the logits that holds the classes; None if the class does not tell.
        is_multi_label: whether each logit is a yes or no of its own.

    Example:
        >>> ModelKind(labels="causal").is_encoder_decoder
        False
    """

    labels: Literal["causal", "aligned", "none"] | None = None
    is_encoder_decoder: bool = False
    class_dim: int | None = None
    is_multi_label: bool = False


def model_kind(network: Any) -> ModelKind:
    """Return the kind of the transformers model that ``network`` is or wraps.

    A network that has parameters besides those of one model is of no known kind.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> model_kind(nn.Sequential(model)).labels
        'causal'
        >>> model_kind(nn.Linear(2, 3)).labels is None
        True
    """
    model = wrapped_model(network)
    return ModelKind() if model is None else kind_of_model(model)


def kind_of_model(model: Any) -> ModelKind:
    """Return the kind of a model of transformers: where its own loss expects labels.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
        ...                     num_attention_heads=1, intermediate_size=8)
        >>> kind_of_model(BertForMaskedLM(config)).labels
        'aligned'
    """
    name, config = _own_name(type(model)), model.config
    if name.endswith(ALIGNED):
        return ModelKind(
            "aligned",
            class_dim=1 if name.endswith("ForSemanticSegmentation") else None,
            is_multi_label=getattr(config, "problem_type", None) == "multi_label_classification",
        )
    if getattr(config, "is_encoder_decoder", False):
        return ModelKind("aligned", is_encoder_decoder=True)
    if name.endswith(UNRELATED):
        return ModelKind("none")
    # decoders that are cut out of encoder-decoders have a loss that does not shift
    is_cut_out = type(model.base_model).__name__.endswith("DecoderWrapper")
    return ModelKind("causal" if name.endswith(CAUSAL) and not is_cut_out else None)


def is_transformers_model(network: Any) -> bool:
    """Return whether ``network`` is a model of transformers, or one that peft adapts.

    Example:
        >>> is_transformers_model(nn.Linear(2, 3))
        False
    """
    return isinstance(network, nn.Module) and next(outermost_models(network), None) is network


def wrapped_model(network: Any) -> Any:
    """Return the one model of transformers in ``network``, which has all of its parameters."""
    if not isinstance(network, nn.Module):
        return None
    models = list(outermost_models(network))
    if len(models) != 1:
        return None
    own = {id(parameter) for parameter in models[0].parameters()}
    if any(id(parameter) not in own for parameter in network.parameters()):
        return None
    return base_model(models[0])


def base_model(model: Any) -> Any:
    """Return the model that peft adapts; any other model unchanged."""
    # a model of transformers that loaded adapters itself has a `peft_config`, too
    is_wrapper = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    return model.get_base_model() if is_wrapper else model


def _own_name(model: type) -> str:
    """Return the name of a class of models; FSDP2 derives a class of its own from it."""
    return next(each.__name__ for each in model.__mro__ if not each.__module__.startswith("torch."))


def outermost_models(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the models of transformers in ``network`` that are not a part of another one.

    Example:
        >>> list(outermost_models(nn.Linear(2, 3)))
        []
    """
    # a library that is not imported has made no model, and importing it takes seconds
    library = sys.modules.get("transformers.modeling_utils")
    if library is None:
        return
    kinds: tuple[type, ...] = (library.PreTrainedModel,)
    if "peft.peft_model" in sys.modules:
        kinds = (*kinds, sys.modules["peft.peft_model"].PeftModel)
    stack = [network]
    while stack:
        module = stack.pop()
        if isinstance(module, kinds):
            yield module
        else:
            stack.extend(reversed(list(module.children())))
