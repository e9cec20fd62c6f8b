"""The loss of the routers of a mixture of experts is no part of an objective, and a fit says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import CausalLM, DistillationModule
from kdlight.models.router_loss import warn_about_router_loss
from kdlight.objectives import CrossEntropy
from tests.families.families import FAMILIES
from tests.support import toy


@pytest.mark.parametrize("wrap", [CausalLM.wrap, lambda model: model], ids=["wrapped", "as it is"])
def test_a_fit_says_that_the_loss_of_the_routers_is_left_out(wrap: Any, tmp_path: Path) -> None:
    family = FAMILIES["qwen3_moe"]
    model: Any = family.make(0)
    model.config.output_router_logits = True
    module = DistillationModule(wrap(model), CrossEntropy())
    data: Any = [family.batch(0)]
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    with pytest.warns(UserWarning, match="Qwen3MoeForCausalLM has output_router_logits=True"):
        toy.trainer(tmp_path).fit(module, loader)


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    model: Any = FAMILIES["qwen3_moe"].make(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about_router_loss(model)
        model.config.output_router_logits, model.config.router_aux_loss_coef = True, 0.0
        warn_about_router_loss(model)
        warn_about_router_loss(nn.Linear(2, 3))
