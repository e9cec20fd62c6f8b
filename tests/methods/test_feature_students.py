"""Features of every kind of student: adapters, pruned, wrapped, of images, in the mixin."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss

from kdlight import (
    CausalLM,
    DistillationModule,
    FrozenTeacher,
    LoRACausalLM,
    PrunedCausalLM,
    SingleInput,
    TransformersModel,
)
from kdlight.objectives import (
    AttentionTransfer,
    CrossEntropy,
    ForwardKL,
    HiddenStates,
    LinearCKA,
    Objective,
    Weighted,
)
from tests.support import toy
from tests.support.feature_checks import Losses, assert_equal, run, sgd, trained
from tests.support.feature_fit import LAYERS, OBJECTIVES, llama, mixed, module

# ---- language models


def test_a_student_with_adapters(tmp_path: Path) -> None:
    """Paths need not have the prefixes of peft, also of a layer that has adapters itself."""
    teacher = CausalLM.wrap(llama(16, layers=2, seed=2))
    terms: dict[str, Objective] = {
        "layers": HiddenStates(LAYERS),
        "inside": HiddenStates({"layers.0.self_attn.q_proj": "layers.0.self_attn.q_proj"}),
    }
    each = DistillationModule(LoRACausalLM(r=2), Weighted(terms), teacher)
    teacher.model.model.layers[0].self_attn.q_proj.weight.data.mul_(2)  # otherwise both are equal
    losses = Losses()
    before = trained(each)
    run(each, tmp_path, max_epochs=3, callbacks=[losses])
    moved = {name for name, value in trained(each).items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert sum(losses.values[-4:]) < sum(losses.values[:4])


def test_a_pruned_student(tmp_path: Path) -> None:
    """It has the width of its teacher, so that no projector is needed."""
    teacher = CausalLM.wrap(llama(16, layers=4, seed=2, exact=False))
    objective = OBJECTIVES["layers and logits"]()
    each = DistillationModule(PrunedCausalLM([0, 3]), objective, teacher)
    assert not list(objective.parameters())
    losses = Losses()
    run(each, tmp_path, max_epochs=3, callbacks=[losses])
    assert sum(losses.values[-4:]) < sum(losses.values[:4])


@pytest.mark.parametrize("wrap", [TransformersModel.wrap, copy.copy])
def test_wrappers_of_a_language_model_give_the_same(wrap: Any, tmp_path: Path) -> None:
    def each(kind: Any) -> DistillationModule:
        student = kind(llama(seed=1).double())
        teacher = FrozenTeacher(kind(llama(16, layers=4, seed=2).double()))
        torch.manual_seed(3)
        made = DistillationModule(
            student, OBJECTIVES["layers and logits"](), teacher, optimizer=sgd, labels="causal"
        )
        made.objective.double()
        return made

    results = []
    for kind in (CausalLM.wrap, wrap):
        made = each(kind)
        run(made, tmp_path)
        results.append([p.detach() for p in made.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


# ---- images


def convolutional(width: int, *, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU()),
            nn.Flatten(),
            nn.Linear(width * 16, 3),
        ).double()


def images() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(6, 4, 1, 8, 8, generator=generator, dtype=torch.float64)
    return [(each, torch.randint(3, (4,), generator=generator)) for each in pixels]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_convolutional_pair_equals_a_plain_loop(wrapped: bool, tmp_path: Path) -> None:
    objective = Weighted({"kd": ForwardKL(), "maps": HiddenStates({"2": "2"})})

    class First(DistillationModule):
        def student_logits(self, batch: Any) -> Any:
            return self.student(batch[0])

        def teacher_logits(self, batch: Any) -> Any:
            assert self.teacher is not None
            return self.teacher(batch[0])

    student, teacher = convolutional(4, seed=1), convolutional(6, seed=2)
    kind, wrap = (DistillationModule, SingleInput) if wrapped else (First, copy.copy)
    each = kind(wrap(student), objective, wrap(copy.deepcopy(teacher)), optimizer=sgd)
    each.objective.double()
    maps_objective: Any = objective.terms["maps"]
    plain, projector = copy.deepcopy((student, maps_objective.projectors[0]))
    loader = torch.utils.data.DataLoader(images(), batch_size=None)  # type: ignore[arg-type]
    toy.trainer(tmp_path, limit_val_batches=0).fit(each, loader)
    optimizer = sgd([*plain.parameters(), *projector.parameters()])
    for x, _ in images():
        maps, theirs = plain[:3](x), teacher[:3](x).detach()
        logits, target = plain[3:](maps), teacher[3:](theirs).detach()
        pair = (logits.log_softmax(-1), target.log_softmax(-1))
        loss = kl_div(*pair, log_target=True, reduction="batchmean")
        loss = loss + mse_loss(projector(maps.movedim(1, -1)), theirs.movedim(1, -1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ours = [*each.student.parameters(), *objective.parameters()]
    for one, other in zip(ours, [*plain.parameters(), *projector.parameters()], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_relations_between_images(tmp_path: Path) -> None:
    terms: dict[str, Objective] = {
        "ce": CrossEntropy(),
        "attention": AttentionTransfer({"2": "2"}),
        "cka": LinearCKA({"2": "2"}),
    }
    each = DistillationModule(
        SingleInput(convolutional(4, seed=1)),
        Weighted(terms),
        SingleInput(convolutional(6, seed=2)),
        optimizer=sgd,
    )
    losses = Losses()
    loader = torch.utils.data.DataLoader(images(), batch_size=None)  # type: ignore[arg-type]
    toy.trainer(tmp_path, limit_val_batches=0, max_epochs=4, callbacks=[losses]).fit(each, loader)
    assert losses.values[-6:] < losses.values[:6]


# ---- the mixin


def test_one_pass_and_two_passes_of_the_mixin_are_equal(tmp_path: Path) -> None:
    one, two = (mixed(OBJECTIVES["layers and logits"](), passes=passes) for passes in (1, 2))
    for each in (one, two):
        run(each, tmp_path, accumulate_grad_batches=2)
    assert_equal(one, two)


@pytest.mark.parametrize(
    "paths",
    [
        {"student.model.model.layers.1": "model.model.layers.3"},
        {"student.model.model.layers.1": "layers.3"},
        {"layers.1": "layers.3"},
    ],
)
def test_paths_of_the_mixin_may_be_shortened(paths: dict[str, str], tmp_path: Path) -> None:
    plain, short = (mixed(HiddenStates(each)) for each in ({"model.layers.1": "layers.3"}, paths))
    for each in (plain, short):
        run(each, tmp_path)
    assert_equal(plain, short, 0.0)


def test_the_mixin_without_its_own_step_equals_a_module(tmp_path: Path) -> None:
    mixin = mixed(OBJECTIVES["layers and logits"](), task_weight=0.0)
    each = module(OBJECTIVES["layers and logits"]())
    for one in (mixin, each):
        run(one, tmp_path)
    assert_equal(mixin, each)


def test_a_mixin_that_forgets_the_projectors_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = mixed(OBJECTIVES["layers and logits"]())
    monkeypatch.setattr(each, "configure_optimizers", lambda: sgd(each.student.parameters()))
    with pytest.raises(ValueError, match=r"projectors.0.weight.*self.objective.parameters\(\)"):
        run(each, tmp_path)
