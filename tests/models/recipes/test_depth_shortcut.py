"""A frozen teacher with trainable shortcuts around its layers learns from itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import DistillationModule, LoRACausalLM, PrunedCausalLM, SingleInput
from kdlight.callbacks import ExactResume, ExportStudent
from kdlight.data.loaders import ResumableLoader
from kdlight.models import DepthShortcut
from kdlight.models.shortcut_layers import ShortcutLayer
from kdlight.objectives import HiddenStates, Objective, ReverseKL, Weighted
from tests.models.tiny_models import CONFIGS, tiny, tokens
from tests.support import toy
from tests.support.elastic_fit import DEPTH, fit, fit_on_ranks, largest_difference, llama, trainer
from tests.support.runs import saving


def hidden_and_logits() -> Objective:
    path = f"model.layers.{DEPTH - 1}"
    return Weighted({"kd": ReverseKL(), "hidden": HiddenStates({path: path})}, {"hidden": 0.1})


class Penalized(DistillationModule):
    """Takes more shortcuts the larger the reward is."""

    reward = 0.0

    def extra_loss(self, batch: Any) -> Tensor:
        student: Any = self.student
        return -self.reward * student.mean_weight()


def module(reward: float = 0.0) -> Penalized:
    torch.manual_seed(0)
    this = Penalized(
        DepthShortcut(bottleneck=3, initial_weight=0.2),
        hidden_and_logits(),
        llama(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.02),
    )
    this.reward = reward
    return this


def loader() -> ResumableLoader:
    return ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)


@pytest.mark.parametrize("name", CONFIGS)
def test_without_shortcuts_the_student_is_its_teacher_to_the_bit(name: str) -> None:
    from kdlight import CausalLM

    teacher, batch = CausalLM.wrap(tiny(name)).eval(), {"input_ids": tokens()}
    student = DepthShortcut(initial_weight=0.5).build(teacher).eval()
    expected = teacher(batch).logits()
    assert (student(batch).logits() - expected).abs().max() > 1e-4
    for part in student.modules():
        if isinstance(part, ShortcutLayer):
            nn.init.constant_(part.router.bias, -torch.inf)
    assert torch.equal(student(batch).logits(), expected)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    generated = student.generate(batch["input_ids"], **options)
    assert torch.equal(generated, teacher.generate(batch["input_ids"], **options))
    assert (student.vocab_size, student.context_length) == (31, 64)


def test_with_full_weight_all_layers_are_left_out() -> None:
    teacher, batch = llama().eval(), {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    student = DepthShortcut().build(teacher).eval()
    for part in student.modules():
        if isinstance(part, ShortcutLayer):
            nn.init.constant_(part.router.bias, torch.inf)
    model: Any = teacher.model
    hidden = model.model.norm(model.model.embed_tokens(batch["input_ids"]))
    torch.testing.assert_close(student(batch).logits(), model.lm_head(hidden))


def test_routers_and_adapters_alone_are_trained(tmp_path: Path) -> None:
    this = module()
    before = copy.deepcopy(this.student.state_dict())
    run = trainer(tmp_path, max_epochs=4, accumulate_grad_batches=1)
    run.validate(this, loader(), verbose=False)
    first = run.callback_metrics["val/forward_kl"].item()
    run.fit(this, loader(), loader())
    assert run.callback_metrics["val/forward_kl"].item() < 0.5 * first
    moved = {
        name for name, value in this.student.state_dict().items()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    trained = {name for name, p in this.student.named_parameters() if p.requires_grad}
    assert moved == trained
    assert len(trained) == 6 * DEPTH
    assert all({"router", "down", "up"} & set(name.split(".")) for name in trained)


def test_a_reward_raises_the_share_of_shortcuts(tmp_path: Path) -> None:
    shares = []
    for reward in (0.0, 3.0):
        this: Any = module(reward)
        trainer(tmp_path, max_epochs=3, accumulate_grad_batches=1).fit(this, loader())
        with torch.no_grad():
            this.student(next(iter(loader())))
        shares.append(this.student.mean_weight().item())
    assert shares[1] > 0.25
    assert shares[0] < 0.2


def test_a_resumed_run_gives_the_same_bits(tmp_path: Path) -> None:
    def run(folder: Path, start: Path | None = None) -> Any:
        this, options = module(1.0), {"max_epochs": 2, "accumulate_grad_batches": 1}
        trainer(folder, ExactResume(), saving(folder), **options).fit(
            this, loader(), ckpt_path=start, weights_only=False if start else None
        )
        return this.student.state_dict()

    whole = run(tmp_path)
    resumed = run(tmp_path / "again", tmp_path / "epoch=0.ckpt")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"student.{name}"]) for name, value in whole.items())


def test_it_cannot_be_exported_which_is_said_before_the_fit(tmp_path: Path) -> None:
    run = trainer(tmp_path, ExportStudent())
    with pytest.raises(ValueError, match="DepthShortcut cannot be exported, .* checkpoint"):
        run.fit(module(), loader())
    assert run.global_step == 0


def test_another_recipe_may_be_the_base() -> None:
    teacher = llama()
    student = DepthShortcut(PrunedCausalLM([0, 4], dtype="float64")).build(teacher)
    assert sum(isinstance(part, ShortcutLayer) for part in student.modules()) == 2
    assert all(p.requires_grad for p in teacher.parameters())
    assert not any(isinstance(part, ShortcutLayer) for part in teacher.modules())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"initial_weight": 0.0}, ValueError, "initial_weight must be above 0 .* got 0.0"),
        ({"initial_weight": 1}, ValueError, "initial_weight must be above 0 .* got 1"),
        ({"bottleneck": 0}, ValueError, "bottleneck must be at least 1, got 0"),
        ({"base": "a model"}, TypeError, "base must be a recipe or a network, got"),
    ],
)
def test_arguments_outside_their_range(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DepthShortcut(**options)


def test_what_is_no_language_model_is_refused() -> None:
    with pytest.raises(TypeError, match="got a SingleInput; set base to one"):
        DepthShortcut().build(SingleInput(nn.Linear(2, 3)))
    with pytest.raises(ValueError, match="there is no live teacher"):
        DepthShortcut().build(None)


def test_adapters_in_the_base_stay_frozen() -> None:
    student = DepthShortcut(LoRACausalLM(r=2)).build(llama())
    trained = [name for name, p in student.named_parameters() if p.requires_grad]
    assert len(trained) == 6 * DEPTH
    assert not any("lora" in name for name in trained)


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    case = {"shortcut": True, "batch_size": 1}
    cases = {"ddp": {"strategy": "ddp", **case}, "fsdp2": {"strategy": "fsdp2", **case}}
    (tmp_path / "ranks").mkdir()
    ranks = fit_on_ranks(cases, tmp_path / "ranks")
    one = fit({"shortcut": True, "batch_size": 2, "folder": tmp_path})
    for rank in ranks:
        for name in cases:
            assert largest_difference(one, rank[name]) < 1e-10
