"""Features are captured while a loss is made; nothing is left behind, and limits are said."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from kdlight import (
    CausalLM,
    DistillationModule,
    Learner,
    OnlineDistillationModule,
    SelectiveTeacher,
    TeacherEnsemble,
)
from kdlight.modules.captured_features import capture_features, check_features
from kdlight.objectives import HiddenStates, LossInputs, Objective
from kdlight.teachers import as_teacher
from tests.support import toy
from tests.support.feature_fit import OBJECTIVES, checkpoint, llama, mixed, module


def hooks(*networks: nn.Module) -> int:
    """Return the number of hooks in networks."""
    return sum(
        len(each._forward_hooks) + len(each._forward_pre_hooks)
        for network in networks
        for each in network.modules()
    )


def run(each: Any, folder: Path, **options: Any) -> Any:
    trainer = toy.trainer(folder, num_sanity_val_steps=0, **options)
    trainer.fit(each, toy.loader(8), toy.loader(8, count=8, seed=1))
    return trainer


def networks_of(each: Any) -> tuple[nn.Module, nn.Module]:
    return each.student, each.teacher.model


# ---- nothing is left behind


def test_hooks_are_there_only_while_a_loss_is_made(tmp_path: Path) -> None:
    each = module(OBJECTIVES["layers and logits"]())
    # without the output heads, by which CausalLM compares itself with its model
    bodies: list[Any] = [network.model.model for network in networks_of(each)]  # type: ignore[union-attr]
    before, during, after = hooks(*bodies), [], []

    class Count(Callback):
        def on_before_backward(self, *args: Any) -> None:
            after.append(hooks(*bodies))

        def on_validation_batch_end(self, *args: Any) -> None:
            after.append(hooks(*bodies))

    bodies[0].layers[0].register_forward_hook(lambda *args: during.append(hooks(*bodies)))
    trainer = run(each, tmp_path, callbacks=[Count()])
    trainer.validate(each, toy.loader(8, count=8), verbose=False)
    assert set(after) == {before + 1}
    assert len(after) == 4 + 1 + 1
    assert set(during) == {before + 1 + 2 + 2}


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["student", "teacher", "loss", "validation"])
def test_hooks_are_gone_after_a_fit_that_failed(
    place: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = module(OBJECTIVES["layers and logits"]())
    before = hooks(*networks_of(each))
    student, teacher = networks_of(each)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if place != "validation" or each.trainer.validating or not torch.is_grad_enabled():
            raise error
        return forward(*args, **kwargs)

    layers: dict[str, Any] = {"student": student, "validation": student, "teacher": teacher}
    if place == "loss":
        monkeypatch.setattr(HiddenStates, "pair_loss", fail)
    else:
        layer = layers[place].model.model.layers[1]
        forward = layer.forward
        monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises((error, SystemExit)):
        run(each, tmp_path)
    assert hooks(*networks_of(each)) == before


@pytest.mark.parametrize("kind", [module, mixed])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_feature_outlives_its_step(
    kind: Callable[[Objective], Any],
    accumulate: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    pair_loss = HiddenStates.pair_loss

    def spy(
        self: HiddenStates, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int
    ) -> Tensor:
        for group in (inputs.student_features, inputs.teacher_features):
            features.extend(map(weakref.ref, (group or {}).values()))
        return pair_loss(self, student, teacher, inputs, pair)

    class Count(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            alive.append(sum(each() is not None for each in features))

        def on_validation_batch_end(self, *args: Any) -> None:
            self.on_train_batch_end()

    monkeypatch.setattr(HiddenStates, "pair_loss", spy)
    run(
        kind(OBJECTIVES["layers and logits"]()),
        tmp_path,
        accumulate_grad_batches=accumulate,
        callbacks=[Count()],
    )
    assert len(features) >= 4 * 8
    assert len(alive) >= 4
    assert set(alive) == {0}


# ---- what is not captured


def test_nothing_is_captured_for_an_objective_on_logits() -> None:
    each = module(toy.mixture())
    before = hooks(*networks_of(each))
    with capture_features(each.objective, each.student, each.teacher) as features:
        assert features is None
        assert hooks(*networks_of(each)) == before


def test_one_pass_of_each_network_a_batch(tmp_path: Path) -> None:
    each = module(OBJECTIVES["layers and logits"]())
    passes: list[str] = []

    class Count(Callback):
        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 1:  # at the first one CausalLM compares itself with its model
                for name, network in zip(("s", "t"), networks_of(each), strict=True):
                    body: Any = network.model
                    body.model.register_forward_hook(lambda *args, n=name: passes.append(n))

    run(each, tmp_path, callbacks=[Count()], limit_val_batches=0)
    assert sorted(passes) == ["s"] * 3 + ["t"] * 3


def test_a_student_feature_without_a_graph_is_an_error() -> None:
    each = module(OBJECTIVES["layers"]())
    batch = next(iter(toy.loader(8)))
    each.student.model.model.layers.requires_grad_(False)
    each.student.model.model.embed_tokens.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'model.model.layers.0' of the student has no gradient"):
        each.loss_inputs(batch)


@pytest.mark.parametrize("kind", ["module", "mixin", "mixin with two networks"])
def test_reentrant_checkpointing_around_a_feature_is_an_error(kind: str, tmp_path: Path) -> None:
    """It runs a layer without a graph, so that no gradient would come from inside of it."""
    objective = OBJECTIVES["inside and logits"]()
    each: Any = module(objective) if kind == "module" else mixed(objective, passes=2)
    checkpoint(each.student.model, use_reentrant=True)
    if "two" in kind:  # of which none is known to be the student
        each.other = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="use_reentrant=False"):
        run(each, tmp_path)


# ---- refused before any work is done


def refuses(objective: Objective, teacher: Any) -> None:
    each = DistillationModule(CausalLM.wrap(llama(seed=1)), objective, teacher)
    check_features(objective, each.student, each.teacher)


def function(batch: Any) -> Any:
    """Stands for a teacher that is no network."""


FUNCTION: Any = function


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda: None, "the teacher has none"),
        (lambda: as_teacher(FUNCTION), "the teacher has none"),
        (
            lambda: TeacherEnsemble({"a": CausalLM.wrap(llama()), "b": CausalLM.wrap(llama())}),
            r"\(TeacherEnsemble\) consists of several",
        ),
        (
            lambda: TeacherEnsemble({"a": CausalLM.wrap(llama()), "b": FUNCTION}),
            r"\(TeacherEnsemble\) consists of several",
        ),
        (
            lambda: SelectiveTeacher(CausalLM.wrap(llama())),
            r"\(SelectiveTeacher\) asks it about some rows",
        ),
    ],
)
def test_a_teacher_that_is_not_one_network_is_refused(teacher: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuses(OBJECTIVES["layers and logits"](), teacher())


def test_networks_that_are_trained_together_are_refused() -> None:
    peers = {
        name: Learner(CausalLM.wrap(llama(seed=seed)), OBJECTIVES["layers and logits"]())
        for seed, name in enumerate(("student", "other"))
    }
    with pytest.raises(ValueError, match="trained together"):
        OnlineDistillationModule(peers)


OLD = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
"""What torch warns of when it first imports its compiler."""


@OLD
@pytest.mark.parametrize("compiled", ["student", "layer", "teacher", "module"])
def test_a_compiled_network_is_refused_before_the_first_batch(
    compiled: str, tmp_path: Path
) -> None:
    each: Any = module(OBJECTIVES["layers and logits"]())
    parts = {
        "student": each.student,
        "layer": each.student.model.model.layers[0],
        "teacher": each.teacher.model,
    }
    if compiled in parts:
        parts[compiled].compile()

    class Never(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            pytest.fail("a batch was read")

        def on_sanity_check_start(self, *args: Any) -> None:
            self.on_train_batch_start()

    with pytest.raises(ValueError, match="is compiled"):
        run(torch.compile(each) if compiled == "module" else each, tmp_path, callbacks=[Never()])


@OLD
def test_a_compiled_student_is_refused_at_once() -> None:
    student: Any = torch.compile(CausalLM.wrap(llama(seed=1)))
    with pytest.raises(ValueError, match="is compiled"):
        DistillationModule(student, OBJECTIVES["layers"](), CausalLM.wrap(llama()))


def test_an_unknown_path_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"'layers.7'; similar names"):
        refuses(HiddenStates({"layers.7": "layers.0"}), CausalLM.wrap(llama()))
