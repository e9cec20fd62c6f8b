"""What else a Trainer does, for objectives on features: resume, evaluate, average, find a rate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn

from kdlight import CausalLM, DistillationModule
from kdlight.export.student import export_student
from tests.support import toy
from tests.support.feature_fit import OBJECTIVES, llama, mixed, module

PROJECTOR = "objective.terms.features.projectors.0.weight"


def adamw() -> DistillationModule:
    """Return a module whose optimizer, unlike that of `module`, has a state of two moments."""
    made = module(OBJECTIVES["layers and logits"]())
    return DistillationModule(made.student, made.objective, made.teacher)


def fit(each: Any, folder: Path, **options: Any) -> Any:
    path = options.pop("ckpt_path", None)
    trainer = toy.trainer(folder, **{"num_sanity_val_steps": 1, **options})
    trainer.fit(each, toy.loader(8), toy.loader(8, count=8, seed=1), ckpt_path=path)
    return trainer


def state(each: nn.Module) -> dict[str, Tensor]:
    parameters = each.named_parameters()
    return {name: value.detach().clone() for name, value in parameters}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["module", "mixin"])
def test_a_resumed_run_ends_at_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Projectors and their moments come back from the checkpoint."""

    def make() -> Any:
        return adamw() if kind == "module" else mixed(OBJECTIVES["layers and logits"]())

    whole = make()

    def options() -> dict[str, Any]:
        saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        return {"enable_checkpointing": True, "callbacks": [saving], "max_epochs": 2}

    trainer = fit(whole, tmp_path, **options())
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert PROJECTOR in saved["state_dict"]
    assert not [name for name in saved["state_dict"] if "teacher" in name]
    groups = trainer.optimizers[0].param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    assert {id(p) for p in whole.objective.parameters()} <= optimized
    assert len(saved["optimizer_states"][0]["state"]) == len(optimized)
    again = make()
    for projector in again.objective.parameters():
        nn.init.zeros_(projector)
    fit(again, tmp_path, ckpt_path=tmp_path / "epoch=0.ckpt", **options())
    assert_same(state(again), state(whole))


def test_the_exported_student_has_no_projectors(tmp_path: Path) -> None:
    each = module(OBJECTIVES["layers and logits"](), {"dtype": "float32"})
    fit(each, tmp_path)
    assert PROJECTOR in each.state_dict()
    assert not [name for name in each.student.state_dict() if "projector" in name]
    plain = llama(seed=1, exact=False)
    plain.load_state_dict(each.student.model.state_dict())  # type: ignore[union-attr]
    export_student(CausalLM.wrap(plain), tmp_path / "exported")
    again = CausalLM(str(tmp_path / "exported"))
    assert_same(state(again.model), state(plain))


@pytest.mark.parametrize("kind", ["module", "mixin"])
def test_evaluation_changes_nothing_and_measures_the_loss(kind: str, tmp_path: Path) -> None:
    objective = OBJECTIVES["layers and logits"]()
    each: Any = module(objective) if kind == "module" else mixed(objective)
    trainer = fit(each, tmp_path)
    before = state(each)
    held_out = toy.loader(8, count=8, seed=1)
    validated = trainer.validate(each, held_out, verbose=False)[0]
    if kind == "module":
        tested = trainer.test(each, held_out, verbose=False)[0]
        batch = next(iter(held_out))
        with torch.no_grad():
            loss = each.objective(each.eval().loss_inputs(batch)).mean().item()
        assert validated["val/loss"] == pytest.approx(loss, rel=1e-6)
        assert tested["test/loss"] == pytest.approx(loss, rel=1e-6)
        predicted = trainer.predict(each, held_out)[0]
        assert predicted.shape == (*batch["input_ids"].shape, toy.VOCABULARY)
    assert_same(state(each), before)


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback:UserWarning")
def test_averaged_weights_include_the_projectors(tmp_path: Path) -> None:
    each = module(OBJECTIVES["layers and logits"]())
    steps: list[Tensor] = []

    class Averaging(WeightAveraging):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            steps.append(state(pl_module)[PROJECTOR])
            super().on_train_batch_end(trainer, pl_module, *args)

    fit(each, tmp_path, callbacks=[Averaging()])
    expected = torch.stack(steps).mean(0)
    assert len(steps) == 4
    torch.testing.assert_close(state(each)[PROJECTOR], expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(steps[0], steps[-1], rtol=1e-6)


def test_barebones(tmp_path: Path) -> None:
    plain, bare = (module(OBJECTIVES["layers and logits"]()) for _ in range(2))
    fit(plain, tmp_path)
    trainer = Trainer(max_epochs=1, accelerator="cpu", barebones=True)
    trainer.fit(bare, toy.loader(8))
    assert_same(state(plain), state(bare))


def test_a_learning_rate_is_found_and_nothing_is_left(tmp_path: Path) -> None:
    each = adamw()
    before = state(copy.deepcopy(each))
    trainer = toy.trainer(tmp_path, max_epochs=4, limit_val_batches=0)
    found = Tuner(trainer).lr_find(each, toy.loader(8), num_training=12, attr_name="learning_rate")
    assert found is not None
    assert len(found.results["loss"]) == 12
    assert_same(state(each), before)


def test_a_deep_copy_captures_its_own_features() -> None:
    each = module(OBJECTIVES["layers"]())
    copied = copy.deepcopy(each)
    batch = next(iter(toy.loader(8)))
    for one in (each, copied):
        one.objective(one.loss_inputs(batch)).mean().backward()
    for name, p in each.named_parameters():
        other = copied.get_parameter(name)
        assert other is not p
        assert (p.grad is None) == (other.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, other.grad, rtol=0, atol=0)
