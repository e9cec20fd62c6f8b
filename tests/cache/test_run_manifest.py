"""The manifest describes the teacher and the data of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight import CachedTeacher, FrozenTeacher
from kdlight.cache import Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.cache.run_manifest import make_manifest
from tests.cache.caches import ALL, written
from tests.support import toy


def test_only_a_live_teacher_at_temperature_one_is_written(tmp_path: Path) -> None:
    module = toy.module()
    run = (toy.RaggedModule(5), toy.trainer(tmp_path), str(tmp_path / "again"), ALL)
    for teacher, why in (
        (
            CachedTeacher(str(written(tmp_path))),
            "only a teacher that runs a network, or that a server runs",
        ),
        (FrozenTeacher(toy.ToyLM(), temperature=2.0), "set the temperature of the CachedTeacher"),
        (None, "there is no teacher"),
    ):
        module.teacher = teacher
        with pytest.raises(ValueError, match=why):
            write_cache(module, *run)


def test_it_describes_teacher_data_and_settings(tmp_path: Path) -> None:
    module, data = toy.module(), toy.RaggedModule(5)
    data.trainer = toy.trainer(tmp_path)
    made = make_manifest(module, data, Settings(k=3), {"teacher": "a model"})
    assert made.teacher["name"] == "a model"
    assert made.data == {"name": "RaggedModule"}
    assert (made.vocabulary, made.per_token) == (toy.VOCABULARY, True)
    assert made.settings == {"k": 3, "top_p": None, "bits": 8}
    other = toy.module()
    with torch.no_grad():
        other.teacher.model.head.bias[0] += 1e-3  # type: ignore[union-attr]
    assert make_manifest(other, data, Settings(k=3), {}).owner != made.owner
