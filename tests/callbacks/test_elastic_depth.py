"""A student and its sub-networks are trained by turns, and are what pruning makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from kdlight import DistillationModule, LoRACausalLM, SingleInput
from kdlight.callbacks import ElasticDepth, ExactResume
from kdlight.callbacks.elastic.depths import sandwich
from kdlight.data.loaders import ResumableLoader
from kdlight.models import choose_layers, prune_layers
from kdlight.models.pruning.kept_layers import prune_names
from kdlight.objectives import CrossEntropy, ForwardKL, HiddenStates
from tests.support import toy
from tests.support.elastic_fit import (
    DEPTH,
    Logged,
    fit,
    fit_on_ranks,
    largest_difference,
    llama,
    module,
    trainer,
)
from tests.support.runs import saving


def loader(batch_size: int = 2, count: int = 16) -> ResumableLoader:
    return ResumableLoader(toy.Ragged(count), batch_size=batch_size, collate_fn=toy.pad)


def weights(this: Any) -> dict[str, torch.Tensor]:
    return copy.deepcopy(dict(this.student.state_dict()))


def reference_gradient(this: DistillationModule, batches: Any, depths: list[int]) -> dict[str, Any]:
    """The gradient of all units, from pruned copies that share nothing with the student."""
    model: Any = this.student.model
    gradients: dict[str, Any] = {}
    units = 0
    for batch, depth in zip(batches, depths, strict=True):
        kept = choose_layers(depth, depth=DEPTH)
        copied = prune_layers(model, kept)
        logits = copied(input_ids=batch["input_ids"], use_cache=False).logits
        loss = ForwardKL()(this.make_loss_inputs(batch, logits, this.teacher(batch)))
        loss.total.backward()
        units += int(loss.count)
        names = {name: name for name, _ in model.named_parameters()}
        for new, old in zip(dict(copied.named_parameters()), _old(names, kept), strict=True):
            gradient = copied.get_parameter(new).grad
            gradients[old] = gradients.get(old, 0) + gradient
    return {name: gradient / units for name, gradient in gradients.items()}


def _old(names: dict[str, str], kept: list[int]) -> list[str]:
    return list(prune_names(names, "model.layers", kept).values())


@pytest.mark.parametrize("repeated", [False, True], ids=["own batches", "one batch"])
def test_a_step_has_the_gradient_of_its_sub_networks(repeated: bool, tmp_path: Path) -> None:
    """With a loader that repeats each batch, it is the mean over the sub-networks on one batch."""
    this = module()
    start = weights(this)
    data: Any = loader()
    if repeated:
        rows = [
            each for each in BatchSampler(SequentialSampler(range(8)), 2, False) for _ in "1234"
        ]
        data = DataLoader(toy.Ragged(8), batch_sampler=rows, collate_fn=toy.pad)
    batches = list(data)[:4]
    depths = sandwich(2, DEPTH, random=2, seed=0, step=0)
    expected = reference_gradient(module(), batches, depths)
    trainer(tmp_path, ElasticDepth(2), max_steps=1).fit(this, data)
    for name, gradient in expected.items():
        moved = start[f"model.{name}"] - this.student.state_dict()[f"model.{name}"]
        torch.testing.assert_close(moved, 0.1 * gradient, rtol=1e-9, atol=1e-12)


class IsWhole(Callback):
    """Finds all layers in the student, wherever a callback can look."""

    def __init__(self) -> None:
        self.seen = 0

    def _look(self, module: Any) -> None:
        assert len(module.student.model.model.layers) == DEPTH
        assert module.student.model.config.num_hidden_layers == DEPTH
        self.seen += 1

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._look(pl_module)

    def on_before_backward(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._look(pl_module)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._look(pl_module)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._look(pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        assert len(checkpoint["state_dict"]) == len(pl_module.state_dict())
        self._look(pl_module)


def test_the_student_is_whole_between_its_forward_passes(tmp_path: Path) -> None:
    whole, this = IsWhole(), cast(Any, module())
    run = trainer(tmp_path, ElasticDepth(2), whole, saving(tmp_path))
    run.fit(this, loader(), loader(count=4))
    assert whole.seen == 8 + 8 + 2 + 2 + 1
    assert not this.student.model.model._forward_pre_hooks
    assert not this.student.model.model._forward_hooks
    assert not this.objective._forward_hooks


class Faulty(ForwardKL):
    def per_token_loss(self, student: Any, teacher: Any, labels: Any) -> Any:
        raise RuntimeError("out of memory")


def test_an_error_leaves_the_student_whole(tmp_path: Path) -> None:
    this: Any = module(Faulty())
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer(tmp_path, ElasticDepth(2)).fit(this, loader())
    assert len(this.student.model.model.layers) == DEPTH
    assert not this.student.model.model._forward_pre_hooks


def test_depths_and_their_losses_are_logged(tmp_path: Path) -> None:
    """Six batches make two steps: the second one has a random depth, and the largest."""
    logged, this = Logged(), module()
    trainer(tmp_path, ElasticDepth(2, seed=3), logged).fit(this, loader(count=12))
    for step, names in enumerate(logged.steps):
        depths = sandwich(2, DEPTH, random=2, seed=3, step=step)
        if step == 1:
            depths = [depths[0], DEPTH]
        new = {k: v for k, v in names.items() if k not in logged.steps[0] or step == 0}
        assert set(new) <= {"train/depth", *(f"train/depth_{d}/loss" for d in depths)}
        assert names["train/depth"] == sum(depths) / len(depths)
    first = logged.steps[0]
    start, batches = module(), list(loader(count=12))
    depth = sandwich(2, DEPTH, random=2, seed=3, step=0)[0]
    small = prune_layers(start.student.model, depth)  # type: ignore[arg-type]
    logits = small(input_ids=batches[0]["input_ids"], use_cache=False).logits
    inputs = start.make_loss_inputs(batches[0], logits, start.teacher(batches[0]))
    assert first[f"train/depth_{depth}/loss"] == pytest.approx(
        ForwardKL()(inputs).mean().item(), rel=1e-6
    )
    assert len(first) == 5


def test_some_depths_are_validated(tmp_path: Path) -> None:
    this, held_out = module(), list(loader(count=6))
    run = trainer(tmp_path, ElasticDepth(2), limit_train_batches=4)
    run.fit(this, loader(), loader(count=6))
    found = {k: v.item() for k, v in run.callback_metrics.items() if k.startswith("val/depth")}
    assert set(found) == {"val/depth_2/forward_kl", "val/depth_3/forward_kl"}
    for depth in (2, 3):
        small = prune_layers(this.student.model, depth).eval()  # type: ignore[arg-type]
        losses = [
            ForwardKL()(
                this.make_loss_inputs(
                    batch, small(input_ids=batch["input_ids"]).logits, this.teacher(batch)
                )
            )
            for batch in held_out
        ]
        mean: Any = sum(x.total for x in losses) / sum(x.count for x in losses)
        assert found[f"val/depth_{depth}/forward_kl"] == pytest.approx(mean.item(), rel=1e-6)
    assert "val/forward_kl" in run.callback_metrics


def test_a_resumed_run_gives_the_same_bits(tmp_path: Path) -> None:
    """Also from a checkpoint within an epoch, whose depths go on."""

    def run(folder: Path, start: Path | None = None) -> tuple[Any, list[Any]]:
        this, logged = module(), Logged()
        every_step = ModelCheckpoint(
            folder, filename="{step}", every_n_train_steps=1, save_top_k=-1
        )
        callbacks = (ElasticDepth(2), ExactResume(), logged, every_step)
        trainer(folder, *callbacks, max_epochs=2).fit(
            this, loader(count=24), ckpt_path=start, weights_only=False if start else None
        )
        return weights(this), logged.steps

    whole, steps = run(tmp_path)
    assert len(steps) == 6
    resumed, later = run(tmp_path / "again", tmp_path / "step=4.ckpt")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert [each["train/depth"] for each in later] == [each["train/depth"] for each in steps[4:]]


def enable_checkpointing(model: Any) -> None:
    new = getattr(model, "activation_checkpointing_enable", None)  # the name from 5.20 or so on
    (new or model.gradient_checkpointing_enable)()
    assert model.is_gradient_checkpointing


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    results = []
    for checkpointing in (False, True):
        this = module()
        if checkpointing:
            enable_checkpointing(this.student.model)
        trainer(tmp_path, ElasticDepth(2)).fit(this, loader())
        results.append(weights(this))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-12, atol=1e-12)


def test_a_module_with_the_mixin(tmp_path: Path) -> None:
    """Its own training step runs the student in another forward pass, at the same depth."""
    this: Any = toy.Mixed(llama(seed=1)).distill(
        ForwardKL(), llama(seed=2), task_weight=0.3, chunked=False
    )
    logged = Logged()
    trainer(tmp_path, ElasticDepth(2), logged).fit(this, loader())
    assert logged.steps[0]["distillation/depth"] > 2
    assert f"distillation/depth_{DEPTH}/loss" in logged.steps[0]


def test_a_feature_of_the_last_layer_is_compared(tmp_path: Path) -> None:
    objective = HiddenStates({"model.model.layers.4": "model.model.layers.4"})
    this = module(objective)
    logged = Logged()
    trainer(tmp_path, ElasticDepth(2), logged).fit(this, loader())
    assert len(logged.steps) == 2


def inverse_scaling() -> DistillationModule:
    """Return a module whose student scales the attention of a layer by its place."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from kdlight import CausalLM

    config = GPT2Config(
        vocab_size=toy.VOCABULARY, n_embd=8, n_layer=5, n_head=2,
        scale_attn_by_inverse_layer_idx=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    student = CausalLM.wrap(GPT2LMHeadModel(config).double())
    return DistillationModule(student, ForwardKL(), llama(seed=2))


REFUSED: dict[str, tuple[dict[str, Any], Any, dict[str, Any], str]] = {
    "micro-batches": (
        {}, module, {"accumulate_grad_batches": 3},
        "set accumulate_grad_batches=4 of the Trainer, got 3",
    ),
    "all layers": ({"min_layers": 5}, module, {}, "min_layers must be below the 5 layers"),
    "random": (
        {"random": 3}, module, {"accumulate_grad_batches": 5},
        "random=3 depths cannot be drawn from the 2 between min_layers=2 and the 5 layers",
    ),
    "no language model": (
        {}, lambda: DistillationModule(SingleInput(torch.nn.Linear(2, 3)), CrossEntropy()), {},
        "one causal language model of transformers, such as a kdlight.CausalLM, got SingleInput",
    ),
    "adapters": (
        {}, lambda: DistillationModule(LoRACausalLM(), ForwardKL(), llama()), {},
        "the student has adapters",
    ),
    "a place": ({}, inverse_scaling, {}, "cannot be pruned to layers="),
    "a layer in between": (
        {}, lambda: module(HiddenStates({"model.layers.2": "model.layers.2"})), {},
        r"feature 'model.layers.2' of layer 2, but the sub-network of 2 layers has .*\[0, 4\]",
    ),
    "no teacher": (
        {"max_parameters": 1e6}, lambda: DistillationModule(llama(), CrossEntropy()), {},
        "the teacher is None",
    ),
    "validated depths": (
        {"validate_depths": [6]}, module, {}, "validate_depths must be .* 5, got 6",
    ),
    "a budget": ({"max_parameters": 10}, module, {}, "smallest sub-network, of 2 layers, has"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "make", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_run_that_cannot_work_is_refused(
    arguments: dict[str, Any], make: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    callback = ElasticDepth(**{"min_layers": 2, **arguments})
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, callback, **options).fit(make(), loader())


def test_a_scheduled_accumulation_is_refused(tmp_path: Path) -> None:
    scheduler = GradientAccumulationScheduler({0: 4})
    run = trainer(tmp_path, ElasticDepth(2), scheduler, accumulate_grad_batches=1)
    with pytest.raises(ValueError, match="got a GradientAccumulationScheduler"):
        run.fit(module(), loader())


def test_a_search_needs_held_out_data(tmp_path: Path) -> None:
    run = trainer(tmp_path, ElasticDepth(2, max_parameters=1e6))
    with pytest.raises(ValueError, match="give it a val_dataloader, or leave max_parameters out"):
        run.fit(module(), loader())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_layers": 0}, "min_layers must be at least 1, got 0"),
        ({"min_layers": 2, "random": -1}, "random must be at least 0, got -1"),
        ({"min_layers": 2, "max_parameters": 0}, "max_parameters must be above 0"),
    ],
)
def test_numbers_outside_their_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ElasticDepth(**arguments)


class Frozen(DistillationModule):
    """A module whose student is in evaluation mode in training."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.student.eval()


def test_a_student_that_is_not_in_training_mode_is_an_error(tmp_path: Path) -> None:
    this = Frozen(llama(seed=1), ForwardKL(), llama(seed=2))
    with pytest.raises(RuntimeError, match="did not run the student in training mode"):
        trainer(tmp_path, ElasticDepth(2)).fit(this, loader())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("saved")
    budget = {"budget": 1e6, "directory": str(folder / "ddp")}
    cases = {
        "ddp": {"strategy": "ddp", "batch_size": 1, **budget},
        "fsdp2": {"strategy": "fsdp2", "batch_size": 1},
        "short": {"strategy": "ddp", "batch_size": 1, "count": 20},
    }
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ddp", "fsdp2", "short"])
def test_two_ranks_equal_one_process(case: str, ranks: list[Any], tmp_path: Path) -> None:
    count = 20 if case == "short" else 24  # 10 micro-batches end in a step of two
    budget = {"budget": 1e6, "directory": str(tmp_path / "one")} if case == "ddp" else {}
    one = fit({"batch_size": 2, "count": count, "folder": tmp_path, **budget})
    for rank in ranks:
        assert largest_difference(one, rank[case]) < 1e-10
        for step, other in zip(one["steps"], rank[case]["steps"], strict=True):
            assert other == pytest.approx(step, rel=1e-6)
        assert rank[case]["validated"] == pytest.approx(one["validated"], rel=1e-5)
        for each, other in zip(one["ranked"], rank[case]["ranked"], strict=True):
            assert other[:2] == each[:2]
            assert other[2] == pytest.approx(each[2], rel=1e-9)
