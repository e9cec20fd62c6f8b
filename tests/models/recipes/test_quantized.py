"""Students that are trained with quantized weights, and their exports."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdlight import CausalLM, Chunking, PrunedCausalLM, SingleInput
from kdlight.callbacks import ExactResume, ExportStudent
from kdlight.checkpoints import check_weights, shapes
from kdlight.cli import main
from kdlight.models import Quantized
from kdlight.models.digits import ConvNet
from kdlight.models.recipes.quantizable_layers import layer_types, quantizable_layers
from kdlight.quantization import LearnedPoints, UniformQuantization, uniform_quantize
from kdlight.quantization.buckets import as_buckets
from tests.models.recipes.lora import differing
from tests.models.recipes.quantized import logits, module, originals, trained
from tests.support import toy
from tests.support.exports import checkpoint, command, save_tiny_model
from tests.support.runs import saving

SCHEMES = ("uniform", "points")


def values_a_bucket(weight: Tensor, bucket: int | None) -> int:
    """Return the largest number of distinct values in a bucket."""
    return max(len(row.unique()) for row in as_buckets(weight, bucket))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_of_a_language_model_are_quantized_and_all_else_stays(scheme: Any) -> None:
    teacher = toy.llama()
    before = copy.deepcopy(teacher.state_dict())
    student = Quantized(PrunedCausalLM([1]), bits=3, bucket=32, scheme=scheme).build(teacher)
    assert isinstance(student, CausalLM)
    assert student.training
    assert differing(dict(teacher.state_dict()), before) == set()
    kind = {"uniform": UniformQuantization, "points": LearnedPoints}[scheme]
    for path, layer in student.named_modules():
        quantized = ".layers." in path and isinstance(layer, nn.Linear)
        found = [each for each in layer.modules() if isinstance(each, kind)]
        assert len(found) == quantized or not isinstance(layer, nn.Linear)
        if quantized:
            own = before[path.replace("layers.0", "layers.1") + ".weight"]
            assert torch.equal(layer.get_parameter("parametrizations.weight.original"), own)
            weight: Any = layer.weight
            assert values_a_bucket(weight, 32) <= 8
    assert student.model.lm_head.weight is student.model.get_input_embeddings().weight


def test_uniform_weights_are_those_of_the_function() -> None:
    network: Any = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(4, 3))
    expected = uniform_quantize(network[1].weight, bits=2, bucket=10)
    student: Any = Quantized(network, bits=2, bucket=10).build()
    assert student is network
    assert torch.equal(student[1].weight, expected)
    assert type(student[0]) is type(student[2]) is nn.Linear


def test_a_base_of_none_is_a_copy_of_the_teacher() -> None:
    teacher = SingleInput(ConvNet()).half()
    student = Quantized(bits=2).build(teacher)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    theirs = {p.data_ptr() for p in teacher.parameters()}
    assert not theirs & {p.data_ptr() for p in student.parameters()}
    with pytest.raises(ValueError, match="base is None.*no live teacher"):
        Quantized(bits=2).build(None)


def test_frozen_weights_of_the_base_stay_frozen() -> None:
    network = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4))
    student = Quantized(network, skip=[]).build()
    assert [n for n, p in student.named_parameters() if p.requires_grad] == [
        "1.bias",
        "1.parametrizations.weight.original",
    ]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bits": 0}, ValueError, "bits must be at least 1, got 0"),
        ({"bits": 2.0}, TypeError, "bits must be an integer, got 2.0"),
        ({"bucket": 0}, ValueError, "bucket must be at least 1, got 0"),
        ({"scheme": "log"}, ValueError, "scheme must be one of 'uniform', 'points', got 'log'"),
        ({"backend": "gguf"}, ValueError, "backend must be one of 'kdlight', 'torchao'"),
        ({"skip": "first"}, TypeError, "skip must be a list of 'first', 'last' and paths"),
        ({"skip": [0]}, TypeError, r"skip must be a list .*got 0 \(int\)"),
        ({"base": nn.Linear}, TypeError, "base must be a recipe, a network or None"),
    ],
)
def test_arguments_are_checked(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Quantized(**options)


def test_a_weight_that_is_not_finite_is_named() -> None:
    network: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        network[1].weight[0] = torch.nan
    with pytest.raises(ValueError, match="'1': weight must be finite, but 1 of its 1 buckets"):
        Quantized(network, skip=[]).build()


def test_a_student_is_quantized_once() -> None:
    student = Quantized(toy.llama()).build()
    with pytest.raises(ValueError, match="has parametrized weights already"):
        Quantized(student).build()


def test_what_a_recipe_shows() -> None:
    assert repr(Quantized(PrunedCausalLM(10), bits=2)) == (
        "Quantized(PrunedCausalLM(layers=10), bits=2, bucket=256)"
    )
    shown = repr(Quantized(nn.Linear(2, 2), bucket=None, scheme="points"))
    assert shown == "Quantized(Linear, bits=4, bucket=None, scheme='points')"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("network", ["llama", "toy", "plain"])
def test_a_fit_trains_what_the_scheme_trains(scheme: str, network: str, tmp_path: Path) -> None:
    skip = ["first", "last"] if network == "llama" else []
    options = {"scheme": scheme, "network": network, "skip": skip}
    before = copy.deepcopy(dict(module(options).student.state_dict()))
    after = dict(trained(tmp_path, **options).student.state_dict())
    assert before.keys() == after.keys()
    moved = differing(before, after)
    frozen = {name for name in before if name.endswith(".original")}
    if scheme == "uniform":
        assert frozen <= moved
    else:
        assert not frozen & moved
        assert {name for name in before if name.endswith(".points")} <= moved
    assert {name for name in before if "parametrizations" not in name} - {
        "model.lm_head.weight"
    } <= moved


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_exported_network_has_plain_weights_and_the_same_logits(
    scheme: Any, tmp_path: Path
) -> None:
    student = trained(tmp_path, scheme=scheme).student
    recipe = Quantized(scheme=scheme)
    plain = recipe.export(student)
    assert isinstance(plain, CausalLM)
    batch = {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    student.eval()
    assert torch.equal(plain(batch).logits(), student(batch).logits())
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert plain.model.lm_head.weight is plain.model.get_input_embeddings().weight


@pytest.mark.slow
def test_a_folder_is_read_without_kdlight_and_has_few_values_a_bucket(tmp_path: Path) -> None:
    expected = {}
    for scheme in SCHEMES:
        callback = ExportStudent(directory=str(tmp_path / scheme))
        this = trained(tmp_path, scheme=scheme, dtype="float32", callbacks=[callback])
        expected[scheme] = logits(this.student.model)
    code = (
        "import sys, torch; sys.modules['kdlight'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "for folder in sys.argv[1:]:\n"
        "    model = AutoModelForCausalLM.from_pretrained(folder)\n"
        f"    logits = model(torch.arange({toy.VOCABULARY})[None]).logits\n"
        "    torch.save(logits, folder + '/logits.pt')"
    )
    folders = [str(tmp_path / scheme) for scheme in SCHEMES]
    subprocess.run([sys.executable, "-c", code, *folders], check=True, capture_output=True)
    for scheme in SCHEMES:
        found = torch.load(tmp_path / scheme / "logits.pt")
        assert torch.equal(found, expected[scheme])
        saved = load_file(tmp_path / scheme / "model.safetensors")
        assert not [name for name in saved if "parametrizations" in name]
        quantized = [name for name in saved if name.endswith("_proj.weight")]
        assert len(quantized) == 2 * 7
        assert max(values_a_bucket(saved[name], 24) for name in quantized) == 4
        assert values_a_bucket(saved["model.embed_tokens.weight"], 24) > 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resumed_run_gives_bitwise_equal_weights(scheme: str, tmp_path: Path) -> None:
    callbacks = [saving(tmp_path), ExactResume()]
    whole = trained(tmp_path, scheme=scheme, steps=8, callbacks=callbacks).student.state_dict()
    start = tmp_path / "epoch=0.ckpt"
    saved = torch.load(start, weights_only=True)["state_dict"]
    assert differing({f"student.{k}": v for k, v in whole.items()}, saved)
    callbacks = [saving(tmp_path / "again"), ExactResume()]
    resumed = trained(tmp_path, scheme=scheme, steps=8, start=start, callbacks=callbacks)
    assert resumed.trainer.global_step == 8
    assert differing(dict(whole), dict(resumed.student.state_dict())) == set()


def test_a_checkpoint_of_a_student_in_full_precision_does_not_fit() -> None:
    plain, quantized = toy.llama(), Quantized(toy.llama()).build()
    with pytest.raises(ValueError, match="only in this run: .*parametrizations.weight.original"):
        check_weights(shapes(plain.state_dict()), shapes(quantized.state_dict()))


@pytest.mark.slow
def test_the_command_line_trains_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    student = [
        "--model.student=kdlight.models.Quantized",
        "--model.student.bits=2",
        "--model.student.bucket=16",
        "--model.student.base=kdlight.PrunedCausalLM",
        "--model.student.base.layers=[0, 2]",
    ]
    arguments = [each for each in command(tiny, tmp_path / "run") if "student.layers" not in each]
    main([*arguments, *student])
    main(["export", "--ckpt_path", str(checkpoint(tmp_path / "run")), "--output", "out"])
    one, other = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "out", tmp_path / "run" / "student")
    )
    assert differing(one, other) == set()
    name = "model.layers.1.mlp.up_proj.weight"
    assert values_a_bucket(one[name], 16) == 4
    card = (tmp_path / "out" / "README.md").read_text()
    assert "student | `Quantized(base=PrunedCausalLM(layers=[0, 2]," in card


def test_original_weights_move_by_the_gradient_at_the_quantized_ones(tmp_path: Path) -> None:
    """One step of SGD is that of a plain student with the quantized weights, from the originals."""
    this = module({})
    plain = module({})
    plain.student = Quantized().export(plain.student).train()
    start = originals(this.student)
    for each, folder in ((this, "one"), (plain, "two")):
        trainer = toy.trainer(tmp_path / folder, max_steps=1)
        trainer.fit(each, toy.loader(8))
    assert start
    rounded = Quantized().export(module({}).student).state_dict()
    for name, before in start.items():
        path = name.replace("parametrizations.weight.original", "weight")
        ours = this.student.get_parameter(name).detach() - before
        theirs = plain.student.get_parameter(path).detach() - rounded[path]
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_every_layer_of_a_convolutional_network_has_two_bits() -> None:
    student = Quantized(ConvNet(channels=4), bits=2, bucket=None, skip=[]).build()
    plain = Quantized().export(student)
    paths = list(quantizable_layers(plain, layer_types(), []))
    assert paths == ["0", "4", "10"]
    for path in paths:
        assert len(plain.get_parameter(f"{path}.weight").unique()) == 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantized_head_is_trained_alike_in_chunks(scheme: Any, tmp_path: Path) -> None:
    found = []
    for chunked in (False, Chunking(tokens=5, block=2)):
        this = toy.module(dtype="float64", chunked=chunked)
        this.student = Quantized(this.student, bits=2, skip=[], scheme=scheme).build()
        toy.trainer(tmp_path, max_steps=3).fit(this, toy.loader(8))
        found.append(dict(this.student.state_dict()))
    assert any("head.parametrizations" in name for name in found[0])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-12)


def test_a_generating_student_reads_quantized_weights(tmp_path: Path) -> None:
    student: Any = trained(tmp_path).student
    prompt = torch.tensor([[1, 2, 3]])
    plain: Any = Quantized().export(student)
    expected = plain.generate(prompt, max_new_tokens=5, do_sample=False)
    layer, calls = student.model.model.layers[0].mlp.up_proj, []
    layer.parametrizations.weight[0].register_forward_hook(lambda *given: calls.append(1))
    assert torch.equal(student.generate(prompt, max_new_tokens=5, do_sample=False), expected)
    assert len(calls) == 1  # for all tokens
    student({"input_ids": prompt})
    assert len(calls) == 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_precisions_of_a_run(precision: Any, tmp_path: Path) -> None:
    this = module({"dtype": "float32"})
    trainer = toy.trainer(tmp_path, max_steps=4, precision=precision)
    before = originals(this.student)
    trainer.fit(this, toy.loader(8))
    after = originals(this.student)
    assert before.keys() == after.keys()
    expected = torch.float32 if precision == "bf16-mixed" else torch.bfloat16
    assert {value.dtype for value in after.values()} == {expected}
    assert all(not torch.equal(before[name], after[name].float()) for name in before)
    plain = Quantized().export(this.student)
    weight = plain.get_parameter("model.model.layers.0.mlp.up_proj.weight")
    assert weight.dtype == expected
    assert values_a_bucket(weight.detach(), 24) == 4
