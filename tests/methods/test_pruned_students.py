"""Students pruned by importance: resumed, on ranks, and exported without their data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import PrunedCausalLM
from kdlight.callbacks import ExactResume
from kdlight.cli import main
from kdlight.data.loaders import ResumableLoader
from tests.support import toy
from tests.support.exports import checkpoint, command, save_tiny_model, weights
from tests.support.pruned_fit import (
    ARGUMENTS,
    Shuffled,
    fit,
    fit_on_ranks,
    largest_difference,
    module,
    teacher,
)
from tests.support.runs import saving


@pytest.fixture
def _like_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    alone = fit({"batch_size": 8})
    strategies = ("ddp", "fsdp2")
    cases = {each: {"strategy": each, "batch_size": 4} for each in strategies}
    for rank in fit_on_ranks(cases, tmp_path):
        for each in strategies:
            assert rank[each]["layers"] == alone["layers"]
            assert rank[each]["drawn"] == alone["drawn"]
            assert largest_difference(alone, rank[each]) < 1e-10
            assert rank[each]["validated"] == pytest.approx(alone["validated"], rel=1e-6)


def test_the_random_numbers_of_the_run_do_not_depend_on_the_recipe() -> None:
    drawn = []
    for recipe in (None, PrunedCausalLM([0, 2], dtype="float64")):
        torch.manual_seed(3)
        module(recipe)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_a_resumed_run_gives_bitwise_equal_weights(tmp_path: Path) -> None:
    """It measures again, on data in a random order, and then loads the weights."""

    def run(folder: Path, start: Path | None = None) -> Any:
        torch.manual_seed(5 if start is None else 6)
        callbacks = [saving(folder), ExactResume()]
        trainer = toy.trainer(folder, max_epochs=2, enable_checkpointing=True, callbacks=callbacks)
        this = module()
        loader = ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)
        trainer.fit(this, loader, ckpt_path=start)
        return this

    whole = run(tmp_path)
    resumed = run(tmp_path / "again", tmp_path / "epoch=0.ckpt")
    assert resumed.trainer.global_step == whole.trainer.global_step == 8
    ours, theirs = resumed.student.state_dict(), whole.student.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    halfway = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert not torch.equal(
        halfway["state_dict"]["student.model.model.norm.weight"], theirs["model.model.norm.weight"]
    )
    assert halfway["kdlight"]["rebuilding"] == whole.rebuilding
    chosen = whole.rebuilding["student"]["init_args"]
    assert chosen["width"] == {**ARGUMENTS["width"], "by": "first"}
    assert len(chosen["layers"]) == 2


def test_data_in_the_order_of_the_run_would_choose_otherwise() -> None:
    """So that the tests above can fail: what is measured depends on the batches."""
    found = set()
    for seed in range(8):
        torch.manual_seed(seed)
        data = Shuffled()
        data.setup("fit")
        recipe = PrunedCausalLM(**{**ARGUMENTS, "batches": 1}, data=list(data.train_dataloader()))
        embeddings = recipe.build(teacher()).model.get_input_embeddings().weight
        found.add(embeddings.sum().item())
    assert len(found) > 1


CODE = """
import sys
sys.modules["kdlight"] = None
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
with torch.no_grad():
    logits = model(input_ids=torch.arange(9)[None]).logits
torch.save((type(model).__name__, model.config.to_dict(), logits), sys.argv[2])
"""


def student(recipe: str, *, adapters: bool = False) -> dict[str, Any]:
    """Return the config of a student that is measured on the data of the run."""
    arguments: dict[str, Any] = {"layers": {"keep": 2, "by": "importance"}, "data": "${data}"}
    if not adapters:
        arguments["width"] = {"heads": 2, "feed_forward": 10, "hidden": 6}
    return {"class_path": f"kdlight.{recipe}", "init_args": arguments}


@pytest.mark.slow
@pytest.mark.usefixtures("_like_a_command")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of its own libraries
@pytest.mark.parametrize("recipe", ["PrunedCausalLM", "LoRACausalLM"])
def test_a_student_is_exported_when_its_data_are_gone(recipe: str, tmp_path: Path) -> None:
    if recipe == "LoRACausalLM":
        pytest.importorskip("peft")
    tiny = save_tiny_model(tmp_path / "tiny")
    own = tmp_path / "student.yaml"
    config = {"model": {"init_args": {"student": student(recipe, adapters="LoRA" in recipe)}}}
    own.write_text(json.dumps(config))
    arguments = [each for each in command(tiny, tmp_path / "run") if "student.layers" not in each]
    main([*arguments[:3], "--config", str(own), *arguments[3:]])
    path = checkpoint(tmp_path / "run")
    saved = torch.load(path, weights_only=True)["hyper_parameters"]["student"]["init_args"]
    assert saved["layers"] == {"keep": 2, "by": "importance"}  # the config of the run
    assert saved["data"]["init_args"]["files"] == str(tiny / "text.jsonl")
    (tiny / "text.jsonl").unlink()
    main(["export", "--ckpt_path", str(path), "--output", str(tmp_path / "out")])
    ours, theirs = weights(tmp_path / "out"), weights(tmp_path / "run" / "student")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "out"), str(tmp_path / "logits.pt")],
        check=True,
        capture_output=True,
    )
    name, sizes, found = torch.load(tmp_path / "logits.pt", weights_only=False)
    assert name == "LlamaForCausalLM"
    assert sizes["num_hidden_layers"] == 2
    if recipe == "PrunedCausalLM":
        assert (sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]) == (6, 10, 4)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student")
    with torch.no_grad():
        assert torch.equal(model(input_ids=torch.arange(9)[None]).logits, found)
