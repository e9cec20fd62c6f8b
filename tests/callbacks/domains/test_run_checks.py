"""Runs whose domains cannot be weighted are refused before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch.utils.data import DataLoader

from kdlight import (
    DistillationModule,
    FrozenTeacher,
    Learner,
    OnlineDistillationModule,
    TeacherEnsemble,
)
from kdlight.cache import cache_teacher
from kdlight.callbacks import DomainReweighting
from kdlight.callbacks.domains.run_checks import check_run
from kdlight.data import DomainDataModule, TextDataModule
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import domain_fit, tiny_lm, toy


class NoStep(Callback):
    def on_train_batch_start(self, *args: Any) -> None:
        pytest.fail("the run was not refused before its first step")


def refuses(folder: Path, message: str, module: Any, domains: Any, **options: Any) -> None:
    reweighting = DomainReweighting(every=1, **options.pop("reweighting", {}))
    callbacks = [reweighting, NoStep()]
    trainer = toy.trainer(folder, callbacks=callbacks, max_steps=3, **options)
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, domains)


class OwnLoader(DomainDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[0], batch_size=4)


def test_another_loader_is_refused(tmp_path: Path) -> None:
    files = domain_fit.write_domains(tmp_path)
    domains = OwnLoader(tiny_lm.tokenizer(), files, block_size=12)
    message = "the training loader draws by a SequentialSampler, which does not know them"
    refuses(tmp_path, message, domain_fit.module(), domains)


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_overfit_batches_are_refused(tmp_path: Path) -> None:
    message = "draws by a SequentialSampler.*overfit_batches=0"
    domains = domain_fit.data(tmp_path)
    refuses(tmp_path, message, domain_fit.module(), domains, overfit_batches=2)


@pytest.mark.parametrize("distribute", [True, False])
def test_lightning_leaves_the_sampler_alone(distribute: bool, tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    trainer = toy.trainer(
        tmp_path,
        callbacks=[DomainReweighting(every=1)],
        max_steps=2,
        use_distributed_sampler=distribute,
    )
    trainer.fit(domain_fit.module(), domains)
    loader: Any = trainer.train_dataloader
    assert loader.sampler is domains.sampler


def test_other_data_are_refused(tmp_path: Path) -> None:
    files = domain_fit.write_domains(tmp_path)["letters"]
    text = TextDataModule(tiny_lm.tokenizer(), files, block_size=12)
    refuses(
        tmp_path, "kdlight.data.DomainDataModule, got TextDataModule", domain_fit.module(), text
    )
    loader = text.train_dataloader()
    refuses(tmp_path, "DomainDataModule, got no data module", domain_fit.module(), loader)


def test_an_empty_domain_is_refused(tmp_path: Path) -> None:
    files = {**domain_fit.write_domains(tmp_path), "none": str(tmp_path / "*.nothing")}
    domains = DomainDataModule(tiny_lm.tokenizer(), files, block_size=12)
    refuses(tmp_path, "domain 'none': files: no file matches", domain_fit.module(), domains)


def test_a_run_without_a_teacher_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(domain_fit.network(1), CrossEntropy())
    refuses(tmp_path, "the teacher is None", module, domain_fit.data(tmp_path))


def test_a_run_without_labels_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(
        domain_fit.network(1), ForwardKL(), domain_fit.network(2), labels="none"
    )
    refuses(tmp_path, "labels='none'", module, domain_fit.data(tmp_path))


def test_a_teacher_that_learns_is_refused(tmp_path: Path) -> None:
    learners = {
        name: Learner(domain_fit.network(seed), ForwardKL())
        for seed, name in enumerate(("student", "peer"))
    }
    module, message = OnlineDistillationModule(learners), "needs a kdlight.DistillationModule or"
    refuses(tmp_path, message, module, domain_fit.data(tmp_path))


def test_a_cache_among_several_teachers_is_refused(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    live = FrozenTeacher(domain_fit.network(2))
    cached = cache_teacher(live, domains, str(tmp_path / "cache"), k=None)
    teacher = TeacherEnsemble({"live": FrozenTeacher(domain_fit.network(3)), "cached": cached})
    module = domain_fit.module(teacher=teacher)
    refuses(tmp_path, "combines teachers of which one is a cache", module, domains)
    cached.temperature = 2.0
    module = domain_fit.module(teacher=cached)
    refuses(tmp_path, "a cache with a temperature other than 1", module, domains)


def test_perplexities_of_other_domains_are_refused(tmp_path: Path) -> None:
    options = {"reweighting": {"teacher_perplexity": {"letters": 3.0}}}
    message = "teacher_perplexity must have a number for each"
    refuses(tmp_path, message, domain_fit.module(), domain_fit.data(tmp_path), **options)


def test_a_strategy_that_flattens_weights_is_refused(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, max_steps=1)
    trainer._accelerator_connector.strategy = FSDPStrategy()  # which needs a GPU
    with pytest.raises(ValueError, match="which FSDPStrategy does not allow; use one device, DDP"):
        check_run(trainer, domain_fit.module(), asks_teacher=True)
