"""Features in real fits: the numbers of a plain loop, at any split, dtype and recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss

from kdlight import DistillationModule
from tests.support import toy
from tests.support.feature_checks import Losses, assert_equal, run, sgd, trained
from tests.support.feature_fit import OBJECTIVES, checkpoint, fit, module, one_process
from tests.support.split_fit import Options, largest_difference

# ---- a plain loop


def layers_of(model: Any, ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the outputs of all layers, and the logits."""
    norm, model.model.norm = model.model.norm, nn.Identity()  # transformers returns the last normed
    output = model.model(ids, output_hidden_states=True, use_cache=False)
    model.model.norm = norm
    return list(output.hidden_states[1:]), model.lm_head(norm(output.last_hidden_state))


def by_hand(each: Any, accumulate: int) -> list[float]:
    """Train ``each`` in plain PyTorch, and return the loss of every step."""
    student: Any = each.student.model
    teacher: Any = each.teacher.model.model
    projectors: Any = each.objective.terms["features"].projectors
    optimizer, losses = sgd([*student.parameters(), *projectors.parameters()]), []
    batches = list(toy.loader(8))
    for start in range(0, len(batches), accumulate):
        total, count = torch.zeros((), dtype=torch.float64), 0
        for batch in batches[start : start + accumulate]:
            valid = batch["labels"][:, 1:] != -100
            states, logits = layers_of(student, batch["input_ids"])
            with torch.no_grad():
                targets, target_logits = layers_of(teacher, batch["input_ids"])
            q, p = (x[:, :-1][valid].log_softmax(-1) for x in (logits, target_logits))
            total = total + kl_div(q, p, log_target=True, reduction="sum")
            for projector, ours, theirs in zip(projectors, states, targets[1::2], strict=True):
                pair = projector(ours[:, :-1][valid]), theirs[:, :-1][valid]
                total = total + 0.5 * mse_loss(*pair, reduction="none").mean(-1).sum() / 2
            count += int(valid.sum())
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append(total.item() / count)
    return losses


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fit_equals_a_plain_loop(accumulate: int, tmp_path: Path) -> None:
    ours, plain = (module(OBJECTIVES["layers and logits"]()) for _ in range(2))
    before, losses = trained(plain), Losses()
    run(ours, tmp_path, accumulate_grad_batches=accumulate, callbacks=[losses])
    expected = by_hand(plain, accumulate)
    assert losses.values == pytest.approx(expected, rel=1e-12)
    assert_equal(ours, plain)
    moved = {name for name, value in trained(plain).items() if not torch.equal(value, before[name])}
    assert moved == before.keys()


@pytest.mark.parametrize("name", ["layers", "inside", "relation", "relation and logits", "input"])
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 4, "accumulate": 2}, {"checkpointing": False}],
    ids=["accumulation", "checkpointing"],
)
def test_the_split_and_recomputation_change_nothing(name: str, options: Options) -> None:
    assert largest_difference(one_process(name), fit({"objective": name, **options})) < 1e-12


@pytest.mark.parametrize("name", ["first layer and logits", "layers", "input"])
def test_reentrant_checkpointing_changes_nothing_at_the_ends_of_a_layer(name: str) -> None:
    result = fit({"objective": name, "checkpointing": True})
    assert largest_difference(one_process(name), result) < 1e-12


def test_what_is_not_in_the_loss_has_no_gradient(tmp_path: Path) -> None:
    """So the optimizer does not decay it."""
    each = module(OBJECTIVES["first layer"]())
    run(each, tmp_path, max_steps=1)
    layers = each.student.model.model.layers
    assert all(p.grad is not None for p in layers[0].parameters())
    assert all(p.grad is None for p in layers[1].parameters())


def test_checkpointing_does_recompute() -> None:
    """The tests above do recompute."""
    each = module(OBJECTIVES["layers"]())
    model: Any = each.student.model
    passes: list[int] = []
    forward = model.model.layers[0].self_attn.forward
    model.model.layers[0].self_attn.forward = lambda *a, **k: passes.append(1) or forward(*a, **k)
    checkpoint(model, use_reentrant=False)
    inputs = each.loss_inputs(next(iter(toy.loader(8))))
    each.objective(inputs).mean().backward()
    assert len(passes) == 2


# ---- precision


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("teacher", ["float32", "bfloat16"])
def test_half_precision(precision: Any, teacher: str, tmp_path: Path) -> None:
    def each(dtype: str) -> DistillationModule:
        options = {"dtype": "float32", "teacher": {"dtype": dtype}}
        return module(OBJECTIVES["layers and logits"](), options)

    half, whole = Losses(), Losses()
    run(each(teacher), tmp_path, precision=precision, callbacks=[half])
    run(each("float32"), tmp_path, callbacks=[whole])
    assert half.dtypes == whole.dtypes == {torch.float32}
    assert half.values == pytest.approx(whole.values, rel=1e-2)
    assert half.values != whole.values


def test_an_offloaded_teacher(tmp_path: Path) -> None:
    results = [
        fit({"objective": "layers and logits", "teacher": {"offload": offload}})
        for offload in (False, True)
    ]
    assert largest_difference(*results) == 0
