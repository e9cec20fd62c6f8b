"""What cannot be elastic is refused; see `tests/callbacks/test_elastic_depth.py` for whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from kdlight import DistillationModule, Learner, OnlineDistillationModule
from kdlight.callbacks.elastic.checks import check_features, check_strategy, find_sub_networks
from kdlight.models import DepthShortcut, Quantized, StudentRecipe, SubNetworks
from kdlight.objectives import ForwardKL, HiddenStates
from tests.support import toy
from tests.support.elastic_fit import llama, module


def test_networks_that_are_trained_together_are_refused() -> None:
    names = ("student", "teacher")
    learners = {n: Learner(llama(seed=i), ForwardKL()) for i, n in enumerate(names)}
    online = OnlineDistillationModule(learners)
    with pytest.raises(ValueError, match="train one student, got OnlineDistillationModule"):
        find_sub_networks(online)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_a_compiled_student_is_refused() -> None:
    this = module()
    this.student.compile()
    with pytest.raises(ValueError, match="CausalLM is compiled"):
        find_sub_networks(this)


def test_a_strategy_that_flattens_is_refused(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    run._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(ValueError, match="cannot leave out layers under FSDPStrategy"):
        check_strategy(run)


def test_a_static_graph_is_refused(tmp_path: Path) -> None:
    check_strategy(toy.trainer(tmp_path, strategy=DDPStrategy(), devices=2))
    with pytest.raises(ValueError, match="set static_graph=False"):
        check_strategy(toy.trainer(tmp_path, strategy=DDPStrategy(static_graph=True), devices=2))


def test_features_of_what_all_sub_networks_have() -> None:
    def check(path: str, smallest: int) -> None:
        this = module(HiddenStates({path: "model.layers.1"}))
        student = this.student
        assert isinstance(student.model, torch.nn.Module)
        check_features(this, SubNetworks(student.model), smallest)

    for path in ("model.layers.0", "model.layers.4.mlp", "model.norm", "model.embed_tokens"):
        check(path, 2)
    check("model.layers.2", 5)
    with pytest.raises(ValueError, match=r"'model.layers.4.mlp' of layer 4, .* layers \[0\];"):
        check("model.layers.4.mlp", 1)
    with pytest.raises(ValueError, match=r"of layer 1, but the sub-network of 3 layers"):
        check("model.layers.1", 3)


@pytest.mark.parametrize("recipe", [Quantized(), DepthShortcut()], ids=["bits", "shortcuts"])
def test_students_without_a_pruned_copy_are_refused(recipe: StudentRecipe) -> None:
    this = DistillationModule(recipe, ForwardKL(), llama())
    with pytest.raises(ValueError, match=f"kdlight.models.{type(recipe).__name__} does not have"):
        find_sub_networks(this)
