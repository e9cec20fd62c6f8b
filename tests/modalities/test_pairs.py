"""Distillation of networks that read images, texts, both, and sound, by the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import FrozenTeacher
from kdlight.cache import cache_teacher
from kdlight.models.call_network import call_network
from kdlight.objectives import CrossEntropy
from tests.modalities.pairs import COUNT, PAIRS, Pair, loader, module, sgd
from tests.support import toy

each_pair = pytest.mark.parametrize("name", PAIRS)
SIDES = [(name, side) for name in PAIRS for side in ("student", "teacher")]


def network(pair: Pair, side: str) -> Any:
    return (pair.student if side == "student" else pair.teacher)().eval()


def changed(entry: str, value: Tensor) -> Tensor:
    """Return an input that is another one in the first row only."""
    value = value.clone()
    if entry == "attention_mask":
        value[0, -2:] = 1 - value[0, -2:]
    elif entry == "token_type_ids":
        value[0] = 1 - value[0]
    elif entry == "input_ids":
        value[0, -1] = 9
    else:
        value[0] = value[0].flip(-1)
    return value


@pytest.mark.parametrize(("name", "side"), SIDES)
@torch.no_grad()
def test_logits_depend_on_every_input(name: str, side: str) -> None:
    pair = PAIRS[name]
    net, batch = network(pair, side), pair.samples()
    logits = call_network(net, batch).logits()
    assert logits.shape == pair.shape
    for entry in pair.inputs:
        other = call_network(net, {**batch, entry: changed(entry, batch[entry])}).logits()
        difference = (other - logits).abs().flatten(1).amax(-1)
        assert difference[0] > 1e-4, entry
        assert difference[1:].max() < 1e-5, entry


def weights(net: Any) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


@pytest.mark.slow
@each_pair
def test_a_fit_brings_the_student_nearer_to_the_teacher(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]
    teacher, data = pair.teacher(), loader(pair)
    distilled = module(pair, teacher=teacher)
    trainer = toy.trainer(tmp_path, max_epochs=40)  # running statistics follow slowly
    (before,) = trainer.validate(distilled, data, verbose=False)
    start, taught = weights(distilled.student), weights(teacher)
    trainer.fit(distilled, data, data)
    after = trainer.callback_metrics["val/forward_kl"].item()
    assert before["val/forward_kl"] > 1e-3
    assert after < 0.8 * before["val/forward_kl"]
    assert any(not torch.equal(start[k], v) for k, v in distilled.student.state_dict().items())
    for key, value in teacher.state_dict().items():
        assert torch.equal(taught[key], value), key


@pytest.mark.slow
@each_pair
def test_a_cached_teacher_answers_as_the_live_one(name: str, tmp_path: Path) -> None:
    """Rows that differ in one input only have their own answers, in batches of another size."""
    pair = PAIRS[name]
    samples, rows = pair.samples(), []
    for entry in pair.inputs:
        rows.append(
            {k: v[:1] for k, v in samples.items()} | {entry: changed(entry, samples[entry])[:1]}
        )
    batches = [{k: v[i : i + 4] for k, v in samples.items()} for i in (0, 4)] + rows
    live = FrozenTeacher(pair.teacher())
    quiet = toy.trainer(tmp_path)
    ignore = {k: v for k, v in pair.options.items() if k == "ignore_index"}
    cached = cache_teacher(
        live, batches, str(tmp_path / "cache"), k=None, bits=32, trainer=quiet, **ignore
    )
    singles = [{k: v[i : i + 1] for k, v in samples.items()} for i in range(COUNT)]
    for batch in (*batches, *singles, samples):
        one, other = (
            module(pair, teacher=teacher).eval().loss_inputs(batch) for teacher in (live, cached)
        )
        assert one.teacher is not None
        assert other.teacher is not None
        keep = one.mask if one.mask is not None else ...
        expected = one.teacher.logits().log_softmax(-1)[keep]
        got = other.teacher.logits().log_softmax(-1)[keep]
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.slow
@each_pair
def test_a_step_in_parts_is_a_whole_one(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]
    if pair.depends_on_batch:
        pytest.skip("batch normalization sees the rows of a micro-batch")
    whole, parts = (module(pair, optimizer=sgd) for _ in range(2))
    toy.trainer(tmp_path).fit(whole, loader(pair))
    toy.trainer(tmp_path, accumulate_grad_batches=4).fit(parts, loader(pair, 2))
    for key, value in whole.student.state_dict().items():
        torch.testing.assert_close(parts.student.state_dict()[key], value, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_same_text_about_another_image_has_another_answer() -> None:
    pair = PAIRS["vision_language"]
    batch = pair.samples()
    assert torch.equal(batch["input_ids"][0], batch["input_ids"][1])
    for side in ("student", "teacher"):
        first, second = call_network(network(pair, side), batch).logits()[:2]
        assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_classes_of_maps_are_on_axis_1(side: str) -> None:
    pair = PAIRS["segmentation"]
    batch = pair.samples()
    net = network(pair, side)
    own = net.net(batch["pixel_values"]) if side == "student" else net(batch["pixel_values"]).logits
    inputs = module(pair).eval().loss_inputs(batch)
    assert inputs.teacher is not None
    got = inputs.student if side == "student" else inputs.teacher
    torch.testing.assert_close(got.logits(), own.movedim(1, -1))
    assert inputs.mask is not None
    assert int((~inputs.mask).sum()) == 3 * 8


def test_maps_without_an_axis_of_classes_are_refused() -> None:
    from kdlight import SingleInput

    with pytest.raises(ValueError, match="class_dim=1"):
        SingleInput(torch.nn.Conv2d(3, 5, 1))(torch.zeros(2, 3, 4, 4))


@torch.no_grad()
def test_independent_pitches_are_binary_cross_entropies() -> None:
    """The loss of 360 sigmoids is the sum of the KL divergences of 360 binary distributions."""
    pair = PAIRS["pitch"]
    distilled, batch = module(pair).eval(), pair.samples()
    loss = distilled.objective(distilled.loss_inputs(batch))
    assert int(loss.count) == COUNT * 360
    q, p = (
        network(pair, side).network.net(batch["sound"]).double().sigmoid()
        for side in ("student", "teacher")
    )
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert float(loss.total) == pytest.approx(float(kl.sum()), rel=1e-4)
    labelled = module(pair, objective=CrossEntropy()).eval()
    entropy = labelled.objective(labelled.loss_inputs(batch)).mean()
    expected = torch.nn.functional.binary_cross_entropy(q, batch["labels"].double())
    assert float(entropy) == pytest.approx(float(expected), rel=1e-5)
