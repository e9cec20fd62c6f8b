"""Whether a run can draw its domains by weights, before any work is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from torch.utils.data import DataLoader

from kdlight.cache.cached_teacher import CachedTeacher
from kdlight.data.domains.domain_module import DomainDataModule
from kdlight.modules import DistillationMixin, DistillationModule
from kdlight.modules.base import DistillationBase
from kdlight.teachers import Teacher


def check_run(trainer: Trainer, module: LightningModule, *, asks_teacher: bool) -> None:
    """Raise a ValueError for a run whose domains cannot be weighted by perplexity.

    Args:
        trainer: the trainer.
        module: the module.
        asks_teacher: whether the perplexities of the teacher are to be measured.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> check_run(trainer, LightningModule(), asks_teacher=True)
        Traceback (most recent call last):
        ValueError: DomainReweighting needs a kdlight.DistillationModule or a module with the ...
    """
    is_one = isinstance(module, (DistillationModule, DistillationMixin))
    if not is_one or not module.is_set_up:
        raise ValueError(
            "DomainReweighting needs a kdlight.DistillationModule or a module with the"
            " kdlight.DistillationMixin after distill(), whose teacher does not learn, got"
            f" {type(module).__name__}"
        )
    if isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
        raise ValueError(
            "DomainReweighting evaluates the student between steps, which"
            f" {type(trainer.strategy).__name__} does not allow; use one device, DDP or FSDP2"
            " (kdlight.distributed.FSDP2Strategy)"
        )
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, DomainDataModule):
        raise ValueError(
            "DomainReweighting sets the weights of a kdlight.data.DomainDataModule, got"
            f" {'no data module' if data is None else type(data).__name__}; pass one to fit"
        )
    if module.label_format.rule == "none":
        raise ValueError(
            "DomainReweighting compares perplexities, which need labels, but the module has"
            " labels='none'; leave it at 'auto'"
        )
    if module.teacher is None:
        raise ValueError(
            "DomainReweighting weighs domains by how far the student is behind its teacher, but the"
            " teacher is None; give the module a teacher, or remove the callback"
        )
    if asks_teacher:
        _check_teacher(module)


def _check_teacher(module: DistillationBase) -> None:
    teacher = module.teacher
    if not isinstance(teacher, Teacher):
        return
    reason = ""
    if teacher.translates_tokens:
        reason = "has other tokens than the student, so that their perplexities do not compare"
    elif any(isinstance(each, CachedTeacher) for each in _inner(teacher)):
        reason = "combines teachers of which one is a cache, which does not know each probability"
    elif isinstance(teacher, CachedTeacher) and teacher.temperature != 1:
        reason = "is a cache with a temperature other than 1, which changes probabilities not in it"
    if reason:
        raise ValueError(
            "DomainReweighting needs the teacher's perplexity on each domain, but the teacher"
            f" {reason}; give teacher_perplexity"
        )


def _inner(teacher: Teacher) -> Iterator[Teacher]:
    for each in teacher.teachers():
        yield each
        yield from _inner(each)


def own_loader(trainer: Trainer, data: DomainDataModule) -> DataLoader:
    """Return the training loader, which must draw by the sampler of the data module.

    Raises:
        ValueError: It is another loader, or has another sampler.
    """
    loader: Any = trainer.train_dataloader
    if not isinstance(loader, DataLoader) or loader.sampler is not data.sampler:
        sampler = type(getattr(loader, "sampler", loader)).__name__
        raise ValueError(
            "DomainReweighting sets the weights of the sampler of the data module, but the training"
            f" loader draws by a {sampler}, which does not know them; use the train_dataloader() of"
            " kdlight.data.DomainDataModule as it is, and overfit_batches=0"
        )
    return loader
