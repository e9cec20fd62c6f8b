"""A student that is the weighted mean of several models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import ExactResume, ExportStudent
from kdlight.cli import main
from kdlight.models import MergedCausalLM
from kdlight.models.recipes import merged_causal_lm
from kdlight.objectives import CrossEntropy
from tests.support import toy
from tests.support.elastic_fit import llama, trainer
from tests.support.exports import checkpoint, command, save_tiny_model
from tests.support.runs import saving


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Three models of one architecture with tied embeddings, in float32."""
    paths = [str(tmp_path / name) for name in ("long", "short", "other")]
    for seed, path in enumerate(paths):
        llama(seed=seed).float().save_pretrained(path)  # type: ignore[operator]
    return paths


@pytest.mark.parametrize("values", [(0.8, 0.2), (1.5, -0.5), (0.0, 1.0)])
def test_weights_are_the_mean(values: tuple[float, float], folders: list[str]) -> None:
    one, other = (CausalLM(folder).model for folder in folders[:2])
    recipe = MergedCausalLM(dict(zip(folders, values, strict=False)))
    student = recipe.build()
    assert student.training
    for name, value in student.model.named_parameters():
        expected = values[0] * one.get_parameter(name) + values[1] * other.get_parameter(name)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    assert student.model.lm_head.weight is student.model.model.embed_tokens.weight


def test_one_model_is_itself_and_equal_models_stay_equal(folders: list[str]) -> None:
    one = CausalLM(folders[0]).state_dict()
    copied = str(Path(folders[0]).parent / "copied")
    CausalLM(folders[0]).save_pretrained(copied)
    for sources in ({folders[0]: 1.0}, {folders[0]: 0.5, copied: 0.5}):
        merged = MergedCausalLM(sources).build().state_dict()
        assert all(torch.equal(value, one[name]) for name, value in merged.items())


def test_the_mean_is_computed_in_float32_whatever_the_dtypes(folders: list[str]) -> None:
    one, other = (CausalLM(folder, dtype="bfloat16") for folder in folders[:2])
    halves = [str(Path(folders[0]).parent / name) for name in ("half", "half2")]
    for each, path in zip((one, other), halves, strict=True):
        each.save_pretrained(path)
    sources = dict(zip(halves, (0.7, 0.3), strict=True))
    merged = MergedCausalLM(sources, dtype="bfloat16").build()
    wide = MergedCausalLM(sources, dtype="float64").build()
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    equal = total = 0
    for name, value in wide.state_dict().items():
        exact = 0.7 * one.state_dict()[name].double() + 0.3 * other.state_dict()[name].double()
        torch.testing.assert_close(value, exact, rtol=1e-12, atol=1e-15)
        is_equal = merged.state_dict()[name] == exact.bfloat16()
        torch.testing.assert_close(merged.state_dict()[name], exact.bfloat16(), rtol=2**-7, atol=0)
        equal += is_equal.sum().item()
        total += is_equal.numel()
    assert equal > 0.98 * total  # but for ties of the last bit


