"""Strategies with a live teacher: DDP, FSDP2 and tensor parallelism on two processes."""

from __future__ import annotations

import re

import pytest
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from tests.support import toy
from tests.support.split_fit import Options, Result, fit, fit_on_ranks, largest_difference

# With 27 sequences, two ranks have 7 batches each, and 5 to evaluate; with 25 these are 5 and 4.
WHOLE: Options = {"batch_size": 4, "data": {"count": 27}, "evaluate": True}
PARTS: Options = {**WHOLE, "batch_size": 2}
UNEVEN: Options = {"data": {"count": 27, "held_out": 25}}
SHORT: Options = {"data": {"count": 27, "short": 1}}
DDP: Options = {"strategy": "ddp"}
FSDP2: Options = {"strategy": "fsdp2"}
# tensor-parallel ranks get the same batch, which is that of one process
TENSOR: Options = {"strategy": "fsdp2", "tensor_parallel": 2, "batch_size": 4}
RUNS: dict[str, Options] = {
    "ddp": DDP,
    "ddp plain": {**DDP, "network": "plain"},
    "ddp llama": {**DDP, "network": "llama"},
    "ddp uneven": {**DDP, **UNEVEN},
    "fsdp2": FSDP2,
    "fsdp2 plain": {**FSDP2, "network": "plain"},
    "fsdp2 llama": {**FSDP2, "network": "llama"},
    "fsdp2 sharded": {**FSDP2, "shard": True},
    "fsdp2 sharded plain": {**FSDP2, "network": "plain", "shard": True},
    "fsdp2 sharded llama": {**FSDP2, "network": "llama", "shard": True},
    "tensor": TENSOR,
    "tensor clipped": {**TENSOR, "clip": 0.02},
    "tensor sharded llama": {**TENSOR, "network": "llama", "shard": True},
    "tensor head": {**TENSOR, "divide_head": True},
    "tensor head chunked": {**TENSOR, "divide_head": True, "chunked": [7, 3]},
    "tensor head untied": {
        **TENSOR,
        "network": "untied",
        "divide_head": True,
        "chunked": [7, 3],
    },
    "model_parallel": {"strategy": "model_parallel"},
}
INVALID: dict[str, tuple[Options, str]] = {
    "ddp short": (
        {**DDP, **SHORT},
        r"numbers of training batches, \[7, 6\].*trainer.limit_train_batches=6",
    ),
    "fsdp2 short": ({**FSDP2, **SHORT}, r"numbers of training batches, \[7, 6\]"),
    "fsdp2 uneven": (
        {**FSDP2, **UNEVEN},
        r"numbers of evaluation batches, \[5, 4\].*trainer.limit_val_batches=4",
    ),
    "ddp sharded": ({**DDP, "shard": True}, "shard=True.*but the strategy is DDPStrategy"),
    "tensor 3": (
        {**TENSOR, "tensor_parallel": 3},
        "tensor_parallel_size=3 does not divide the 2 ranks of this run",
    ),
    "tensor tied head": (
        {**TENSOR, "network": "llama", "divide_head": True},
        "divide_head=True, but the head 'lm_head' of LlamaForCausalLM is tied",
    ),
    "tensor mixin head": (
        {**TENSOR, "mixin": True, "divide_head": True},
        r"divide_head=True has no effect on .*shard\(network, self.device_mesh, divide_head=True\)",
    ),
    "tensor plain": ({**TENSOR, "network": "plain"}, "SingleInput has no tensor_parallel_plan"),
    "tensor one head": (
        {**TENSOR, "network": "one_head"},
        "tensor_parallel_size=2 does not divide num_attention_heads=1 of LlamaForCausalLM",
    ),
}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    invalid = {name: options for name, (options, _) in INVALID.items()}
    cases = {name: {**PARTS, **options} for name, options in {**RUNS, **invalid}.items()}
    folder = tmp_path_factory.mktemp("ranks")
    path = str(folder / "divided.ckpt")
    cases["tensor head"] = {**cases["tensor head"], "save": path}
    cases["resumed"] = {**cases["tensor head"], "load": path, "epochs": 2, "evaluate": False}
    return fit_on_ranks(cases, folder)


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    """Return the results of one process on the same data."""
    others = {"uneven": UNEVEN, "clipped": {"clip": 0.02}}
    networks = {name: {"network": name} for name in ("toy", "plain", "llama", "untied")}
    with isolate_rng():
        return {name: fit({**WHOLE, **more}) for name, more in {**networks, **others}.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_strategy_equals_one_process_in_training_and_evaluation(
    name: str, on_ranks: list[Result], alone: dict[str, Result]
) -> None:
    last = name.split()[-1]
    expected, (first, second) = alone.get(last, alone["toy"]), (rank[name] for rank in on_ranks)
    tolerance = 1e-6 if last in ("llama", "untied") else 1e-10  # Llama's norms are in float32
    assert largest_difference(expected, first) < tolerance
    assert largest_difference(first, second) == 0
    for stage in ("validated", "tested"):
        assert first[stage] == second[stage]
        assert first[stage] == pytest.approx(expected[stage], rel=1e-5)
    validated = {key: first["logged"][key] for key in first["logged"] if key.startswith("val/")}
    assert validated == first["validated"]  # at the end of the fit, and after it
    assert validated == {f"val/{k.removeprefix('test/')}": v for k, v in first["tested"].items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_teacher_is_not_part_of_the_wrapped_student(name: str, on_ranks: list[Result]) -> None:
    seen = on_ranks[0][name]["seen"]
    assert seen["teacher_in_student"] == []
    assert seen["optimized"] == len(on_ranks[0][name]["parameters"]) - ("llama" in name)
    assert "FSDP" not in seen["teacher_type"] or "sharded" in name
    assert seen["type"] == ("DistributedDataParallel" if "ddp" in name else "DistillationModule")
    assert seen["teacher_dtype"] == "torch.float64"


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_share_of_the_parameters_on_each_rank(name: str, on_ranks: list[Result]) -> None:
    parts = [rank[name]["seen"] for rank in on_ranks]
    student, teacher = (
        sum(seen[f"{network}_part"] for seen in parts) for network in ("student", "teacher")
    )
    if "tensor" in name:  # layers that are not in the plan are not divided
        assert 1 < student < 1.8
        assert 1 < teacher < 1.8 or "sharded" not in name
    else:
        assert student == pytest.approx(2 if "ddp" in name else 1)
        assert teacher == pytest.approx(1 if "sharded" in name else 2)
        assert all(seen["teacher_part"] < 0.7 for seen in parts) or "sharded" not in name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "fsdp2 sharded", "tensor", "model_parallel"])
