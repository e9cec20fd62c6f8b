"""A merged export and an export of adapters both equal the trained student."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

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
    merged = AutoModelForCausalLM.from_pretrained("merged")
    from_callback = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student")
    assert torch.equal(logits(merged), logits(from_callback))
    base = LoRACausalLM(layers=[0, 2]).build(CausalLM(str(tiny))).model.unload()
    adapted = logits(PeftModel.from_pretrained(base, "alone"))
    torch.testing.assert_close(adapted, logits(merged), rtol=1e-5, atol=1e-6)
    assert "student | `LoRACausalLM(" in (tmp_path / "alone" / "README.md").read_text()


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_the_head_and_the_embeddings_are_not_adapted(name: str) -> None:
    with pytest.raises(ValueError, match="target_modules includes the .* embeddings"):
        LoRACausalLM(target_modules=[name]).build(toy.llama())
