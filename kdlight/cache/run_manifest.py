"""The manifest of a cache that a run is about to write."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from kdlight.cache.declared import text_writers
from kdlight.cache.fingerprints import (
    fingerprint_template,
    fingerprint_tokenizer,
    fingerprint_weights,
)
from kdlight.cache.layout import Layout, Place
from kdlight.cache.manifest import Manifest
from kdlight.cache.settings import Settings
from kdlight.cache.size_estimate import is_empty
from kdlight.data.teacher_tokens import TeacherTokens
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models.model_kind import model_kind, wrapped_model
from kdlight.sources import as_source
from kdlight.teachers import frozen_teachers, remote_teachers
from kdlight.teachers.batch_rows import select_batch_rows


def make_manifest(
    module: Any, data: LightningDataModule, settings: Settings, names: dict[str, Any]
) -> Manifest:
    """Return the manifest of a cache of the teacher of ``module`` on ``data``.

    Args:
        module: a `kdlight.DistillationModule`.
        data: a data module that is set up.
        settings: which logits are stored.
        names: names of the ``teacher`` and the ``data``.

    Raises:
        ValueError: If a setting is out of range, there is no teacher, or the teacher does not run a
            network at temperature 1.
    """
    settings.check()
    if module.teacher is None:
        raise ValueError("there is no teacher to run: the config has teacher: null")
    live = frozen_teachers(module.teacher)
    served = remote_teachers(module.teacher)
    _check_known(module.teacher, served, settings)
    if not live and not served:
        raise ValueError(
            "only a teacher that runs a network, or that a server runs, can be cached, got a"
            f" {type(module.teacher).__name__}"
        )
    temperatures = [each.temperature for each in (*live, *served) if each.temperature != 1]
    if temperatures:
        raise ValueError(
            f"a cache stores logits at temperature 1, got a teacher of temperature"
            f" {temperatures[0]}; set the temperature of the CachedTeacher instead"
        )
    tokenizer = getattr(data, "tokenizer", None)
    batch = _first_batch(data)
    shape = _logits_shape(module, batch)
    layout = _layout(module, [each.model for each in live], batch, shape)
    return Manifest(
        teacher={
            "name": names.get("teacher", _name(live, served)),
            "weights": _weights(live, served),
        },
        tokenizer={
            "vocabulary": fingerprint_tokenizer(tokenizer),
            "template": fingerprint_template(tokenizer),
        },
        data={
            "name": names.get("data", type(data).__name__),
            **({} if (writers := text_writers(data)) is None else {"written_by": writers}),
        },
        vocabulary=shape[-1],
        settings=settings._asdict(),
        per_token=len(shape) > 2,
        **layout._asdict(),
    )


def _check_known(teacher: Any, served: list[Any], settings: Settings) -> None:
    """Raise a ValueError where a server would not return all that is to be stored."""
    for each in served:
        if each.options.states:
            continue
        if each is not teacher:
            raise ValueError(
                f"a {type(teacher).__name__} with a served teacher cannot be cached, as the"
                " probabilities of tokens that a server does not return are not known; cache each"
                " teacher alone, or serve hidden states (states=True)"
            )
        k, wanted = each.questions.k, settings.k
        if k < min(each.vocab_size, each.vocab_size if wanted is None else wanted):
            stored = "all tokens" if settings.k is None else f"{settings.k} tokens"
            raise ValueError(
                f"the cache is to store {stored} of a position (--k), but the served teacher"
                f" returns {k}; set its k to the same number"
            )


def _name(live: list[Any], served: list[Any]) -> str:
    return type(live[0].model).__name__ if live else served[0].info.model


def _weights(live: list[Any], served: list[Any]) -> str:
    """Return what tells the weights of all teachers from others."""
    own = [fingerprint_weights([each.model for each in live])] if live else []
    return " ".join([*own, *(text for each in served for text in each.fingerprints())])


def _first_batch(data: LightningDataModule) -> Any:
    """Return the first batch in which a label counts; the first of all if there is none."""
    first = None
    for make_loader in (data.train_dataloader, data.val_dataloader):
        loader = make_loader()
        for batch in () if is_empty(loader) else loader:
            first = batch if first is None else first
            labels = batch.get("labels") if isinstance(batch, Mapping) else None
            if labels is None or bool((labels != IGNORE_INDEX).any()):
                return batch
    if first is None:
        raise ValueError("there is nothing to cache: the data have no batch")
    return first


def _logits_shape(module: Any, batch: Any) -> torch.Size:
    """Return the shape of the logits of one row, or of the batch where rows are not separate."""
    with suppress(ValueError):
        batch = select_batch_rows(batch, torch.tensor([0]))
    return as_source(module.teacher_logits(batch)).shape


def _layout(module: Any, networks: list[Any], batch: Any, shape: torch.Size) -> Layout:
    """Find out where logits of ``shape`` stand."""
    ignored = module.label_format.ignore_index
    rule = module.label_format.rule_of(batch, module.student_kind(), check=False)
    kinds = [model_kind(network) for network in networks]
    images = tuple(sorted({token for each in networks for token in _image_tokens(each)}))
    tokens = batch.get("input_ids") if isinstance(batch, Mapping) else None
    positions = tuple(shape[1:-1])
    parts = [part for each in networks if isinstance(each, nn.Module) for part in each.modules()]
    place: Place = "row"
    if not positions or any(kind.is_multi_label for kind in kinds):
        place = "row"
    elif any(isinstance(part, TeacherTokens) for part in parts):
        place = "teacher_tokens"
    elif any(kind.is_encoder_decoder for kind in kinds):
        place = "decoder"
    elif isinstance(tokens, Tensor) and positions == tokens.shape[1:]:
        place = "tokens"
    return Layout(rule, ignored, place, positions if place == "row" else (), images)


def _image_tokens(network: Any) -> list[int]:
    """Return the ids of the tokens of a vision-language model that stand for an image."""
    config = getattr(wrapped_model(network), "config", None)
    names = ("image_token_id", "image_token_index", "video_token_id", "audio_token_id")
    return [value for name in names if isinstance(value := getattr(config, name, None), int)]
