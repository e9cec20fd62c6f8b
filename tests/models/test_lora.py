"""LoRA students: adapters alone learn, a run goes on from its checkpoint, both exports are it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from kdlight import CausalLM, DistillationModule, LoRACausalLM, Projected, SingleInput
from kdlight.callbacks import ExactResume, ExportStudent
from kdlight.cli import main
from kdlight.data.loaders import ResumableLoader
from kdlight.export import export_student
from tests.export.test_export import checkpoint, command, tiny  # noqa: F401, the fixture
from tests.support import toy
from tests.support.runs import saving

Weights = dict[str, Tensor]


def trained(folder: Path, *, steps: int = 4, start: Path | None = None, **options: Any) -> Any:
    """A module whose LoRA student took some steps, and the teacher that it was built from."""
    teacher = toy.llama(seed=2)
    torch.manual_seed(5)
    module = DistillationModule(
        student=LoRACausalLM(layers=1, r=2, dropout=0.0),
        teacher=teacher,
        objective=toy.mixture(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.05),
    )
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing="callbacks" in options,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    before = copy.deepcopy(weights(module))
    loader = ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)
    trainer.fit(module, loader, ckpt_path=start)
    return module, before, teacher


def weights(module: DistillationModule) -> Weights:
    return dict(module.student.state_dict())


def differing(one: Weights, other: Weights) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def logits(model: Any) -> Tensor:
    ids = torch.arange(toy.VOCABULARY)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


# ---- the student


@pytest.mark.parametrize("layers", [None, [0, 1]])
def test_a_new_student_answers_as_its_base_does(layers: list[int] | None) -> None:
    teacher = toy.llama().eval()
    student = LoRACausalLM(layers=layers).build(teacher)
    assert student.training
    batch = {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    source = student.eval()(batch)
    assert isinstance(source, Projected)
    assert torch.equal(source.logits(), teacher(batch).logits())
    assert (student.vocab_size, student.context_length) == (toy.VOCABULARY, 64)
    assert student.generate(batch["input_ids"], max_new_tokens=2).shape[1] >= toy.VOCABULARY


def test_its_logits_are_those_of_the_adapted_model(tmp_path: Path) -> None:
    module, _, _ = trained(tmp_path)
    batch = {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    source = module.student.eval()(batch)
    assert torch.equal(source.logits(), logits(module.student.model))


def test_adapters_alone_get_gradients_and_move(tmp_path: Path) -> None:
    module, before, teacher = trained(tmp_path)
    learning = {name for name, p in module.student.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 7  # A and B beside seven linear layers
    assert all("lora_" in name for name in learning)
    assert differing(before, weights(module)) == learning
    optimizer = module.trainer.optimizers[0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(learning)
    module.zero_grad()
    module.student({"input_ids": torch.arange(7)[None]}).logits().logsumexp(-1).sum().backward()
    reached = {name for name, p in module.student.named_parameters() if p.grad is not None}
    assert reached == learning
    untouched = toy.llama(seed=2)
    assert differing(teacher.state_dict(), untouched.state_dict()) == set()
    assert not any("lora" in name for name, _ in teacher.named_modules())


def test_nothing_is_shared_with_the_teacher() -> None:
    teacher = toy.llama()
    student = LoRACausalLM().build(teacher)
    ours = {p.untyped_storage().data_ptr() for p in student.parameters()}
    assert ours.isdisjoint(p.untyped_storage().data_ptr() for p in teacher.parameters())
    assert all(p.requires_grad for p in teacher.parameters())


def test_adapters_stay_in_float32_beside_frozen_weights_in_half() -> None:
    student = LoRACausalLM(dtype="bfloat16").build(toy.llama())
    dtypes = {p.requires_grad: p.dtype for p in student.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


def test_a_source_takes_the_place_of_the_teacher(tmp_path: Path) -> None:
    other = toy.llama(seed=3)
    other.save_pretrained(tmp_path)  # type: ignore[operator]
    student = LoRACausalLM(str(tmp_path), target_modules=["q_proj"]).build(
        SingleInput(nn.Linear(2, 3))
    )
    assert torch.equal(logits(student.model), logits(other.model))
    assert sum(p.requires_grad for p in student.parameters()) == 2 * 2


# ---- checkpoint and resume


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    whole, _, _ = trained(tmp_path, steps=8, callbacks=[saving(tmp_path), ExactResume()])
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in saved} == {"student"}
    assert len(saved) > len([name for name in saved if "lora_" in name]) > 0
    assert differing({f"student.{k}": v for k, v in weights(whole).items()}, saved)
    again = [saving(tmp_path / "again"), ExactResume()]
    start = tmp_path / "epoch=0.ckpt"
    resumed, _, _ = trained(tmp_path, steps=8, start=start, callbacks=again)
    assert resumed.trainer.global_step == 8
    assert differing(weights(whole), weights(resumed)) == set()


# ---- export


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
    """As under FSDP2: what is tied is there once, and the module's own weights are not read."""
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
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


# ---- bad input


def test_peft_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'kdlight\[peft\]'"):
        LoRACausalLM()


@pytest.mark.parametrize(("name", "value"), [("r", 0), ("alpha", 0.0), ("dropout", 1.0)])
def test_a_number_outside_its_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*got {value}"):
        LoRACausalLM(**{name: value})


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_the_head_and_the_embeddings_are_not_adapted(name: str) -> None:
    with pytest.raises(ValueError, match="target_modules includes the .* embeddings"):
        LoRACausalLM(target_modules=[name]).build(toy.llama())


def test_a_teacher_that_is_no_language_model() -> None:
    with pytest.raises(TypeError, match="SingleInput.*source"):
        LoRACausalLM().build(SingleInput(nn.Linear(2, 3)))


def test_adapters_that_are_not_there_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="adapter_only=True, but CausalLM has no adapters"):
        export_student(toy.llama(), tmp_path, adapter_only=True)


@pytest.mark.parametrize("first", [True, False])
def test_a_model_and_adapters_do_not_mix(first: bool, tmp_path: Path) -> None:
    student = LoRACausalLM().build(toy.llama())
    export_student(student, tmp_path, adapter_only=first)
    with pytest.raises(FileExistsError, match="set overwrite=True"):
        export_student(student, tmp_path, adapter_only=first)
    export_student(student, tmp_path, adapter_only=first, overwrite=True)
    with pytest.raises(FileExistsError, match="already holds .* cannot stand"):
        export_student(student, tmp_path, adapter_only=not first, overwrite=True)
