"""Modes of networks at the start of a fit, and which of them run by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

from kdlight import CausalLM
from kdlight.modules.run_networks import compare_at_next_batch, set_train_mode, whole_networks
from kdlight.objectives import ForwardKL
from tests.models.tiny_models import tiny
from tests.support import toy


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_model_within_a_wrapper_is_in_train_mode_if_it_is_trained(is_trained: bool) -> None:
    model = tiny("gpt2").eval().requires_grad_(is_trained)
    network = nn.Sequential(model, nn.Dropout()).eval()
    set_train_mode(network)
    assert network.training
    assert network[1].training
    assert {part.training for part in model.modules()} == {is_trained}


def test_a_part_that_a_user_set_to_evaluation_stays_in_it() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
    set_train_mode(network)
    assert [part.training for part in network] == [False, True]


def test_a_sharded_network_does_not_run_by_itself(tmp_path: Path) -> None:
    module = toy.module(ForwardKL())
    module.trainer = trainer = toy.trainer(tmp_path)
    assert whole_networks(module) == [module.student, *module.teacher.networks()]
    trainer.strategy.__class__ = FSDPStrategy
    assert whole_networks(module) == []


def test_wrappers_are_found_within_other_networks() -> None:
    inner = CausalLM.wrap(tiny("llama"))
    network: Any = nn.ModuleDict({"inner": inner, "other": nn.Linear(2, 2)})
    compare_at_next_batch([network])
    assert inner.compare_next
