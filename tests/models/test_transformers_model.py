"""Any model of transformers with logits, loaded or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import TransformersModel
from tests.families.families import FAMILIES

VIT, CLIP = FAMILIES["vit"], FAMILIES["clip"]


@torch.no_grad()
def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model: Any = VIT.make(0).float()
    batch = {"pixel_values": VIT.batch(0)["pixel_values"].float()}
    TransformersModel.wrap(model).save_pretrained(tmp_path / "one")
    auto = "AutoModelForImageClassification"
    loaded = TransformersModel(str(tmp_path / "one"), auto_class=auto)
    assert loaded.training
    assert all(part.training for part in loaded.modules())
    assert torch.equal(loaded.eval()(batch).logits(), model(**batch).logits)
    weights = {f"model.{name}": value * 2 for name, value in model.state_dict().items()}
    TransformersModel.wrap(model).save_pretrained(tmp_path / "two", state_dict=weights)
    doubled = TransformersModel(str(tmp_path / "two"), auto_class=auto, dtype="bfloat16").model
    assert doubled.dtype == torch.bfloat16
    for name, value in doubled.state_dict().items():
        assert torch.equal(value, weights[f"model.{name}"].bfloat16())


def test_a_class_that_loads_nothing_is_refused(tmp_path: Path) -> None:
    VIT.make(0).save_pretrained(tmp_path)  # type: ignore[operator]
    for name in ("AutoModelForPictures", "logging"):
        with pytest.raises(ValueError, match=f"auto_class must name a class .* got '{name}'"):
            TransformersModel(str(tmp_path), auto_class=name)
    with pytest.raises(ValueError, match="cannot load a causal language model from"):
        TransformersModel(str(tmp_path), auto_class="AutoModelForCausalLM")


@torch.no_grad()
def test_the_output_is_named() -> None:
    model, batch = CLIP.make(0), CLIP.batch(0)
    for name in ("logits_per_image", "logits_per_text"):
        got = TransformersModel.wrap(model, output=name).eval()(batch).logits()
        assert torch.equal(got, model(**batch)[name])
    with pytest.raises(ValueError, match=r"CLIPModel has no output 'logits'.*'logits_per_image'"):
        TransformersModel.wrap(model)(batch)


@torch.no_grad()
def test_the_axis_of_the_classes_is_that_of_the_kind_unless_given() -> None:
    family = FAMILIES["segformer"]
    model, batch = family.make(0), family.batch(0)
    assert TransformersModel.wrap(model).eval()(batch).shape == (3, 8, 8, 5)
    assert TransformersModel.wrap(model, class_dim=-1).eval()(batch).shape == (3, 5, 8, 8)
