"""Modules of a student are trained on those of its teacher before the fit, once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor, nn

from kdlight import DistillationModule, FrozenTeacher, SingleInput, TeacherEnsemble
from kdlight.callbacks import TrainLayersFirst, TrainTeacherFirst
from kdlight.distributed import FSDP2Strategy
from kdlight.features import LayerMapping
from kdlight.models import HybridMamba
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.families.families import FAMILIES
from tests.support import toy

PAIRS = {"layers.0": "layers.0", "layers.1": "layers.1"}


class Data(LightningDataModule):
    def __init__(self, batches: list[Any] | None = None) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Any:
        if self.batches is None:
            return toy.loader(8)
        return torch.utils.data.DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


def made(student: Any = None) -> DistillationModule:
    """Return a module that learns nothing by itself, of a student and a teacher of one width."""
    return DistillationModule(
        toy.ToyLM(seed=1) if student is None else student,
        ForwardKL(),
        FrozenTeacher(toy.ToyLM(seed=2)),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
    )


def fit(
    callback: TrainLayersFirst,
    module: DistillationModule | None = None,
    data: Data | None = None,
    *callbacks: Callback,
    **options: Any,
) -> DistillationModule:
    """Fit for a step in which nothing is learned, so that only the callback changes weights."""
    module = made() if module is None else module
    options = {"max_steps": 1, "default_root_dir": None, **options}
    trainer = toy.trainer(Path(), callbacks=[callback, *callbacks], **options)
    trainer.fit(module, Data() if data is None else data)
    return module


def changed(module: DistillationModule) -> set[str]:
    before = made().student.state_dict()
    return {n for n, v in module.student.state_dict().items() if not torch.equal(v, before[n])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be .*got 0.0"),
        ({"seed": -1}, "seed must be .*got -1"),
    ],
)
def test_numbers_outside_their_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainLayersFirst(PAIRS, **options)


def test_arguments_of_another_kind() -> None:
    with pytest.raises(TypeError, match="pairs must be a dict of paths or a LayerMapping, got"):
        TrainLayersFirst(["layers.0"])  # type: ignore[arg-type]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "path": ({"pairs": {"layers.0": "layers.7"}}, "no module of ToyLM is called 'layers.7'"),
    "star": ({"pairs": {"layers.*": "layers.1"}}, "one '\\*' on both sides"),
    "no star": ({"pairs": {"blocks.*": "layers.*"}}, "ToyLM has no modules 'blocks.\\*'"),
    "input": ({"pairs": {"layers.0:input": "layers.0"}}, "got the input 'layers.0:input'"),
    "loss": ({"loss": "kl"}, "loss must be one of"),
    "no teacher": (
        {"module": lambda: DistillationModule(toy.ToyLM(), CrossEntropy())},
        "teacher must be one live network, .* got a NoneType with 0 networks",
    ),
    "two teachers": (
        {
            "module": lambda: DistillationModule(
                toy.ToyLM(),
                ForwardKL(),
                TeacherEnsemble({"a": toy.ToyLM(), "b": toy.ToyLM()}),
            )
        },
        "teacher must be one live network, .* got a TeacherEnsemble with 2 networks",
    ),
    "encoder-decoder": (
        {
            "module": lambda: DistillationModule(
                FAMILIES["t5"].make(0), ForwardKL(), FAMILIES["t5"].make(1)
            ),
            "pairs": {"encoder.block.0": "encoder.block.0"},
        },
        "the modules of an encoder and of a decoder have different positions",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_before_the_fit(name: str) -> None:
    options, message = REFUSED[name]
    options = {"pairs": PAIRS, **options}
    module = options.pop("module", lambda: None)()
    with pytest.raises(ValueError, match=message):
        fit(TrainLayersFirst(**options), module)


def test_modules_and_data_that_it_does_not_know() -> None:
    trainer = toy.trainer(Path(), callbacks=[TrainLayersFirst(PAIRS)], default_root_dir=None)
    with pytest.raises(ValueError, match="takes its data from a LightningDataModule"):
        trainer.fit(made(), toy.loader(8))
    own = toy.OwnModule(toy.ToyLM())
    with pytest.raises(ValueError, match="needs a kdlight.DistillationModule.* got a OwnModule"):
        trainer.fit(own, datamodule=Data())
    with pytest.raises(ValueError, match="got no batch from the data module"):
        fit(TrainLayersFirst(PAIRS), None, Data([]))


def test_a_strategy_that_shards_networks_is_refused() -> None:
    strategy = FSDP2Strategy(tensor_parallel_size=1)
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, barebones=True)
    trainer.datamodule = Data()  # type: ignore[attr-defined]
    callback = TrainLayersFirst(PAIRS)
    with pytest.raises(ValueError, match="which FSDP2Strategy cannot"):
        callback.setup(trainer, made(), "fit")
    callback.setup(trainer, made(), "validate")  # which trains nothing


def test_only_modules_of_the_pairs_change() -> None:
    callback = TrainLayersFirst({"layers.1": "layers.1"}, steps=2)
    module = fit(callback)
    assert changed(module) == {"layers.1.weight", "layers.1.bias"}
    teacher = module.teacher.model
    untouched = made().teacher.model.state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in teacher.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in module.student.parameters())


def equal(one: DistillationModule, other: DistillationModule) -> bool:
    pairs = zip(one.student.parameters(), other.student.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_stars_and_mappings_name_the_same_pairs() -> None:
    expected = fit(TrainLayersFirst(PAIRS, steps=2))
    for pairs in ({"layers.*": "layers.*"}, LayerMapping("layers.*")):
        assert equal(fit(TrainLayersFirst(pairs, steps=2)), expected)  # type: ignore[arg-type]


def test_the_losses_fall_and_are_said(caplog: pytest.LogCaptureFixture) -> None:
    callback = TrainLayersFirst(PAIRS, steps=40, lr=0.05)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        fit(callback)
    assert len(callback.losses) == 40
    assert callback.losses[-1] < 0.2 * callback.losses[0]
    first, last = callback.losses[0], callback.losses[-1]
    assert f"2 modules trained for 40 steps; their mean loss fell from {first:.4g}" in caplog.text
    assert f"to {last:.4g}" in caplog.text


def test_the_data_are_repeated_in_a_new_order() -> None:
    class Sampler(torch.utils.data.SequentialSampler):
        epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    class Repeated(LightningDataModule):
        def train_dataloader(self) -> Any:
            rows = toy.Ragged(4)
            return torch.utils.data.DataLoader(rows, 4, sampler=Sampler(rows), collate_fn=toy.pad)

    trainer = toy.trainer(Path(), callbacks=[TrainLayersFirst(PAIRS, steps=3)], max_steps=1)
    trainer.fit(made(), Repeated())
    assert Sampler.epochs[:3] == [0, 1, 2]


class Random(Callback):
    """Keeps the state of the random numbers when the training starts."""

    def on_train_start(self, *args: Any) -> None:
        self.state = torch.get_rng_state()


def test_what_is_drawn_in_it_has_no_effect_on_the_fit() -> None:
    states = []
    for callbacks in ([], [TrainLayersFirst(PAIRS, steps=2)]):
        random = Random()
        torch.manual_seed(7)
        trainer = toy.trainer(Path(), callbacks=[*callbacks, random], max_steps=1)
        trainer.fit(made(), Data())
        states.append(random.state)
    assert torch.equal(*states)
    dropouts = []
    for _ in range(2):
        torch.rand(1)
        student: Any = toy.ToyLM(seed=1)
        student.layers[0] = nn.Sequential(nn.Dropout(0.5), student.layers[0])
        dropouts.append(fit(TrainLayersFirst(PAIRS, steps=2, seed=3), made(student)))
    assert equal(*dropouts)


def test_a_fit_that_goes_on_does_not_train_the_layers_again() -> None:
    callback = TrainLayersFirst(PAIRS, steps=2)
    module = made()
    trainer = toy.trainer(Path(), callbacks=[callback], max_epochs=1)
    trainer.fit(module, Data())
    before, losses = [p.clone() for p in module.student.parameters()], callback.losses
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, Data())
    assert trainer.current_epoch == 2
    assert all(map(torch.equal, before, module.student.parameters()))
    assert callback.losses is losses


@pytest.mark.parametrize("had_it", [True, False])
def test_a_resumed_run_has_the_weights_of_its_checkpoint(tmp_path: Path, had_it: bool) -> None:
    callbacks: list[Callback] = [TrainLayersFirst(PAIRS, steps=2)] if had_it else []
    module = made()
    trainer = toy.trainer(tmp_path, callbacks=callbacks, max_epochs=1)
    trainer.fit(module, Data())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again, resumed = TrainLayersFirst(PAIRS, steps=2), made()
    later = toy.trainer(tmp_path, callbacks=[again], max_epochs=2)
    later.fit(resumed, Data(), ckpt_path=tmp_path / "one.ckpt")
    assert later.current_epoch == 2
    assert equal(resumed, module)
    assert len(again.losses) == (2 if had_it else 0)
    fit(again)  # a new run, which trains them
    assert len(again.losses) == 2


def test_a_loss_that_is_no_number_ends_it() -> None:
    with pytest.raises(NonFiniteLossError, match=r"TrainLayersFirst is .*; lower lr=1e\+30"):
        fit(TrainLayersFirst(PAIRS, steps=9, lr=1e30))


def test_labels_are_read_like_those_of_the_module() -> None:
    class Half(DistillationModule):
        def labels(self, batch: Any) -> Tensor | None:
            labels = super().labels(batch)
            assert labels is not None
            return labels.masked_fill(torch.arange(labels.shape[1]) % 2 == 0, -100)

    losses = []
    for cls in (DistillationModule, Half):
        callback, student, teacher = (
            TrainLayersFirst(PAIRS, steps=1),
            toy.ToyLM(),
            toy.ToyLM(seed=2),
        )
        fit(callback, cls(student, ForwardKL(), teacher))
        losses.append(callback.losses[0])
    assert losses[0] != losses[1]


def test_a_teacher_may_be_trained_before_it() -> None:
    module = made()
    frozen = module.teacher
    callback = TrainLayersFirst(PAIRS, steps=2)
    trainer = toy.trainer(Path(), callbacks=[TrainTeacherFirst(epochs=1), callback], max_steps=1)
    trainer.fit(module, Data())
    assert module.teacher is frozen
    alone = TrainLayersFirst(PAIRS, steps=2)
    fit(alone)
    assert callback.losses != alone.losses


def test_mixers_learn_what_attention_returns_beside_padding() -> None:
    """Whatever mask the teacher's attention gets: none, or one of who sees whom."""
    ids = torch.randint(1, toy.VOCABULARY, (4, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 6:], mask[1, :3] = 0, 0
    padded = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    for batch in ({"input_ids": ids, "labels": ids}, padded):
        losses = []
        for attention in ("sdpa", "eager"):
            teacher = toy.llama(seed=2)
            teacher.model.set_attn_implementation(attention)  # type: ignore[operator, union-attr]
            sgd = lambda groups: torch.optim.SGD(groups, lr=0.0)  # noqa: E731
            module = DistillationModule(
                HybridMamba([0], chunk_size=4), ForwardKL(), teacher, optimizer=sgd
            )
            callback = TrainLayersFirst(
                {"layers.*.mamba": "layers.*.self_attn"}, steps=30, lr=2e-2, loss="cosine"
            )
            fit(callback, module, Data([batch] * 3))
            losses.append(callback.losses)
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
        assert losses[0][-1] < 0.3 * losses[0][0]


def test_networks_that_are_no_language_models() -> None:
    def net() -> SingleInput:
        return SingleInput(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), key=0)

    rows = [(torch.randn(16, 4), torch.randint(3, (16,))) for _ in range(4)]
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.0)  # noqa: E731
    module = DistillationModule(net(), ForwardKL(), net(), optimizer=sgd)
    callback = TrainLayersFirst({"net.0": "net.0", "net.2": "net.2"}, steps=200, lr=0.05)
    fit(callback, module, Data(rows))
    assert callback.losses[-1] < 0.05 * callback.losses[0]
