"""Two callbacks of one run that would save in one directory are refused before the fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.callbacks import ElasticDepth, ExportStudent
from tests.support import toy
from tests.support.elastic_fit import module, trainer


def test_one_directory_holds_one_model(tmp_path: Path) -> None:
    elastic = ElasticDepth(2, max_parameters=1e6, directory=str(tmp_path / "out"))
    other = ExportStudent(str(tmp_path / "a" / ".." / "out"))
    for callbacks in ((elastic, other), (other, elastic)):
        with pytest.raises(ValueError, match="is that of both"):
            trainer(tmp_path, *callbacks).fit(module(), toy.loader(2), toy.loader(4))
    assert not (tmp_path / "out").exists()


def test_a_callback_that_saves_nothing_is_left_alone(tmp_path: Path) -> None:
    from kdlight.callbacks.export_directories import check_directories

    unsaved = ElasticDepth(2, directory=str(tmp_path / "out"))
    check_directories(trainer(tmp_path, unsaved, ExportStudent(str(tmp_path / "out"))))
