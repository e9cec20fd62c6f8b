"""A cache written from Python, like ``kdlight cache`` does from a config."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.cache.cache_pass import write_cache
from kdlight.cache.cached_teacher import CachedTeacher
from kdlight.cache.settings import Settings
from kdlight.checks import check_choice
from kdlight.data.targets import LABEL_RULES, LabelRule, batch_labels, find_label_rule
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models.model_kind import ModelKind, model_kind
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
    labels: Literal["auto", "causal", "aligned", "none"] = "auto",
    ignore_index: int = IGNORE_INDEX,
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
        labels: where the labels of a batch stand, as in the fits that read the cache, see
            `kdlight.DistillationModule`; not used if ``teacher`` is a module, which has its own.
        ignore_index: labels of this value are ignored, likewise.
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
    settings = Settings(k, top_p, bits)
    settings.check()
    names = {"data": type(data).__name__}
    if not isinstance(data, LightningDataModule):
        data = _LoaderData(data)
    if trainer is None:
        trainer = Trainer(devices=1, logger=False, enable_checkpointing=False)
    module = (
        teacher
        if hasattr(teacher, "teacher_logits")
        else _TeacherOnly(teacher, labels, ignore_index)
    )
    write_cache(module, data, trainer, output, settings, names=names)
    return CachedTeacher(output)


class _TeacherOnly:
    """The methods of a `kdlight.DistillationModule` that a cache needs, for a teacher alone."""

    def __init__(self, teacher: Any, labels: Any, ignore_index: int) -> None:
        wrapped = as_teacher(teacher)
        if wrapped is None:
            raise TypeError(
                "teacher must be a network, a Teacher or a DistillationModule, got None"
            )
        self.teacher: Teacher = wrapped
        self.label_format = _LabelFormat(labels, ignore_index)

    def student_kind(self) -> ModelKind:
        networks = self.teacher.networks()
        return model_kind(networks[0]) if networks else ModelKind()

    def teacher_logits(self, batch: Any) -> LogitsSource:
        return self.teacher(batch)

    def aligned_labels(self, batch: Any) -> Tensor | None:
        rule = self.label_format.rule_of(batch, self.student_kind(), check=False)
        return batch_labels(batch, rule, ignore_index=self.label_format.ignore_index)


class _LabelFormat:
    """The rule of the labels, found once."""

    def __init__(self, rule: Any, ignore_index: int) -> None:
        check_choice("labels", rule, ("auto", *LABEL_RULES))
        self.rule: LabelRule | None = None if rule == "auto" else rule
        self.ignore_index = ignore_index

    def rule_of(self, batch: Any, kind: ModelKind, *, check: bool) -> LabelRule:
        self.rule = self.rule or kind.labels
        self.rule = self.rule or find_label_rule(batch, ignore_index=self.ignore_index)
        return self.rule or "causal"  # which does not matter where no label counts


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
