"""Modules of a student that learn by themselves from the inputs and outputs of a teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from kdlight import FrozenTeacher, SingleInput, TeacherEnsemble
from kdlight.callbacks import ExactResume
from kdlight.distributed import FSDP2Strategy
from kdlight.features import LayerMapping
from kdlight.modules.layerwise import LayerwiseDistillationModule
from tests.support import toy
from tests.support.layerwise_fit import PAIRS, fit, fit_on_ranks, module, sgd
from tests.support.resume_fit import NoisyData


def batches(size: int = 8) -> Iterator[dict[str, Tensor]]:
    data = toy.Ragged(24)
    for start in range(0, 24, size):
        yield toy.pad([data[i] for i in range(start, start + size)])


def total(trained: LayerwiseDistillationModule, batch: Any) -> Tensor:
    return trained.learner_losses(batch)["student"][0].total


def gradients(trained: Any, batch: Any) -> dict[str, Tensor]:
    trained.zero_grad()
    total(trained, batch).backward()
    return {n: p.grad.clone() for n, p in trained.student.named_parameters() if p.grad is not None}


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(((first[k] - second[k]).abs().max() / first[k].abs().max()).item() for k in first)


def by_hand() -> dict[str, Tensor]:
    """Train the same in a loop of PyTorch, with an optimizer for each module."""
    trained = module()
    student, teacher = trained.student, trained.teacher.networks()[0]
    assert isinstance(student, toy.ToyLM)
    optimizers = [sgd(student.get_submodule(path).parameters()) for path in PAIRS]
    for batch in batches():
        valid = torch.zeros_like(batch["labels"], dtype=torch.bool)
        valid[:, :-1] = batch["labels"][:, 1:] != -100
        with torch.no_grad():
            hidden = [teacher.embed(batch["input_ids"])]
            outputs = []
            for layer in teacher.layers:
                outputs.append(layer(hidden[-1]))
                hidden.append(torch.tanh(outputs[-1]))
        for path, optimizer, x, y in zip(PAIRS, optimizers, hidden, outputs, strict=False):
            optimizer.zero_grad()
            output = student.get_submodule(path)(x)
            (output[valid] - y[valid]).square().mean(-1).sum().backward()
            for parameter in student.get_submodule(path).parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(1 / valid.sum().item())
            optimizer.step()
    return dict(student.state_dict())


def test_a_fit_is_a_loop_of_pytorch_to_the_bit() -> None:
    trained, expected = fit({})["weights"], by_hand()
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    assert not torch.equal(
        trained["layers.0.weight"], module().student.state_dict()["layers.0.weight"]
    )


def test_only_paired_modules_change() -> None:
    trained, before = fit({"pairs": {"layers.1": "layers.1"}})["weights"], module().student
    changed = {n for n, value in before.state_dict().items() if not torch.equal(trained[n], value)}
    assert changed == {"layers.1.weight", "layers.1.bias"}


def test_a_module_does_not_depend_on_the_others() -> None:
    batch = next(batches())
    one, other, alone = module(), module(), module(pairs={"layers.1": "layers.1"})
    with torch.no_grad():
        for parameter in other.student_modules()["layers.0"].parameters():
            parameter.add_(1.0)
    first, second, third = (gradients(each, batch) for each in (one, other, alone))
    for name in ("layers.1.weight", "layers.1.bias"):
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], third[name])
    assert not torch.equal(first["layers.0.weight"], second["layers.0.weight"])
    assert set(first) == {f"{path}.{name}" for path in PAIRS for name in ("weight", "bias")}


def test_clipping_does_not_make_modules_depend_on_each_other() -> None:
    both, alone = fit({"clip": 0.01}), fit({"clip": 0.01, "pairs": {"layers.1": "layers.1"}})
    assert torch.equal(both["weights"]["layers.1.weight"], alone["weights"]["layers.1.weight"])
    free = fit({})["weights"]["layers.1.weight"]
    assert not torch.allclose(both["weights"]["layers.1.weight"], free)


@pytest.mark.parametrize("loss", ["mse", "cosine"])
def test_micro_batches_change_nothing(loss: str) -> None:
    at_once = fit({"loss": loss})
    accumulated = fit({"loss": loss, "batch_size": 2, "accumulate": 4})
    assert largest_difference(at_once["weights"], accumulated["weights"]) < 1e-12
    for key in ("train/loss", "train/modules/layers.0", "val/modules/layers.1"):
        assert accumulated["logged"][key] == pytest.approx(at_once["logged"][key], rel=1e-6)
    local = fit({"loss": loss, "batch_size": 2, "accumulate": 4, "normalization": "local"})
    assert largest_difference(at_once["weights"], local["weights"]) > 1e-5


@pytest.mark.slow
def test_ranks_equal_one_process(tmp_path: Path) -> None:
    split = {"batch_size": 2, "accumulate": 2, "strategy": "ddp"}
    cases = {"all": split, "one": {**split, "pairs": {"layers.0": "layers.0"}}}
    ranks = fit_on_ranks(cases, tmp_path)
    for name, options in (("all", {}), ("one", {"pairs": cases["one"]["pairs"]})):
        expected = fit(options)
        assert largest_difference(expected["weights"], ranks[0][name]["weights"]) < 1e-12
        assert largest_difference(ranks[0][name]["weights"], ranks[1][name]["weights"]) == 0
        for key in ("val/loss", "val/modules/layers.0", "val/forward_kl", "train/loss"):
            got = ranks[0][name]["logged"][key]
            assert got == pytest.approx(expected["logged"][key], rel=1e-6), key


def test_float16_gradients_do_not_underflow() -> None:
    wide = fit({"dtype": "float32"})["weights"]
    half = fit({"dtype": "float32", "precision": "16-mixed"})["weights"]
    assert largest_difference(wide, half) < 0.02
    brain = fit({"dtype": "float32", "precision": "bf16-mixed"})["weights"]
    assert largest_difference(wide, brain) < 0.1


class SaveAt(Callback):
    """Saves a checkpoint between two micro-batches of a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx == 4:
            trainer.save_checkpoint(self.path)


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def run(*callbacks: Callback, resume: Path | None = None, seed: int = 0) -> Any:
        seed_everything(seed, verbose=False)
        student = toy.ToyLM(seed=1)
        student.layers[0] = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2))  # type: ignore[assignment]
        student.layers[0].load_state_dict({"0.weight": torch.eye(6), "0.bias": torch.zeros(6)})
        trained = LayerwiseDistillationModule(
            student,
            toy.ToyLM(seed=2),
            pairs=PAIRS,
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.05),
            labels="causal",  # tokens are noisy, so that they do not tell
        )
        trainer = toy.trainer(
            tmp_path,
            max_epochs=2,
            accumulate_grad_batches=2,
            callbacks=[ExactResume(), *callbacks],
        )
        trainer.fit(trained, NoisyData(10), ckpt_path=resume and str(resume))
        return dict(trained.state_dict())

    expected = run(SaveAt(tmp_path / "window.ckpt"))
    saved = torch.load(tmp_path / "window.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in saved if "teacher" in name]
    resumed = run(resume=tmp_path / "window.ckpt", seed=1)
    weights = [name for name in expected if name.startswith("student")]
    assert all(torch.equal(resumed[name], expected[name]) for name in weights)


class Live:
    """Counts the bytes that backward passes wait for."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def hooks(self) -> saved_tensors_hooks:
        live = self

        class Saved:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor, self.size = tensor.detach(), tensor.numel() * tensor.element_size()
                live.now += self.size
                live.peak = max(live.peak, live.now)

            def __del__(self) -> None:
                live.now -= self.size

        return saved_tensors_hooks(Saved, lambda saved: saved.tensor)


def stack(depth: int, width: int = 8) -> SingleInput:
    layers = [
        nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)) for _ in range(depth)
    ]
    return SingleInput(nn.Sequential(*layers))


def test_the_memory_of_activations_does_not_grow_with_depth() -> None:
    def peaks(depth: int) -> tuple[int, int]:
        student, teacher, batch = stack(depth), stack(depth), torch.randn(64, 8)
        trained = LayerwiseDistillationModule(student, teacher, pairs=LayerMapping("net.*"))
        layerwise, end_to_end = Live(), Live()
        with layerwise.hooks():
            total(trained, batch).backward()
        assert layerwise.now == 0
        with end_to_end.hooks():
            student(batch).logits().sum().backward()
        return layerwise.peak, end_to_end.peak

    (flat, growing), (same, larger) = peaks(2), peaks(12)
    assert flat == same > 0
    assert larger > 5 * growing


def test_nothing_of_a_call_outlives_it() -> None:
    import weakref

    held: list[weakref.ref[Tensor]] = []

    class Watched(LayerwiseDistillationModule):
        def call_module(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
            assert not [each for each in held if each() is not None]
            output = super().call_module(path, module, args, kwargs)
            held.extend(map(weakref.ref, (*args, output)))
            return output

    student, teacher = stack(4), stack(4)
    trained = Watched(student, teacher, pairs=LayerMapping("net.*"))
    loss = total(trained, torch.randn(4, 8))
    assert len(held) == 8
    assert not [each for each in held if each() is not None]
    loss.backward()


def test_modules_may_change_their_input_in_place() -> None:
    class Residual(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.block(x if self.training else x.clone())

    def grads(teacher_inplace: bool, student_inplace: bool) -> list[Tensor]:
        torch.manual_seed(0)
        teacher = nn.Sequential(Residual(teacher_inplace), Residual(teacher_inplace))
        student = nn.Sequential(Residual(student_inplace), Residual(student_inplace))
        pairs = {f"net.{i}.block": f"net.{i}.block" for i in range(2)}
        trained = LayerwiseDistillationModule(SingleInput(student), SingleInput(teacher), pairs)
        total(trained, torch.randn(4, 6)).backward()
        return [p.grad for p in student.parameters() if p.grad is not None]

    expected = grads(False, False)
    for options in ((True, False), (False, True), (True, True)):
        assert all(map(torch.equal, grads(*options), expected))


def test_gradients_that_are_one_tensor_are_scaled_once_each() -> None:
    class TwoBiases(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            return x.sum(-1, keepdim=True) * 0 + (self.one + self.two).expand(len(x), 3)

    layer, target = TwoBiases(), nn.Linear(4, 3)
    trained = LayerwiseDistillationModule(
        SingleInput(nn.Sequential(layer)), SingleInput(nn.Sequential(target)), {"0": "0"}
    )
    x = torch.randn(5, 4)
    (total(trained, x) * 3).backward()
    for parameter in (layer.one, layer.two):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, -2 * target(x).sum(0))


def test_a_user_may_choose_the_loss_and_the_call() -> None:
    class Halves(LayerwiseDistillationModule):
        def call_module(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
            x = args[0]
            return torch.stack((module(x), module(x / 2)), -2)  # (..., 2, D)

    def both(ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours - theirs[:, None]).abs().sum((-1, -2))

    batch = next(batches())
    student: Any = toy.ToyLM(seed=1)
    teacher: Any = toy.ToyLM(seed=2)
    trained = Halves(student, teacher, {"layers.0": "layers.0"}, loss=both)
    valid = trained.valid_positions(batch)
    assert valid is not None
    x = teacher.embed(batch["input_ids"])[valid]
    target, layer = teacher.layers[0](x), student.layers[0]
    expected = (layer(x) - target).abs().sum() + (layer(x / 2) - target).abs().sum()
    run = trained.learner_losses(batch)["student"][0]
    torch.testing.assert_close(run.total, expected)
    assert int(run.count) == int(valid.sum())

    def wrong(ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours - theirs).square().mean()

    wrong_loss = LayerwiseDistillationModule(student, toy.ToyLM(seed=3), PAIRS, loss=wrong)
    with pytest.raises(ValueError, match="one value for each of the .* rows of 'layers.0'"):
        wrong_loss.learner_losses(batch)


def test_validation_compares_modules_and_the_assembled_student(tmp_path: Path) -> None:
    teacher = toy.ToyLM(seed=2)
    student = deepcopy(teacher)
    trained = LayerwiseDistillationModule(student, teacher, PAIRS, optimizer=sgd)
    data = toy.RaggedModule(8)
    run = toy.trainer(tmp_path)
    same = run.validate(trained, data, verbose=False)[0]
    assert same["val/loss"] == same["val/modules/layers.0"] == same["val/modules/layers.1"] == 0
    assert same["val/forward_kl"] == pytest.approx(0, abs=1e-6)
    assert same["val/top1_agreement"] == 1
    with torch.no_grad():
        trained.student_modules()["layers.0"].get_parameter("bias").add_(1.0)
    changed = run.validate(trained, data, verbose=False)[0]
    assert changed["val/modules/layers.0"] == pytest.approx(1)
    assert changed["val/modules/layers.1"] == 0
    assert changed["val/loss"] == pytest.approx(0.5)
    assert changed["val/forward_kl"] > 0.001
    assert changed["val/perplexity"] != same["val/perplexity"]
    tested = run.test(trained, data, verbose=False)[0]
    assert tested["test/modules/layers.0"] == pytest.approx(1)


def test_a_teacher_in_another_dtype() -> None:
    batch = next(batches())
    student = toy.ToyLM(seed=1)
    frozen = FrozenTeacher(toy.ToyLM(seed=2), dtype="bfloat16")
    trained = LayerwiseDistillationModule(student, frozen, PAIRS)
    got = gradients(trained, batch)
    expected = gradients(LayerwiseDistillationModule(student, toy.ToyLM(seed=2), PAIRS), batch)
    assert {each.dtype for each in got.values()} == {torch.float32}
    assert 0 < largest_difference(expected, got) < 0.05


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_modules_that_run_twice_or_never_are_refused() -> None:
    student, batch = Twice(), torch.zeros(2, 4)
    for path, message in (("layer", "'layer' of SingleInput runs several times"),
                          ("unused", "'unused' of SingleInput did not run")):  # fmt: skip
        teacher = SingleInput(Twice())
        trained = LayerwiseDistillationModule(SingleInput(student), teacher, {path: path})
        with pytest.raises(ValueError, match=message):
            trained.learner_losses(batch)
        assert not any(each._forward_hooks or each._forward_pre_hooks for each in teacher.modules())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"layers.0": "layers.7"}, r"no module of ToyLM is called 'layers.7'; similar .*layers.0"),
        ({"layer.0": "layers.0"}, "similar names: 'layers.0'"),
        ({"layers": "layers", "layers.0": "layers.0"}, "share parameters"),
        ({"dropout": "dropout"}, "no trainable parameters"),
        ({"layers.0:input": "layers.0"}, "got the input 'layers.0:input'"),
        ({"layers.0": "layers.0:input"}, "got the input 'layers.0:input'"),
        ({}, "pairs is empty"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pairs: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerwiseDistillationModule(toy.ToyLM(seed=1), toy.ToyLM(seed=2), pairs)


def test_other_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    student, teacher = toy.ToyLM(seed=1), toy.ToyLM(seed=2)
    with pytest.raises(ValueError, match="loss must be one of"):
        LayerwiseDistillationModule(student, teacher, PAIRS, loss="l2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loss must be one of"):
        LayerwiseDistillationModule(student, teacher, PAIRS, loss=3)  # type: ignore[arg-type]
    both: Any = TeacherEnsemble({"one": teacher, "two": toy.ToyLM(seed=3)})
    with pytest.raises(ValueError, match="teacher must be one live network"):
        LayerwiseDistillationModule(student, both, PAIRS)
    narrow = LayerwiseDistillationModule(toy.ToyLM(5), toy.ToyLM(6), {"head": "layers.0"})
    with pytest.raises((ValueError, RuntimeError), match="shape"):
        narrow.learner_losses(next(batches()))
    run = Trainer(accelerator="cpu", devices=1, strategy=FSDP2Strategy(), logger=False)
    trained = module()
    trained.trainer = run
    with pytest.raises(ValueError, match="FSDP2Strategy cannot"):
        trained.prepare_run()
