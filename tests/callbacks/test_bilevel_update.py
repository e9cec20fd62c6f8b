"""BilevelUpdate: it trains the ratio, changes nothing else, resumes, and refuses what cannot work.

The gradient itself is tested in tests/callbacks/bilevel/test_unrolled_rows.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import Chunking, FrozenTeacher, SingleInput
from kdlight.callbacks import BilevelUpdate, ExactResume
from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.data.loaders import EpochSampler, ResumableLoader
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives import ForwardKL, TGeoKD
from tests.support import runs, toy
from tests.support.bilevel_fit import Halves, Watch, module, quiet_trainer, state


class Shuffled(Halves):
    """The same rows in random orders, of which that of the held-out rows is the run's own."""

    def train_dataloader(self) -> DataLoader:
        return ResumableLoader(
            self.train, batch_size=self.batch_size, sampler=EpochSampler(len(self.train), seed=3)
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, 5, shuffle=True)


def fitted(*callbacks: Callback, data: Any = None, this: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    this = module() if this is None else this
    trainer = quiet_trainer(*callbacks, **options)
    trainer.fit(this, Halves() if data is None else data)
    return this, trainer


def scalars() -> TGeoKD:
    """Return the same network each time."""
    torch.manual_seed(2)
    return TGeoKD()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_network_moves_in_one_step_and_is_in_no_optimizer_of_the_module():
    update = BilevelUpdate()
    watch = Watch(update)
    this = module()
    before = state(this.objective)
    _, trainer = fitted(update, watch, this=this, max_steps=1)
    network = fusion_term(this.objective).fusion.network
    after = state(this.objective)
    for name, _ in network.named_parameters():
        assert not torch.equal(
            after[f"terms.fused.network.{name}"], before[f"terms.fused.network.{name}"]
        )
    assert watch.gradients[0].norm() > 0
    main = {id(p) for g in trainer.optimizers[0].param_groups for p in g["params"]}
    own = {id(p) for p in network.parameters()}
    assert update.optimizer is not None
    assert {id(p) for g in update.optimizer.param_groups for p in g["params"]} == own
    assert not own & main
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert after["terms.fused.class_counts"].sum() == 7  # one of 8 rows has no label


def test_a_step_of_the_network_lowers_the_validation_loss_after_the_step_of_the_student():
    """One student, one batch: with the trained ratio its step generalizes better."""
    losses = []
    for lr in (0.0, 0.02):
        update = BilevelUpdate(lr=lr)
        data = Halves(32)
        _, trainer = fitted(update, data=data, max_epochs=40)
        losses.append(trainer.callback_metrics["train/bilevel_loss"].item())
    assert losses[1] < losses[0]


def test_without_a_learning_rate_the_run_is_bitwise_one_without_the_callback():
    """Dropout, running statistics, momentum, accumulated gradients, a loader that draws numbers."""
    ends = []
    for callbacks in ([], [BilevelUpdate(lr=0.0)]):
        this = module(scalars(), dtype=torch.float32, student={"dropout": 0.3, "norm": True})
        this, _ = fitted(
            *callbacks,
            this=this,
            data=Shuffled(dtype=torch.float32),
            accumulate_grad_batches=2,
            max_epochs=2,
        )
        ends.append((state(this.student), state(this.objective), torch.get_rng_state()))
    (student, objective, random), (other_student, other_objective, other_random) = ends
    assert same(student, other_student)
    assert same(objective, other_objective)
    assert torch.equal(random, other_random)


def test_it_updates_every_few_optimizer_steps():
    update = BilevelUpdate(every=2)
    watch = Watch(update)
    fitted(update, watch, max_epochs=3, accumulate_grad_batches=2)  # 4 batches, 2 steps an epoch
    assert len(watch.gradients) == 3


class SaveAt(Callback):
    """Saves a checkpoint after a batch."""

    def __init__(self, path: Path, batch: int) -> None:
        self.path, self.number = path, batch

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.number:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("batch", [3, 4], ids=["after_a_step", "while_accumulating"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, batch: int):
    path = tmp_path / "saved.ckpt"
    options = {"accumulate_grad_batches": 2, "max_epochs": 2, "enable_checkpointing": True}

    def run(*callbacks: Callback, resume: Path | None = None) -> tuple[Any, Any]:
        torch.manual_seed(0)
        this, update = module(student={"dropout": 0.3}), BilevelUpdate()
        saving = ModelCheckpoint(tmp_path / "others", save_top_k=0)
        trainer = quiet_trainer(
            update, ExactResume(), saving, *callbacks, default_root_dir=tmp_path, **options
        )
        trainer.fit(this, Shuffled(), ckpt_path=resume, weights_only=False)
        assert trainer.global_step == 4
        return this, update

    whole, update = run(SaveAt(path, batch))
    torch.rand(7)
    rest, other = run(resume=path)
    assert same(state(whole.student), state(rest.student))
    assert same(state(whole.objective), state(rest.objective))
    one, two = update.state_dict(), other.state_dict()
    assert one["drawn"] == two["drawn"] == 4
    for index, entries in one["optimizer"]["state"].items():
        for name, value in entries.items():
            assert torch.equal(value, two["optimizer"]["state"][index][name])


def test_the_same_callback_may_train_another_module():
    update = BilevelUpdate()
    for _ in range(2):
        watch, this = Watch(update), module()
        fitted(update, watch, this=this, max_steps=2)
        assert len(watch.gradients) == 2
        own = {id(p) for p in fusion_term(this.objective).fusion.network.parameters()}
        assert update.optimizer is not None
        assert {id(p) for g in update.optimizer.param_groups for p in g["params"]} == own
        assert update.state_dict()["drawn"] == 2


def test_chunks_do_not_change_the_gradient():
    found = []
    for chunked in (False, Chunking(5, 2)):
        update = BilevelUpdate()
        watch = Watch(update)
        this = toy.module(scalars(), dtype="float64", chunked=chunked)
        fitted(update, watch, this=this, data=toy.RaggedModule(8), max_steps=2)
        found.append(torch.stack(watch.gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert found[0].norm() > 0


def test_mixed_precision_gives_about_the_same_gradient():
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        update = BilevelUpdate()
        watch = Watch(update)
        this = module(dtype=torch.float32)
        data = Halves(32, dtype=torch.float32)
        fitted(update, watch, this=this, data=data, max_steps=1, precision=precision)
        found[precision] = watch.gradients[0]
    one, other = found.values()
    assert torch.cosine_similarity(one, other, dim=0) > 0.98
    assert not torch.equal(one, other)


class Overflow(runs.Overflow):
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        next(pl_module.student.parameters()).register_hook(self._replace)


def test_a_step_that_float16_leaves_out_is_left_out_here_too():
    update = BilevelUpdate()
    watch = Watch(update)
    this, trainer = fitted(
        update,
        watch,
        Overflow(2),  # the backward pass on validation data is the second one
        this=module(dtype=torch.float32),
        data=Halves(dtype=torch.float32),
        plugins=runs.mixed_precision(),
    )
    assert trainer.global_step == 4
    assert len(watch.gradients) == 3
    assert torch.stack(watch.gradients).isfinite().all()


def test_a_module_with_the_mixin():
    update = BilevelUpdate()
    watch = Watch(update)
    mixed = toy.Mixed(toy.ToyLM(seed=1)).distill(
        TGeoKD(), FrozenTeacher(toy.ToyLM(12, seed=2)), task_weight=0.0
    )
    before = state(mixed.objective)
    fitted(update, watch, this=mixed, data=toy.RaggedModule(8), max_steps=1)
    assert not same(state(mixed.objective), before)


def test_a_teacher_that_needs_the_student_is_asked_again():
    from kdlight.teachers import SelectiveTeacher

    update = BilevelUpdate()
    watch = Watch(update)
    torch.manual_seed(0)
    this = toy.module(TGeoKD())
    this.teacher = SelectiveTeacher(FrozenTeacher(toy.ToyLM(12, seed=2)), threshold=2.2)
    fitted(update, watch, this=this, data=toy.RaggedModule(8), max_steps=2)
    assert len(watch.gradients) == 2
    assert watch.gradients[0].norm() > 0


def test_the_step_of_the_ratio_does_not_depend_on_the_learning_rate_of_the_student():
    """Which is a factor of its gradient, that AdamW divides out again."""
    for lr in (1e-2, 1e-7):
        this, update = module(lr=lr), BilevelUpdate()
        network = fusion_term(this.objective).fusion.network
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        fitted(update, this=this, max_steps=1)
        moves = torch.cat([p.detach().flatten() for p in network.parameters()]) - before
        assert moves.abs().median().item() == pytest.approx(update.lr, rel=0.05)


def test_a_learning_rate_of_zero_of_the_student_teaches_nothing():
    update = BilevelUpdate()
    watch = Watch(update)
    this = module(lr=0.0)
    before = state(fusion_term(this.objective).fusion.network)
    fitted(update, watch, this=this, max_steps=1)
    assert not watch.gradients
    assert same(state(fusion_term(this.objective).fusion.network), before)


class OtherLoader(Halves):
    """With a method of its own for the data of the ratio."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0

    def apart(self) -> Any:
        self.calls += 1
        if self.kind == "two":
            return [self.val_dataloader(), self.val_dataloader()]
        if self.kind == "unlabelled":
            return DataLoader(TensorDataset(self.held_out.tensors[0]), 4)
        if self.kind == "infinite":
            x, y = self.held_out.tensors
            return DataLoader(TensorDataset(x * torch.inf, y), 4)
        return self.val_dataloader()


def test_the_data_are_those_of_any_method_of_the_data_module():
    data = OtherLoader("one")
    fitted(BilevelUpdate(dataloader="apart"), data=data, max_steps=1)
    assert data.calls == 1


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("two", ValueError, "apart of the data module returns 2 data loaders"),
        ("unlabelled", ValueError, "BilevelUpdate needs labels"),
        (
            "infinite",
            NonFiniteLossError,
            "the validation loss of BilevelUpdate in optimizer step 0",
        ),
    ],
    ids=["two", "unlabelled", "infinite"],
)
def test_data_that_teach_nothing_are_refused(kind: str, error: type[Exception], words: str):
    this = module(labels="aligned")
    before = state(this.student)
    with pytest.raises(error, match=words):
        fitted(BilevelUpdate(dataloader="apart"), data=OtherLoader(kind), this=this, max_steps=1)
    assert same(state(this.student), before)


class Manual(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0]).sum()


class OnlyTraining(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Halves().train, 8)


def test_runs_without_a_ratio_to_train_are_refused():
    with pytest.raises(ValueError, match="BilevelUpdate needs a kdlight.DistillationModule"):
        quiet_trainer(BilevelUpdate()).fit(Manual(), DataLoader(TensorDataset(torch.zeros(2, 2))))
    with pytest.raises(ValueError, match="none found in the objective, a ForwardKL"):
        fitted(BilevelUpdate(), this=module(ForwardKL()))
    manual = module()
    manual.automatic_optimization = False
    with pytest.raises(ValueError, match="uses manual optimization"):
        fitted(BilevelUpdate(), this=manual)
    with pytest.raises(ValueError, match="Halves has no 'clean_dataloader'"):
        fitted(BilevelUpdate(dataloader="clean_dataloader"))
    with pytest.raises(ValueError, match="OnlyTraining has no 'val_dataloader'"):
        fitted(BilevelUpdate(), data=OnlyTraining())
    with pytest.raises(ValueError, match="BilevelUpdate takes its data from a LightningDataModule"):
        quiet_trainer(BilevelUpdate()).fit(module(), DataLoader(TensorDataset(torch.zeros(2, 2))))
    half = module(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="half precision rounds away, but student"):
        fitted(BilevelUpdate(), this=half, data=Halves(dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"lr": -0.1},
        {"weight_decay": -1.0},
        {"form": "exactly"},
        {"epsilon": 0.0},
        {"lr": float("nan")},
    ],
    ids=str,
)
def test_arguments_out_of_range(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BilevelUpdate(**wrong)


def test_a_single_input_is_no_module():
    with pytest.raises(TypeError, match="dataloader must be the name of a method"):
        BilevelUpdate(dataloader=SingleInput)  # type: ignore[arg-type]
