"""A hybrid student is built, padded, generated with, and used without kdlight."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import CausalLM, PrunedCausalLM, SingleInput
from kdlight.cli import main
from kdlight.models import HybridMamba
from kdlight.models.left_padding import left_padding_difference
from tests.models.tiny_models import DEPTH, tiny, tokens
from tests.support.exports import checkpoint, command, same, save_tiny_model

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


def student(layers: Any = (1,), **options: Any) -> CausalLM:
    torch.manual_seed(0)
    return HybridMamba(list(layers), chunk_size=4, **options).build(tiny("llama"))


@torch.no_grad()
def logits(network: CausalLM, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
    return network.eval()({"input_ids": ids, **inputs}).logits()


def test_all_layers_of_a_number_are_spaced_evenly() -> None:
    built = HybridMamba(2).build(tiny("llama"))
    assert built.model.config.attn_layer_indices == [0, DEPTH - 1]
    assert built.training
    assert built.is_fast


def test_with_all_layers_it_is_its_teacher() -> None:
    teacher, ids = CausalLM.wrap(tiny("llama")), tokens()
    assert torch.equal(logits(student(range(DEPTH)), ids), logits(teacher, ids))
    assert not torch.allclose(logits(student(), ids), logits(teacher, ids), atol=1e-3)


def test_it_converts_what_another_recipe_builds() -> None:
    pruned = PrunedCausalLM([0, 3])
    built = HybridMamba([1], base=pruned).build(CausalLM.wrap(tiny("llama")))
    assert built.model.config.attn_layer_indices == [1]
    assert built.model.config.num_hidden_layers == 2
    assert "base=PrunedCausalLM(layers=[0, 3])" in repr(HybridMamba([1], base=pruned))


def test_it_converts_another_model_than_the_teacher(tmp_path: Path) -> None:
    CausalLM.wrap(other := tiny("llama")).save_pretrained(tmp_path)
    built = HybridMamba([0], source=str(tmp_path)).build(SingleInput(nn.Linear(2, 31)))
    assert torch.equal(built.model.lm_head.weight, other.lm_head.weight)
    with pytest.raises(TypeError, match="SingleInput.*source"):
        HybridMamba([0]).build(SingleInput(nn.Linear(2, 31)))


def test_the_dtype_is_the_students() -> None:
    teacher = tiny("llama").bfloat16()
    assert {p.dtype for p in HybridMamba([0]).build(teacher).parameters()} == {torch.float32}
    half = HybridMamba([0], dtype="bfloat16").build(tiny("llama"))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_layers": 0}, "attention_layers: layers must be 1 to"),
        ({"attention_layers": []}, "attention_layers: layers must hold at least one"),
        ({"attention_layers": [2, 1]}, "attention_layers: .* increasing order"),
        ({"attention_layers": [1], "dtype": "int8"}, "dtype must be .* got 'int8'"),
        ({"attention_layers": [1], "chunk_size": 0}, "chunk_size must be .*got 0"),
        ({"attention_layers": [1], "seed": -1}, "seed must be .*got -1"),
        (
            {"attention_layers": [1], "base": PrunedCausalLM(2), "source": "a/b"},
            "both say what is converted",
        ),
    ],
)
def test_arguments_are_checked_when_it_is_created(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridMamba(**options)


@pytest.mark.parametrize("options", [{"attention_layers": "all"}, {"attention_layers": 1.5}])
def test_layers_of_another_kind(options: Any) -> None:
    with pytest.raises(TypeError, match="attention_layers: layers must be a number of layers"):
        HybridMamba(**options)
    with pytest.raises(TypeError, match="base must be a recipe .* got a Linear"):
        HybridMamba(1, base=nn.Linear(2, 3))  # type: ignore[arg-type]


def test_a_layer_that_the_model_does_not_have() -> None:
    with pytest.raises(ValueError, match="attention_layers: .*outside the model"):
        HybridMamba([0, DEPTH]).build(tiny("llama"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: str) -> None:
    network, ids = student(), tokens(3, 9)
    with torch.no_grad():  # as after training, where padding is not mapped to zeros
        for layer in network.model.model.layers:
            if hasattr(layer, "mamba"):
                layer.mamba.conv1d.bias.normal_()
                layer.mamba.conv1d.weight.normal_()
    for row, length in enumerate((9, 6, 2)):
        kept = slice(9 - length, 9) if side == "left" else slice(0, length)
        mask = torch.zeros_like(ids)
        mask[:, kept] = 1
        padded = logits(network, ids * mask, attention_mask=mask)
        alone = logits(network, ids[:, kept])
        torch.testing.assert_close(padded[row, kept], alone[row], rtol=1e-4, atol=1e-5)
    assert (
        left_padding_difference(network, {"input_ids": ids * mask, "attention_mask": mask}) < 1e-4
    )


def test_it_generates_with_its_cache_what_it_generates_without() -> None:
    network, ids = student(), tokens(2, 7)
    expected = ids
    for _ in range(6):
        expected = torch.cat([expected, logits(network, expected)[:, -1:].argmax(-1)], 1)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    assert torch.equal(network.generate(ids, **options), expected)
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[:, :3] = 0
    padded = torch.cat([torch.full((2, 3), 2), ids], 1)
    assert torch.equal(network.generate(padded, attention_mask=mask, **options)[:, 3:], expected)


def test_logits_of_the_head_are_those_of_the_model() -> None:
    network = student()
    batch = {"input_ids": tokens(2, 9)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert network.compare_with_model(batch) < 1e-5
    assert network.is_fast
    expected = network.eval().model(batch["input_ids"]).logits
    torch.testing.assert_close(network(batch).logits(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient() -> None:
    grads = []
    for checkpointing in (False, True):
        network = student()
        if checkpointing:
            network.model.gradient_checkpointing_enable({"use_reentrant": False})
        network({"input_ids": tokens(2, 9) * 0 + 5}).logits().logsumexp(-1).sum().backward()
        grads.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert len(grads[0]) == len([g for g in grads[0] if g is not None])


@pytest.mark.slow
def test_an_export_needs_no_kdlight(tmp_path: Path) -> None:
    network, ids = student(), tokens()
    network.save_pretrained(tmp_path / "student")
    torch.save(ids, tmp_path / "ids.pt")
    code = (
        "import sys, torch; sys.modules['kdlight'] = sys.modules['mamba_ssm'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1] + '/student')\n"
        "assert type(model).__name__ == 'BambaForCausalLM'\n"
        "logits = model(torch.load(sys.argv[1] + '/ids.pt')).logits\n"
        "torch.save(logits, sys.argv[1] + '/logits.pt')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert torch.equal(torch.load(tmp_path / "logits.pt"), logits(network, ids))


@pytest.mark.slow
def test_the_command_line_trains_and_exports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model = save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    config = [each for each in command(tiny_model, tmp_path / "run") if ".layers=" not in each]
    student = {
        "class_path": "kdlight.models.HybridMamba",
        "init_args": {
            "attention_layers": [1],
            "base": {"class_path": "kdlight.PrunedCausalLM", "init_args": {"layers": [0, 2]}},
            "chunk_size": 8,
        },
    }
    main([*config, f"--model.student={json.dumps(student)}"])
    path = str(checkpoint(tmp_path / "run"))
    main(["export", "--ckpt_path", path, "--output", "exported"])
    assert same(tmp_path / "exported", tmp_path / "run" / "student")
    found = transformers.AutoModelForCausalLM.from_pretrained("exported")
    assert type(found).__name__ == "BambaForCausalLM"
    assert found.config.layers_block_type == ["linear_attention", "full_attention"]
    start = HybridMamba([1], base=PrunedCausalLM([0, 2])).build(CausalLM(str(tiny_model)))
    trained = found.model.layers[0].mamba.in_proj.weight
    assert not torch.equal(trained, start.model.model.layers[0].mamba.in_proj.weight)
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "| student | `HybridMamba(" in card
