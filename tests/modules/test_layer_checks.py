"""What layer-wise distillation refuses."""

from __future__ import annotations

import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from kdlight.distributed import FSDP2Strategy
from kdlight.models import ModelKind
from kdlight.modules.layer_checks import check_one_stack, check_pairs, check_whole


def test_names_are_found_and_shared_parameters_refused() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))
    assert check_pairs(network, {"0.0": "0", "1:output.0": "1"}) == {
        "0.0": "0.0",
        "1:output.0": "1",
    }
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="'0' and '1' of the student share parameters"):
        check_pairs(tied, {"0": "0", "1": "1"})
    assert check_pairs(tied, {"1": "1"}) == {"1": "1"}
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="'1' of the student has no trainable parameters"):
        check_pairs(network, {"1": "1"})


def test_sharded_strategies_are_refused() -> None:
    check_whole(SingleDeviceStrategy("cpu"))
    check_whole(DDPStrategy())
    for strategy in (FSDP2Strategy(), FSDPStrategy()):
        with pytest.raises(ValueError, match=f"{type(strategy).__name__} cannot"):
            check_whole(strategy)


def test_an_encoder_decoder_has_positions_of_two_kinds() -> None:
    check_one_stack(ModelKind())
    with pytest.raises(ValueError, match="train an encoder or a decoder by itself"):
        check_one_stack(ModelKind(is_encoder_decoder=True))
