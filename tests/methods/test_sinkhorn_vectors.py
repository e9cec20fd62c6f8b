"""Transport losses, compared with vectors of published code and POT (tests/conformance/README.md).

Where an implementation has a bug, a test of its own shows what kdlight does instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ot
import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.optimal_transport.plan import log_sinkhorn
from kdlight.losses.optimal_transport.transport import transport_costs
from kdlight.losses.optimal_transport.uld import sorted_distance
from kdlight.objectives import LossInputs, SinkhornKD
from tests.methods.test_conformance import ROOT, read

Meta = dict[str, Any]
LOADED = {path: read(path) for path in sorted((ROOT / "sinkhorn").rglob("*.safetensors"))}


def of(*kinds: str) -> Any:
    paths = [path for path, (meta, _) in LOADED.items() if meta["kind"] in kinds]
    assert paths
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def agree(actual: Tensor, expected: Tensor) -> None:
    error = (actual.double() - expected).norm() / expected.norm().clamp(min=1e-300)
    assert error <= 1e-5, f"off by {error:.1e}"


def compare(value: Tensor, student: Tensor, tensors: dict[str, Tensor]) -> None:
    agree(value.detach(), tensors["expected_loss"])
    agree(torch.autograd.grad(value, student)[0], tensors["expected_grad"])


def logits(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    student = tensors["student_logits"].double().requires_grad_()
    return student, tensors["teacher_logits"].double()


def as_published(meta: Meta) -> dict[str, Any]:
    numbers = {"epsilon": meta["eps"], "iterations": meta["n_iters"]}
    return {**numbers, "temperature": meta["temperature"], "reduction": "sum"}


@of("sinkd", "sinkd_lm_flat", "sinkd_lm_perseq")
@pytest.mark.parametrize("solver", ["torch", "pot"])
def test_sinkhorn(path: Path, solver: str) -> None:
    meta, tensors = LOADED[path]
    student, teacher = logits(tensors)
    mask = tensors["mask"].bool() if "mask" in tensors else None
    geometry = "sequence" if meta["kind"] == "sinkd_lm_perseq" else "batch"
    options = {**as_published(meta), "geometry": geometry, "solver": solver}
    value = losses.sinkhorn(student, teacher, mask=mask, **options)
    compare(meta["scale"] * value, student, tensors)


@of("sinkd_total")
def test_the_whole_objective(path: Path) -> None:
    meta, tensors = LOADED[path]
    student, teacher = logits(tensors)
    tau = meta["kd_temperature"]
    if meta["anneal"]:
        epoch, epochs = meta["anneal"]
        tau += (1 - tau) * epoch / (epochs - 1)
    objective = SinkhornKD.reference(
        cross_entropy=1 - meta["alpha"],
        kd=meta["alpha"],
        sinkhorn=meta["beta"] * meta["scale"],
        kd_temperature=tau,
        **as_published(meta),
    )
    loss = objective(LossInputs(student, teacher, tensors["labels"])).mean()
    soft = (teacher / tau).softmax(-1)  # their KD omits the teacher's entropy
    entropy = torch.special.entr(soft).sum(-1).mean()
    compare(loss + meta["alpha"] * entropy, student, tensors)


@of("sinkd_t0_asis")
def test_sequences_have_the_softmax_over_their_vocabulary(path: Path) -> None:
    # The published class uses the positions instead, and normalises over the batch: mostly NaN.
    meta, tensors = LOADED[path]
    student, teacher = logits(tensors)
    for geometry in ("batch", "sequence", "position"):
        options = {**as_published(meta), "geometry": geometry}
        value = meta["scale"] * losses.sinkhorn(student, teacher, **options)
        assert 0 < value < 2 * meta["scale"] * student[..., 0].numel()
        assert torch.autograd.grad(value, student)[0].isfinite().all()
        assert not (value - tensors["expected_loss"]).abs() < 1e-6  # or NaN


@of("pot")
def test_a_converged_plan(path: Path) -> None:
    meta, tensors = LOADED[path]
    a, b, cost = tensors["a"], tensors["b"], tensors["cost"]
    uniform = a.allclose(a.mean()) and b.allclose(b.mean())
    iterations = 20_000 if meta["eps"] < 0.01 else 2_000
    options = {"epsilon": meta["eps"], "iterations": iterations, "gradient": "detached"}
    value = transport_costs([cost], **options)[0]
    assert value.isfinite()
    if uniform and meta["eps"] >= 0.01:
        agree(value, tensors["expected_cost"])
    elif uniform:  # it converges like 1/k, from above
        assert 0 <= value - tensors["exact_emd_cost"] < 1e-2
    else:  # kdlight's points have equal weights: compare with POT
        of_pot: Any = ot.sinkhorn2(
            [], [], cost, meta["eps"], method="sinkhorn_log", numItermax=100_000
        )
        agree(value, of_pot)


@of("pot_batch")
def test_a_fixed_number_of_iterations(path: Path) -> None:
    meta, tensors = LOADED[path]
    cost = tensors["cost"].requires_grad_()
    points = torch.ones(cost.shape[:2], dtype=torch.bool)
    plan = log_sinkhorn(-cost / meta["eps"], points, points, iterations=meta["n_iters"])
    agree(plan.detach(), tensors["expected_plan"])
    options = {"epsilon": meta["eps"], "iterations": meta["n_iters"]}
    values = transport_costs(list(cost), **options)
    agree(values.detach(), tensors["expected_cost_per_problem"])
    agree(torch.autograd.grad(values.sum(), cost)[0], tensors["expected_grad_cost"])


@of("pot_w1d")
def test_sorted_distances_are_a_transport_of_values(path: Path) -> None:
    _, tensors = LOADED[path]
    q, p = tensors["p_s"], tensors["p_t"]
    agree(sorted_distance(q, p) / q.shape[-1], tensors["expected_w1"])


def answers(labels: Tensor, *, skip_end: bool) -> Tensor:
    """Mask of logits that predict a token of the answer, with or without its last token."""
    valid = (labels != -100).roll(-1, -1)
    valid[:, -1] = False
    last = valid & (valid.cumsum(-1) == valid.sum(-1, keepdim=True))
    return valid & ~last if skip_end else valid


def answer_masks(meta: Meta, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {
        f"{side}_mask": answers(tensors[f"{side}_labels"], skip_end=meta[f"skip_{side}_eos"])
        for side in ("student", "teacher")
    }


@of("uld")
def test_uld(path: Path) -> None:
    meta, tensors = LOADED[path]
    student, teacher = logits(tensors)
    value = losses.uld(
        student,
        teacher,
        **answer_masks(meta, tensors),
        student_temperature=meta["student_temperature"],
        teacher_temperature=meta["teacher_temperature"],
    )
    compare(meta["weight"] * value, student, tensors)


@of("mlot")
def test_multi_level_ot_is_that_of_the_paper_and_not_of_its_code(path: Path) -> None:
    # The code divides logits by their standard deviation, and takes the softmax of probabilities.
    meta, tensors = LOADED[path]
    student, teacher = logits(tensors)
    value = losses.multi_level_ot(student, teacher, **answer_masks(meta, tensors))
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()
    assert (value - tensors["expected_loss"]).abs() > 1e-2


@of("uld_trl")
def test_uld_of_trl_merges_tokens(path: Path) -> None:
    # TRL merges tokens that spell the same bytes; this is done here, to compare the rest.
    meta, tensors = LOADED[path]
    if meta["hybrid"] or meta["strategy"] != "bayesian":
        pytest.skip("a mixture with another divergence, or predictions one token late")
    student, teacher = logits(tensors)
    means = [
        sorted_distance(*merged).mean()
        for merged in (merge(row, student, teacher, tensors, meta) for row in range(len(student)))
    ]
    compare(meta["weight"] * torch.stack(means).mean(), student, tensors)


def merge(
    row: int, student: Tensor, teacher: Tensor, tensors: dict[str, Tensor], meta: Meta
) -> list[Tensor]:
    """Probabilities of both sides, one row for each group of tokens that ends at the same byte."""
    probabilities, ends, ids = [], [], []
    for side, logits in (("student", student), ("teacher", teacher)):
        labels = tensors[f"{side}_labels"][row]
        start = int((labels != -100).nonzero()[0])
        stop = start + int((labels != -100).sum()) - int(meta[f"skip_{side}_eos"])
        probabilities.append(logits[row, start - 1 : stop - 1].softmax(-1))
        ends.append(tensors[f"{side}_byte_offsets"][row, start:stop, 1].tolist())
        ids.append(tensors[f"{side}_input_ids"][row, start:stop])
    common = sorted(set(ends[0]) & set(ends[1]))
    merged = []
    for probs, stops, tokens in zip(probabilities, ends, ids, strict=True):
        rows, first = [], 0
        last = [stops.index(end) for end in common]
        if any(stop[-1] > common[-1] for stop in ends):  # the remaining tokens form one more group
            last.append(len(stops) - 1)
        for final in last:
            earlier = [probs[k, tokens[k]].clamp(min=1e-8) for k in range(first, final)]
            rows.append(probs[final] * torch.stack([probs.new_ones(()), *earlier]).prod())
            first = final + 1
        merged.append(torch.stack(rows))
    return merged