def test_the_head_is_gathered_while_the_loss_uses_it(name: str, on_ranks: list[Result]) -> None:
    for rank in on_ranks:
        seen = rank[name]["seen"]
        assert seen["head"] == ("Tensor", (toy.VOCABULARY, 6))
        assert seen["head_gradient"] > 0


@pytest.mark.slow
def test_tensor_parallel_ranks_divide_the_tokens_of_a_loss(
    on_ranks: list[Result], alone: dict[str, Result]
) -> None:
    whole = alone["toy"]["seen"]["head_rows"]
    rows = [rank["tensor"]["seen"]["head_rows"] for rank in on_ranks]
    assert rows == [whole // 2, whole - whole // 2]


@pytest.mark.slow
def test_a_divided_head_is_saved_whole_and_resumed(on_ranks: list[Result]) -> None:
    trained, saved = (on_ranks[0]["tensor head"][key] for key in ("parameters", "saved"))
    for name, value in trained.items():
        torch.testing.assert_close(saved[f"student.{name}"], value, rtol=0, atol=0)
    for rank in on_ranks:
        resumed = rank["resumed"]["seen"]["resumed"]
        assert resumed["head.weight"].shape == (toy.VOCABULARY, 6)
        for name, value in resumed.items():
            torch.testing.assert_close(value, trained[name], rtol=0, atol=0)
    assert largest_difference(on_ranks[0]["tensor head"], on_ranks[0]["resumed"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", INVALID)
def test_all_ranks_raise_for_runs_that_cannot_work(name: str, on_ranks: list[Result]) -> None:
    for rank in on_ranks:
        assert re.match(rf"ValueError: .*{INVALID[name][1]}", rank[name].get("error", "ran"))


# ---- tests that need a GPU

NO_GPU = not torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(NO_GPU, reason="FSDP1 refuses to run without a GPU")
def test_fsdp1_equals_one_process() -> None:
    gpu = {**WHOLE, "accelerator": "gpu", "dtype": "float32", "evaluate": False}
    assert largest_difference(fit(gpu), fit({**gpu, "strategy": "fsdp"})) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
@pytest.mark.skipif(NO_GPU, reason="a CPU's mixed precision is tested in test_split.py")
def test_accumulation_changes_nothing_in_mixed_precision(precision: str) -> None:
    gpu = {"accelerator": "gpu", "dtype": "float32", "precision": precision}
    expected = fit({**gpu, "batch_size": 8})
    assert largest_difference(expected, fit({**gpu, "batch_size": 2, "accumulate": 4})) < 5e-3


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="FSDP2 on CPUs is tested above")
def test_fsdp2_equals_one_process() -> None:
    gpu = {**WHOLE, "accelerator": "gpu", "dtype": "float32", "evaluate": False}
    assert largest_difference(fit(gpu), fit({**gpu, "strategy": "fsdp2", "shard": True})) < 1e-6
