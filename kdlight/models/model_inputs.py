"""Which entries of a batch are inputs of a transformers model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from kdlight.models.model_kind import base_model, kind_of_model

NOT_INPUTS = frozenset(
    {
        "self",
        "args",
        "kwargs",
        "labels",
        "label_ids",
        "next_sentence_label",
        "start_positions",
        "end_positions",
        "num_items_in_batch",
        "logits_to_keep",
        "return_dict",
        "return_loss",
    }
)
"""Parameters of ``forward`` that say what to compute, or what the loss of the model is."""

PACKED = frozenset({"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"})
"""Inputs that a model with ``**kwargs`` passes on to its attention, for packed sequences."""

_FIRST_POSITIONS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


_NAMES: dict[type, frozenset[str]] = {}
_MAKES_POSITIONS: dict[type, bool] = {}


def model_inputs(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``model(...)`` from a batch: every entry that its forward takes.

    Labels are passed to an encoder-decoder only, which makes the inputs of its decoder from them.
    Where a batch has an ``attention_mask`` and no ``position_ids``, these are made from the mask,
    so that the logits of a sequence do not depend on the side of its padding.

    Args:
        model: a model of transformers.
        batch: tensors by name.

    Raises:
        ValueError: If the batch lacks the model's main input.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> batch = {"input_ids": torch.ones(2, 3), "labels": torch.ones(2, 3), "name": ["a", "b"]}
        >>> sorted(model_inputs(model, batch))
        ['input_ids', 'use_cache']
    """
    base = base_model(model)
    names = input_names(type(base))
    inputs = {name: batch[name] for name in sorted(names) if batch.get(name) is not None}
    _check_main_input(base, inputs, batch)
    if "use_cache" in names:
        inputs.setdefault("use_cache", False)
    if kind_of_model(base).is_encoder_decoder:
        if not {"decoder_input_ids", "decoder_inputs_embeds"} & inputs.keys():
            inputs["labels"] = _labels_of(base, batch)
    elif "position_ids" in names and "position_ids" not in inputs and _counts_positions(base):
        mask = inputs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            inputs["position_ids"] = _positions(mask) + _first_position(base)
    return inputs


def _positions(mask: Tensor) -> Tensor:
    """Count the tokens of each row from the first one, and on through padding at its end.

    Rows without padding, or with padding at the end, have the positions that models count
    themselves, also where a model lets padding change other tokens.
    """
    is_token = mask != 0
    is_after = is_token.flip(-1).cumsum(-1).flip(-1) == 0
    return ((is_token | is_after).long().cumsum(-1) - 1).clamp(min=0)


def _first_position(model: nn.Module) -> int:
    """Return the position that a model gives to the first token: 2 in Nystromformer, mostly 0."""
    if model not in _FIRST_POSITIONS:
        buffers = (each for name, each in model.named_buffers() if name.endswith("position_ids"))
        own = next(buffers, None)
        _FIRST_POSITIONS[model] = 0 if own is None or own.is_meta else int(own.flatten()[0])
    return _FIRST_POSITIONS[model]


def input_names(model: type) -> frozenset[str]:
    """Return the names of the inputs that the forward of a class of models takes."""
    # in a dict, which torch.compile traces, unlike functools.lru_cache
    if model not in _NAMES:
        _NAMES[model] = _read_names(model)
    return _NAMES[model]


def _read_names(model: type) -> frozenset[str]:
    parameters = inspect.signature(model.forward).parameters.values()  # type: ignore[attr-defined]
    names = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return frozenset((names | PACKED if takes_more else names) - NOT_INPUTS)


def _counts_positions(model: Any) -> bool:
    """Return whether positions that count the tokens of a row are those that the model expects.

    Models of images and text place the parts themselves; only their distances matter to them.
    """
    kind = type(model)
    if kind not in _MAKES_POSITIONS:
        _MAKES_POSITIONS[kind] = _makes_positions(kind)
    return model.config.get_text_config() is model.config and not _MAKES_POSITIONS[kind]


def _makes_positions(model: type) -> bool:
    """Return whether a class of models makes positions in another way than counting.

    Some have positions in several dimensions, others count from the padding token with an offset.
    """
    makes_own = ("get_rope_index", "create_position_ids_from_input_ids")
    # FSDP2 derives a class of its own from that of the model
    model = next(each for each in model.__mro__ if not each.__module__.startswith("torch."))
    names_of_module = vars(inspect.getmodule(model) or model)
    # the embeddings that a class of models is built of are defined or imported in its module
    owners = [model, *(each for each in names_of_module.values() if inspect.isclass(each))]
    return any(
        name in names_of_module or hasattr(owner, name) for owner in owners for name in makes_own
    )


def _check_main_input(model: Any, inputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
    main = model.main_input_name
    if main not in inputs and "inputs_embeds" not in inputs:
        raise ValueError(
            f"{type(model).__name__} reads {main!r}, but the batch has {sorted(batch)}; rename the"
            f" entry in the data, or define student_logits and teacher_logits in a subclass"
        )


def _labels_of(model: Any, batch: Mapping[str, Any]) -> Tensor:
    labels = batch.get("labels")
    if labels is None:
        raise ValueError(
            f"{type(model).__name__} is an encoder-decoder: a batch needs 'decoder_input_ids', or"
            f" 'labels' to make them from, got {sorted(batch)}"
        )
    return labels
