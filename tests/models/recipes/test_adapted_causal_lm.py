"""A merged export and an export of adapters both equal the trained student."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from kdlight import CausalLM, LoRACausalLM
from kdlight.callbacks import ExportStudent
from kdlight.cli import main
from kdlight.export import export_student
from tests.models.recipes.lora import differing, logits, trained, weights
from tests.support import toy
from tests.support.exports import checkpoint, command, save_tiny_model
from tests.support.exports import weights as read_weights


def test_a_merged_export_needs_neither_kdlight_nor_peft(tmp_path: Path) -> None:
    module, _, _ = trained(tmp_path)
    before = copy.deepcopy(weights(module))
    export_student(module.student, tmp_path / "out")
    assert differing(before, weights(module)) == set()
    code = (
        "import sys, torch; sys.modules['kdlight'] = sys.modules['peft'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        f"torch.save(model(torch.arange({toy.VOCABULARY})[None]).logits, sys.argv[2])"
    )
    arguments = [str(tmp_path / "out"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    found, expected = torch.load(tmp_path / "logits.pt"), logits(module.student.model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    base = logits(LoRACausalLM(layers=1).build(toy.llama(seed=2)).model)
    assert (found - base).abs().max() > 1e-3  # what was learned is in it


def test_gathered_weights_are_exported_in_place_of_ones_own(tmp_path: Path) -> None:
    """As with FSDP2: tied weights are given once, and the module's own weights are not read."""
    module, _, _ = trained(tmp_path)
    expected = logits(module.student.model)
    gathered = copy.deepcopy(weights(module))
    del gathered["model.base_model.model.lm_head.weight"]
    with torch.no_grad():
        for parameter in module.student.parameters():
            parameter.zero_()
    module.student.save_pretrained(tmp_path / "out", state_dict=gathered)
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    module.student.save_pretrained(tmp_path / "alone", state_dict=gathered, adapter_only=True)
    base = LoRACausalLM(layers=1).build(toy.llama(seed=2)).model.unload()
    found = logits(PeftModel.from_pretrained(base, tmp_path / "alone"))
    assert torch.equal(found, expected)


def test_adapters_alone_go_on_the_model_they_began_from(tmp_path: Path) -> None:
    callback = ExportStudent(directory=str(tmp_path / "out"), adapter_only=True)
    module, _, teacher = trained(tmp_path, callbacks=[callback])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert "library_name: peft" in (tmp_path / "out" / "README.md").read_text()
    base = LoRACausalLM(layers=1).build(teacher).model.unload()
    found = logits(PeftModel.from_pretrained(base, tmp_path / "out"))
    assert torch.equal(found, logits(module.student.model))


def test_the_command_line_trains_and_exports_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    student = ["--model.student=kdlight.LoRACausalLM", "--model.student.layers=[0, 2]"]
    main([*command(tiny, tmp_path / "run"), *student])
    path = str(checkpoint(tmp_path / "run"))
    main(["export", "--ckpt_path", path, "--output", "merged"])
    main(["export", "--ckpt_path", path, "--output", "alone", "--adapter_only", "true"])
    main(["export", "--ckpt_path", path, "--output", "base", "--adapter_scale", "0"])
    main(["export", "--ckpt_path", path, "--output", "beyond", "--adapter_scale=-0.5"])
    assert "| adapter_scale | `-0.5` |" in (tmp_path / "beyond" / "README.md").read_text()
    merged = AutoModelForCausalLM.from_pretrained("merged")
    from_callback = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student")
    assert torch.equal(logits(merged), logits(from_callback))
    nothing, whole, beyond = (read_weights(tmp_path / n) for n in ("base", "merged", "beyond"))
    pruned = LoRACausalLM(layers=[0, 2]).build(CausalLM(str(tiny))).model.unload().state_dict()
    assert all(torch.equal(value, pruned[name]) for name, value in nothing.items())
    for name, value in nothing.items():
        torch.testing.assert_close(beyond[name], value - 0.5 * (whole[name] - value))
    base = LoRACausalLM(layers=[0, 2]).build(CausalLM(str(tiny))).model.unload()
    adapted = logits(PeftModel.from_pretrained(base, "alone"))
    torch.testing.assert_close(adapted, logits(merged), rtol=1e-5, atol=1e-6)
    assert "student | `LoRACausalLM(" in (tmp_path / "alone" / "README.md").read_text()


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_the_head_and_the_embeddings_are_not_adapted(name: str) -> None:
    with pytest.raises(ValueError, match="target_modules includes the .* embeddings"):
        LoRACausalLM(target_modules=[name]).build(toy.llama())


def test_merged_weights_are_linear_in_the_scale_of_the_adapters(tmp_path: Path) -> None:
    callbacks = [
        ExportStudent(directory=str(tmp_path / str(scale)), adapter_scale=scale)
        for scale in (0, 0.5, 1.0, 1.5)
    ]
    module, _, teacher = trained(tmp_path, callbacks=callbacks)
    export_student(module.student, tmp_path / "plain")
    base, half, one, more = (read_weights(tmp_path / s) for s in ("0", "0.5", "1.0", "1.5"))
    plain = read_weights(tmp_path / "plain")
    untouched = LoRACausalLM(layers=1).build(teacher).model.unload().state_dict()
    moved = 0
    for name, value in base.items():
        assert torch.equal(value, untouched[name])
        assert torch.equal(one[name], plain[name])
        change = one[name] - value
        torch.testing.assert_close(half[name], value + 0.5 * change)
        torch.testing.assert_close(more[name], value + 1.5 * change)
        moved += bool(change.abs().max() > 1e-4)
    assert moved == 7


def test_scales_that_cannot_be_merged_are_refused(tmp_path: Path) -> None:
    student = LoRACausalLM(layers=1).build(toy.llama())
    with pytest.raises(ValueError, match="adapter_scale=0.5, but CausalLM has no adapters"):
        export_student(toy.llama(), tmp_path, adapter_scale=0.5)
    with pytest.raises(ValueError, match="adapter_only=True merges none"):
        export_student(student, tmp_path, adapter_scale=0.5, adapter_only=True)
    with pytest.raises(ValueError, match="adapter_scale must be a finite number, got nan"):
        export_student(student, tmp_path, adapter_scale=float("nan"))
    with pytest.raises(TypeError, match="adapter_scale must be a number, got"):
        export_student(student, tmp_path, adapter_scale="half")  # type: ignore[arg-type]
    run = toy.trainer(tmp_path, callbacks=[ExportStudent(adapter_scale=1.0)])
    with pytest.raises(ValueError, match="adapter_scale=1.0, but CausalLM has no adapters"):
        run.fit(toy.module(network="llama"), toy.loader(8))


@pytest.mark.parametrize("kind", ["dora", "bias", "vera"])
def test_adapters_that_are_not_linear_in_a_scale_are_refused(kind: str, tmp_path: Path) -> None:
    from peft import LoraConfig, VeraConfig, get_peft_model

    from kdlight.models.recipes.adapted_causal_lm import AdaptedCausalLM

    configs = {
        "dora": LoraConfig(target_modules=["q_proj"], use_dora=True),
        "bias": LoraConfig(target_modules=["q_proj"], bias="all"),
        "vera": VeraConfig(target_modules=["q_proj"], r=2),
    }
    base: Any = toy.llama().model
    student = AdaptedCausalLM.wrap(get_peft_model(base, configs[kind]))
    with pytest.raises(ValueError, match="needs adapters of LoRA alone, .* got a .*Config with"):
        student.save_pretrained(tmp_path, adapter_scale=0.5)  # type: ignore[call-arg]
