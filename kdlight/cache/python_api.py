"""A cache written from Python, like ``kdlight cache`` does from a config."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.cache.cache_pass import write_cache
from kdlight.cache.cached_teacher import CachedTeacher
from kdlight.cache.settings import Settings
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
    """Write a teacher's logits for all data to disk, and return a teacher that reads them.

    An interrupted pass resumes when the function is called again with the same arguments.

    Args:
        teacher: a network, a `kdlight.teachers.Teacher`, or a `kdlight.DistillationModule`, whose
            teacher is then run as in a fit; the student is not used.
        data: a data module, of which training and validation data are used; a loader; or a list of
            batches.
        output: a folder, empty or with an incomplete cache of the same teacher, tokenizer and
            settings.
        k: maximal number of tokens stored per position; None for all.
        top_p: store only the most likely of them that together have this mass; None for all k.
        bits: number of bits of a log-probability, one of `kdlight.cache.records.BITS`; 32 is exact.
        trainer: sets devices, precision and progress bar; None for one device.

    Raises:
        TypeError: If ``teacher`` is None.
        ValueError: If a setting is out of range, the folder holds something else, the teacher does
            not run a network, or the disk has not enough free space.

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
    names = {"data": type(data).__name__}
    if not isinstance(data, LightningDataModule):
        data = _LoaderData(data)
    if trainer is None:
        trainer = Trainer(devices=1, logger=False, enable_checkpointing=False)
    module = teacher if hasattr(teacher, "teacher_logits") else _TeacherOnly(teacher)
    write_cache(module, data, trainer, output, Settings(k, top_p, bits), names=names)
    return CachedTeacher(output)


class _TeacherOnly:
    """The methods of a `kdlight.DistillationModule` that a cache needs, for a teacher alone."""

    def __init__(self, teacher: Any) -> None:
        wrapped = as_teacher(teacher)
        if wrapped is None:
            raise TypeError(
                "teacher must be a network, a Teacher or a DistillationModule, got None"
            )
        self.teacher: Teacher = wrapped

    def teacher_logits(self, batch: Any) -> LogitsSource:
        return self.teacher(batch)

    def labels(self, batch: Any) -> Tensor:
        return batch_labels(batch)


class _LoaderData(LightningDataModule):
    """The training data of a loader or a list of batches, without validation data."""

    def __init__(self, loader: Any) -> None:
        super().__init__()
        if isinstance(loader, list):  # Lightning would read a list as several loaders
            loader = DataLoader(loader, batch_size=None)  # type: ignore[arg-type]
        self.loader = loader

    def train_dataloader(self) -> Any:
        return self.loader

    def val_dataloader(self) -> Any:
        return []
