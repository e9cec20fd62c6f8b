"""The doctor lists the paths and shapes of features, as a captured step has them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.cli import main
from kdlight.doctor.feature_shapes import FeatureRow, recorded_features
from kdlight.features import Capture
from tests.support.config_runs import DIGITS, FOLDER, arguments, tiny

__all__ = ["tiny"]  # the fixture


class Twice(nn.Module):
    """Returns a tuple, a mapping, and something that is no feature."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        for layer in self.layers:
            x = layer(x)
        return {"name": "a", "logits": self.head(x)[0]}


def test_equal_layers_are_one_row_and_hooks_are_gone() -> None:
    network = Twice()
    with recorded_features({"student": network}) as rows:
        network(torch.zeros(2, 5, 4))
    assert rows["student"] == [
        FeatureRow("layers.*", "Linear", (2, 5, 4), 2),
        FeatureRow("head", "LSTM", (2, 5, 3)),
    ]
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_are_gone_after_an_error() -> None:
    network = Twice()
    with pytest.raises(RuntimeError), recorded_features({"student": network}):
        network(torch.zeros(2, 5, 7))
    assert not any(module._forward_hooks for module in network.modules())


def test_layers_of_other_widths_keep_their_numbers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    with recorded_features({"student": network}) as rows:
        network(torch.zeros(1, 2))
    assert [(row.path, row.count) for row in rows["student"]] == [("0", 1), ("1", 1)]


def test_what_is_listed_can_be_captured() -> None:
    network, batch = Twice(), torch.zeros(2, 5, 4)
    with recorded_features({"student": network}) as rows:
        network(batch)
    paths = [row.path.replace("*", "1") for row in rows["student"]]
    with Capture(network, paths) as features:
        network(batch)
    shapes = [tuple(features[path].shape) for path in paths]
    assert shapes == [row.shape for row in rows["student"]]


def test_the_command_lists_both_networks(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--config", DIGITS, "--paths"])
    out = capsys.readouterr().out
    student, teacher = out.split("features of the student")[1].split("features of the teacher")
    assert student.split("\n")[1].split(maxsplit=2) == ["net.hidden", "Linear", "(64, 8)"]
    assert "net.6" in teacher
    assert "(64, 64, 4, 4)" in teacher
    assert "this run can start" in teacher
    main(["doctor", "--config", DIGITS])
    assert "features of" not in capsys.readouterr().out


@pytest.mark.slow
def test_it_lists_what_runs_in_a_step_of_a_language_model(
    tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = arguments(FOLDER / "forward_kl.yaml", tiny)
    main(["doctor", *rest, "--paths"])
    out = capsys.readouterr().out
    assert command == "fit"
    assert "model.model.layers.*.self_attn.q_proj" in out
    assert "x 30" in out
    assert "x 10" in out
    assert "lm_head" not in out  # it is applied within the loss


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_have_no_row() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    network = nn.TransformerEncoder(layer, 2).eval()
    padding = torch.tensor([[False, False, False], [False, False, True]])
    with torch.no_grad(), recorded_features({"teacher": network}) as rows:
        network(torch.randn(2, 3, 8), src_key_padding_mask=padding)
    assert "layers.0" not in [row.path for row in rows["teacher"]]
