"""A cache in one line of Python: what ``kdlight cache`` does, for a teacher that is at hand."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.cache.run import write_cache
from kdlight.cache.settings import Settings
from kdlight.cache.teacher import CachedTeacher
from kdlight.data.targets import batch_labels
from kdlight.sources import LogitsSource
from kdlight.teachers import Teacher, as_teacher


def cache_teacher(
    teacher: Any,
    data: Any,
    output: str,
    *,
    k: int | None = 50,
    top_p: float | None = None,
    bits: int = 8,
    trainer: Trainer | None = None,
) -> CachedTeacher:
    """Let a teacher answer all data once, write what it says to disk, and return what reads it.

    An interrupted pass goes on where it stopped, when it is given once more.

    Args:
        teacher: a network, a `kdlight.teachers.Teacher`, or a `kdlight.DistillationModule`, whose
            teacher is then asked as in a fit; the student is not used.
        data: a data module, all of whose training and validation data are asked for; a loader; or
            a list of batches.
        output: folder, empty or with a cache of the same that is not complete.
        k: at most how many tokens a position; None for all.
        top_p: only as many of them as together have this mass; None for all k.
        bits: of a log-probability, one of `kdlight.cache.records.BITS`; 32 is exact.
        trainer: devices, precision, progress bar; None for one device.

    Raises:
        ValueError: settings out of range, a folder that holds something else, no live teacher, or
            no room on the disk.

    Example:
        >>> import tempfile, torch
        >>> from kdlight import SingleInput
        >>> quiet = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> batches = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = cache_teacher(
        ...         SingleInput(torch.nn.Linear(3, 9)), batches, folder, k=5, trainer=quiet
        ...     )
        ...     cached(batches[0]).ids.shape
        torch.Size([4, 5])
    """
    if not hasattr(teacher, "teacher_logits"):
        teacher = _Alone(as_teacher(teacher))
    names = {"data": type(data).__name__}
    if not isinstance(data, LightningDataModule):
        data = _Loader(data)
    if trainer is None:
        trainer = Trainer(devices=1, logger=False, enable_checkpointing=False)
    write_cache(teacher, data, trainer, output, Settings(k, top_p, bits), names=names)
    return CachedTeacher(output)


class _Alone:
    """A teacher asked as a `kdlight.DistillationModule` asks its own."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def teacher_logits(self, batch: Any) -> LogitsSource:
        return self.teacher(batch)

    def labels(self, batch: Any) -> Tensor:
        return batch_labels(batch)


class _Loader(LightningDataModule):
    def __init__(self, loader: Any) -> None:
        super().__init__()
        if isinstance(loader, list):  # which Lightning takes for several loaders
            loader = DataLoader(loader, batch_size=None)  # type: ignore[arg-type]
        self.loader = loader

    def train_dataloader(self) -> Any:
        return self.loader

    def val_dataloader(self) -> Any:
        return []
