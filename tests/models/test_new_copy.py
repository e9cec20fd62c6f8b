"""A copy is what transformers would load from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.models import LoRACausalLM, MergedCausalLM, prune_layers, prune_width
from kdlight.models.new_copy import copy_in_dtype, new_copy
from tests.models.pruning.width_models import decoder, logits, transformers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_weights_are_copied_in_the_dtype(dtype: torch.dtype) -> None:
    model, state = decoder("llama"), torch.get_rng_state()
    copied = new_copy(model, model.config, model.state_dict(), dtype)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32
    ours, theirs = dict(copied.named_parameters()), dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == dtype
        assert torch.equal(weight, theirs[name].to(dtype))
        assert weight.data_ptr() != theirs[name].data_ptr()
    assert copied.config is not model.config
    assert copied.generation_config is not model.generation_config


def test_weights_that_do_not_fit_leave_the_default_dtype() -> None:
    model = decoder("llama")
    with pytest.raises(RuntimeError, match="Missing key"):
        new_copy(model, model.config, {}, torch.float64)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("loaded_as", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
@pytest.mark.parametrize("pruned", ["layers", "width"])
def test_a_student_computes_what_its_folder_does(
    pruned: str, dtype: str, loaded_as: torch.dtype, tmp_path: Path
) -> None:
    """Frequencies of rotary embeddings, which are in no folder, are not rounded."""
    decoder("llama").save_pretrained(tmp_path / "teacher")
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    model = load(tmp_path / "teacher", dtype=loaded_as)
    if pruned == "layers":
        student: Any = prune_layers(model, [0, 2], dtype=dtype)
    else:
        student = prune_width(model, heads=2, importance="first", dtype=dtype)
    frequencies = student.model.rotary_emb.inv_freq
    assert frequencies.dtype == torch.float32
    assert torch.equal(frequencies, model.model.rotary_emb.inv_freq)
    student.save_pretrained(tmp_path / "student")
    wanted = loaded_as if dtype == "auto" else getattr(torch, dtype)
    assert {each.dtype for each in student.parameters()} == {wanted}
    again = load(tmp_path / "student", dtype=wanted)
    assert torch.equal(logits(student), logits(again))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["merged", "adapted", "adapters merged"])
def test_other_recipes_do_not_round_frequencies_either(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    model = decoder("llama")
    model.save_pretrained(tmp_path)
    if kind == "merged":
        student: Any = MergedCausalLM({str(tmp_path): 1.0}, dtype=dtype).build().model
    else:
        pytest.importorskip("peft")
        recipe = LoRACausalLM(dtype=dtype)
        adapted = recipe.build(model)
        student = adapted.model.get_base_model()
        if kind == "adapters merged":
            student = recipe.export(adapted).model  # type: ignore[assignment]
    assert next(student.parameters()).dtype == getattr(torch, dtype)
    assert torch.equal(student.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize("dtype", [None, "auto", "float32", "float16"])
def test_a_copy_in_a_dtype_shares_nothing(dtype: str | None) -> None:
    model = decoder("llama")
    copied = copy_in_dtype(model, dtype)
    assert copied.dtype == (torch.float16 if dtype == "float16" else torch.float32)
    for ours, theirs in zip(copied.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(ours.dtype))
        assert ours.data_ptr() != theirs.data_ptr()
