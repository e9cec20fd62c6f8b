"""Check that what a run produces can be written."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import Trainer

from kdlight.checkpoints import check_writable
from kdlight.doctor.findings import Finding, error


def check_outputs(trainer: Trainer) -> Iterator[Finding]:
    """Yield findings about folders that cannot be written to; no file is left in them.

    These are the folder of the run, those of checkpoints, and those of callbacks that have a method
    ``check_writable(trainer)``, such as `kdlight.callbacks.ExportStudent`.
    """
    folders = [trainer.default_root_dir]
    folders += [getattr(each, "dirpath", None) for each in trainer.checkpoint_callbacks]
    for folder in dict.fromkeys(filter(None, folders)):
        try:
            check_writable(folder)
        except OSError as failure:
            yield error(str(failure))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        check = getattr(callback, "check_writable", None)
        if check is None:
            continue
        try:
            check(trainer)
        except OSError as failure:
            yield error(f"{type(callback).__name__} {failure}")