def test_two_models_at_most_are_in_memory(
    folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    from weakref import WeakSet

    alive: WeakSet[Any] = WeakSet()
    counts = []
    load = merged_causal_lm.load_model

    def counting(*args: Any, **kwargs: Any) -> Any:
        gc.collect()
        counts.append(len(alive))
        model = load(*args, **kwargs)
        alive.add(model)
        return model

    monkeypatch.setattr(merged_causal_lm, "load_model", counting)
    MergedCausalLM(dict(zip(folders, (0.5, 0.3, 0.2), strict=True))).build()
    assert counts == [0, 1, 1]


def test_other_architectures_are_refused_with_what_differs(folders: list[str]) -> None:
    narrow = str(Path(folders[0]).parent / "narrow")
    llama(hidden_size=4).save_pretrained(narrow)
    with pytest.raises(ValueError, match="long' and '.*narrow' cannot be .* hidden_size: 8 and 4;"):
        MergedCausalLM({folders[0]: 0.5, narrow: 0.5}).build()


def test_buffers_without_a_mean_must_be_equal() -> None:
    one: Any = nn.BatchNorm1d(2)
    other: Any = nn.BatchNorm1d(2)
    merged_causal_lm._scale(one, 0.5)
    other.running_mean += 1
    merged_causal_lm._add(one, other, 0.5, "a and b")
    assert one.running_mean.tolist() == [0.5, 0.5]
    other.num_batches_tracked += 1
    with pytest.raises(ValueError, match=r"a and b cannot be merged: num_batches_tracked \(torch"):
        merged_causal_lm._add(one, other, 0.5, "a and b")


REFUSED: list[tuple[Any, type[Exception], str]] = [
    ({"a": 0.8, "b": 0.3}, ValueError, r"must sum to 1, got 0.8 \+ 0.3 = 1.1"),
    ({}, ValueError, "must sum to 1, got none = 0"),
    ({"a": float("nan")}, ValueError, "the weight of 'a' must be finite, got nan"),
    ({"a": "1"}, TypeError, "the weight of 'a' must be a number"),
    (["a", "b"], TypeError, "sources must be a mapping from sources to weights"),
    ({1: 1.0}, TypeError, "sources must be texts, got 1"),
]


@pytest.mark.parametrize(("sources", "error", "message"), REFUSED)
def test_what_is_no_mean_is_refused(sources: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MergedCausalLM(sources)
    with pytest.raises(ValueError, match="got 'auto'"):
        MergedCausalLM({"a": 1.0}, dtype="auto")
    assert "sum" in str(MergedCausalLM({"sum": 1.0 + 1e-7}))


@pytest.mark.slow
def test_a_run_needs_no_teacher_and_resumes_to_the_same_bits(
    folders: list[str], tmp_path: Path
) -> None:
    from kdlight.data.loaders import ResumableLoader

    def run(folder: Path, start: Path | None = None) -> Any:
        recipe = MergedCausalLM(dict(zip(folders, (0.8, 0.2), strict=False)))
        this = DistillationModule(recipe, CrossEntropy())
        exporting = ExportStudent(str(folder / "student"))
        data = ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)
        options = {"max_epochs": 2, "accumulate_grad_batches": 1}
        trainer(folder, ExactResume(), exporting, saving(folder), **options).fit(
            this, data, ckpt_path=start, weights_only=False if start else None
        )
        return this

    whole = run(tmp_path / "whole")
    resumed = run(tmp_path / "again", tmp_path / "whole" / "epoch=0.ckpt")
    again = resumed.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.state_dict().items())
    code = (
        "import sys, torch; sys.modules['kdlight'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        f"torch.save(model(torch.arange({toy.VOCABULARY})[None]).logits, sys.argv[2])"
    )
    arguments = [str(tmp_path / "whole" / "student"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    ids = torch.arange(toy.VOCABULARY)[None]
    expected = whole.student.model.eval()(ids).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_the_command_line_trains_and_exports_a_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may have dots in its name, and the config a reference to another entry."""
    tiny = save_tiny_model(tmp_path / "tiny-1.5")
    other = save_tiny_model(tmp_path / "other")
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "student.yaml"
    config.write_text(
        "model:\n  init_args:\n    student:\n      class_path: kdlight.models.MergedCausalLM\n"
        f"      init_args:\n        sources: {{{tiny}: 0.8, {other}: 0.2}}\n"
    )
    arguments = [a for a in command(tiny, tmp_path / "run") if "student.layers" not in a]
    arguments[3:3] = ["--config", str(config)]
    main(arguments)
    exported = tmp_path / "run" / "student"
    main(["export", "--ckpt_path", str(checkpoint(tmp_path / "run")), "--output", "out"])
    one, two = (AutoModelForCausalLM.from_pretrained(each) for each in (exported, "out"))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert "MergedCausalLM" not in (exported / "config.json").read_text()
