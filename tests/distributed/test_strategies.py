"""Strategies with a live teacher: DDP and FSDP2 on two processes, and two nodes of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, DistributedSampler

from kdlight import FrozenTeacher
from kdlight.modules.fit_checks import check_strategy
from kdlight.modules.guards import check_gradients
from kdlight.objectives import ForwardKL
from tests.distributed.test_split import far
from tests.support import toy
from tests.support.split_fit import Options, Result, fit, fit_on_ranks

# 27 sequences for two ranks are 7 batches each, and 5 of the held out; 25 are 5 and 4 of those.
WHOLE: Options = {"batch_size": 4, "data": {"count": 27}, "evaluate": True}
PARTS: Options = {**WHOLE, "batch_size": 2}
UNEVEN: Options = {"data": {"count": 27, "held_out": 25}}
SHORT: Options = {"data": {"count": 27, "short": 1}}
DDP: Options = {"strategy": "ddp"}
FSDP2: Options = {"strategy": "fsdp2"}
# ranks that divide the layers among them see the same batch, that of one process
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
    "model_parallel": {"strategy": "model_parallel"},
}
REFUSED: dict[str, tuple[Options, str]] = {
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
    "tensor plain": ({**TENSOR, "network": "plain"}, "Plain does not say which layers to divide"),
    "tensor one head": (
        {**TENSOR, "network": "one_head"},
        "tensor_parallel_size=2 does not divide num_attention_heads=1 of LlamaForCausalLM",
    ),
}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    refused = {name: options for name, (options, _) in REFUSED.items()}
    cases = {name: {**PARTS, **options} for name, options in {**RUNS, **refused}.items()}
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    """What one process learns, and measures, from the same data."""
    others = {"uneven": UNEVEN, "clipped": {"clip": 0.02}}
    networks = {name: {"network": name} for name in ("toy", "plain", "llama")}
    with isolate_rng():
        return {name: fit({**WHOLE, **more}) for name, more in {**networks, **others}.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_any_strategy_learns_and_measures_what_one_process_does(
    name: str, on_ranks: list[Result], alone: dict[str, Result]
) -> None:
    last = name.split()[-1]
    whole, (first, second) = alone.get(last, alone["toy"]), (rank[name] for rank in on_ranks)
    tolerance = 1e-6 if last == "llama" else 1e-10
    assert far(whole, first) < tolerance
    assert far(first, second) == 0
    for stage in ("validated", "tested"):
        assert first[stage] == second[stage]
        assert first[stage] == pytest.approx(whole[stage], rel=1e-5)
    validated = {key: first["logged"][key] for key in first["logged"] if key.startswith("val/")}
    assert validated == first["validated"]  # at the end of the fit, and again after it
    assert validated == {f"val/{k.removeprefix('test/')}": v for k, v in first["tested"].items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_teacher_is_nowhere_among_the_students(name: str, on_ranks: list[Result]) -> None:
    seen = on_ranks[0][name]["seen"]
    assert seen["teacher_among_ours"] == []
    assert seen["optimized"] == len(on_ranks[0][name]["parameters"]) - ("llama" in name)
    assert "FSDP" not in seen["teacher_type"] or "sharded" in name
    assert seen["type"] == ("DistributedDataParallel" if "ddp" in name else "DistillationModule")
    assert seen["teacher_dtype"] == "torch.float64"


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_what_is_sharded(name: str, on_ranks: list[Result]) -> None:
    parts = [rank[name]["seen"] for rank in on_ranks]
    student, teacher = (
        sum(seen[f"{who}_part"] for seen in parts) for who in ("student", "teacher")
    )
    if "tensor" in name:  # what is no linear layer of the plan stays whole
        assert 1 < student < 1.8
        assert 1 < teacher < 1.8 or "sharded" not in name
    else:
        assert student == pytest.approx(2 if "ddp" in name else 1)
        assert teacher == pytest.approx(1 if "sharded" in name else 2)
        assert all(seen["teacher_part"] < 0.7 for seen in parts) or "sharded" not in name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "fsdp2 sharded", "tensor", "model_parallel"])
def test_the_head_is_whole_where_the_loss_uses_it(name: str, on_ranks: list[Result]) -> None:
    for rank in on_ranks:
        seen = rank[name]["seen"]
        assert seen["head"] == ("Tensor", (toy.VOCABULARY, 6))
        assert seen["head_gradient"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_all_ranks_refuse_what_would_hang_or_mislead(name: str, on_ranks: list[Result]) -> None:
    for rank in on_ranks:
        assert re.match(rf"ValueError: .*{REFUSED[name][1]}", rank[name].get("error", "ran"))


def deepspeed(stage: int) -> DeepSpeedStrategy:
    """The strategy as its settings make it, without the package that it asks for."""
    strategy = DeepSpeedStrategy.__new__(DeepSpeedStrategy)
    strategy.config = {"zero_optimization": {"stage": stage}}
    return strategy


def test_deepspeed_is_told_apart() -> None:
    local = toy.module(normalization="local")
    check_strategy(local, deepspeed(2))
    with pytest.raises(ValueError, match="normalization='local' with this strategy"):
        check_strategy(toy.module(), deepspeed(2))
    with pytest.raises(ValueError, match=r"ZeRO-3 .* Use ZeRO stage 1 or 2"):
        check_strategy(local, deepspeed(3))
    local.teacher = None
    check_strategy(local, deepspeed(3))


def test_a_teacher_is_not_sharded_by_a_strategy_that_cannot() -> None:
    with pytest.raises(ValueError, match=r"shard=True.*SingleDeviceStrategy.*FSDP2Strategy"):
        check_strategy(toy.module(shard=True), SingleDeviceStrategy())


def test_samples_that_would_count_twice_are_told_of(tmp_path: Path) -> None:
    def validate(samples: int) -> None:
        sampler = DistributedSampler(toy.Ragged(samples), 2, 0, shuffle=False)
        trainer = Trainer(
            default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False
        )
        loader = DataLoader(toy.Ragged(samples), 4, sampler=sampler, collate_fn=toy.pad)
        trainer.validate(toy.module(), loader, verbose=False)

    validate(8)
    with pytest.warns(UserWarning, match="1 of 7 evaluation samples count twice, since 2 ranks"):
        validate(7)


def test_a_student_that_no_gradient_reaches_is_noticed() -> None:
    student = toy.ToyLM()
    with pytest.raises(RuntimeError, match=r"no gradient reached the sharded student \(ToyLM\)"):
        check_gradients(student)
    student.head.bias.grad = torch.zeros(toy.VOCABULARY)
    check_gradients(student)


def test_a_summary_knows_no_teacher() -> None:
    module = toy.module()
    student = sum(p.numel() for p in module.student.parameters())
    assert ModelSummary(module, max_depth=-1).total_parameters == student


def test_a_teacher_keeps_its_dtype_beside_a_student_of_another() -> None:
    module = toy.module(ForwardKL())
    module.teacher = FrozenTeacher(toy.ToyLM(seed=2), dtype="bfloat16")
    module.double()
    assert {p.dtype for p in module.student.parameters()} == {torch.float64}
    assert {p.dtype for p in module.teacher.model.parameters()} == {torch.bfloat16}


# ---- what needs a GPU

NO_GPU = not torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(NO_GPU, reason="FSDP1 refuses to run without a GPU")
def test_fsdp1_learns_what_one_process_does() -> None:
    gpu = {**WHOLE, "accelerator": "gpu", "dtype": "float32", "evaluate": False}
    assert far(fit(gpu), fit({**gpu, "strategy": "fsdp"})) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
@pytest.mark.skipif(NO_GPU, reason="a CPU's mixed precision is tested in test_split.py")
def test_the_split_changes_nothing_in_mixed_precision(precision: str) -> None:
    gpu = {"accelerator": "gpu", "dtype": "float32", "precision": precision}
    whole = fit({**gpu, "batch_size": 8})
    assert far(whole, fit({**gpu, "batch_size": 2, "accumulate": 4})) < 5e-3


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="FSDP2 on CPUs is tested above")
def test_fsdp2_learns_what_one_process_does() -> None:
    gpu = {**WHOLE, "accelerator": "gpu", "dtype": "float32", "evaluate": False}
    assert far(fit(gpu), fit({**gpu, "strategy": "fsdp2", "shard": True})) < 1e-6
