"""The manifest of a cache that a run is about to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from kdlight.cache.fingerprints import (
    fingerprint_template,
    fingerprint_tokenizer,
    fingerprint_weights,
)
from kdlight.cache.manifest import Manifest
from kdlight.cache.settings import Settings
from kdlight.sources import as_source
from kdlight.teachers import frozen_teachers


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
    if not live:
        raise ValueError(
            "only a teacher that runs a network can be cached, got a"
            f" {type(module.teacher).__name__}"
        )
    temperatures = [each.temperature for each in live if each.temperature != 1]
    if temperatures:
        raise ValueError(
            f"a cache stores logits at temperature 1, got a teacher of temperature"
            f" {temperatures[0]}; set the temperature of the CachedTeacher instead"
        )
    tokenizer = getattr(data, "tokenizer", None)
    vocabulary, per_token = _logits_shape(module, data)
    return Manifest(
        teacher={
            "name": names.get("teacher", type(live[0].model).__name__),
            "weights": fingerprint_weights([each.model for each in live]),
        },
        tokenizer={
            "vocabulary": fingerprint_tokenizer(tokenizer),
            "template": fingerprint_template(tokenizer),
        },
        data={"name": names.get("data", type(data).__name__)},
        vocabulary=vocabulary,
        settings=settings._asdict(),
        per_token=per_token,
    )


def _logits_shape(module: Any, data: LightningDataModule) -> tuple[int, bool]:
    """Return the width of the logits and whether rows have several positions, from one row."""
    batch = next(iter(data.train_dataloader()))
    if isinstance(batch, Mapping):  # not dict, since the batch of a tokenizer is none
        one_row = {name: value[:1] for name, value in batch.items()}
    else:
        one_row = batch[:1] if hasattr(batch, "shape") else [value[:1] for value in batch]
    shape = as_source(module.teacher_logits(one_row)).shape
    return shape[-1], len(shape) > 2
