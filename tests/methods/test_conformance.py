"""The losses, compared with vectors of published code (tests/conformance/README.md).

Where an implementation has a bug, kdlight does not reproduce it: the bug has a test of its own.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kdlight import losses
from tests.support import reference

ROOT = Path(__file__).parents[1] / "conformance"
Meta = dict[str, Any]


def read(path: Path) -> tuple[Meta, dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        keys = file.keys()
        return json.loads(file.metadata()["meta"]), {key: file.get_tensor(key) for key in keys}


# vectors of other kinds have no formula in their metadata, and have tests of their own
FILES = [path for path in sorted(ROOT.rglob("*.safetensors")) if "formula" in read(path)[0]]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def entropy(logits: Tensor) -> Tensor:
    """The difference of the cross-entropy with a target and the KL to it, (..., V) -> (...)."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


# A rule computes the values of a file from a loss of kdlight, with its factors and entropies.


def taid_ce(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    target = (1 - hyper["t"]) * student.detach() + hyper["t"] * teacher
    return losses.taid(student, teacher, t=hyper["t"]) + entropy(target)


def taid_kdloss(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    distilled = hyper["distil_ratio"] * taid_ce(student, teacher, labels, hyper)
    return distilled + (1 - hyper["distil_ratio"]) * losses.cross_entropy(student, labels)


def ce_fkl(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.forward_kl(student, teacher) + entropy(teacher)


def kl_fkl(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.forward_kl(student, teacher, temperature=hyper.get("temperature", 1.0))


def kl_fkl_t2(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return hyper["temperature"] ** 2 * kl_fkl(student, teacher, labels, hyper)


def rkl(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.reverse_kl(student, teacher, temperature=hyper.get("temperature", 1.0))


def symkl(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    weight = hyper["fkl_weight"]
    return losses.symmetric_kl(student, teacher, forward_weight=weight) + weight * entropy(teacher)


def jsd(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    temperature = hyper.get("temperature", 1.0)
    return losses.jensen_shannon(student, teacher, beta=hyper["beta"], temperature=temperature)


def jsd_liger(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    soft = hyper.get("weight_soft_loss", 1.0) * jsd(student, teacher, labels, hyper)
    return soft + hyper.get("weight_hard_loss", 0.0) * losses.cross_entropy(student, labels)


def tvd(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.total_variation(student, teacher)


def skew_ce(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.skew_forward_kl(student, teacher, skew=hyper["lam"]) + entropy(teacher)


def skew_rkl(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.skew_reverse_kl(student, teacher, skew=hyper["lam"])


def akl_official(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    return losses.adaptive_kl(student, teacher, head_mass=hyper["mu"])


def dkd_alltok(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    temperature = hyper["temperature"]
    weights = {"target_weight": hyper["alpha"], "non_target_weight": hyper["beta"]}
    values = losses.decoupled_kl(student, teacher, labels, temperature=temperature, **weights)
    return temperature**2 * values


def ctkd(student: Tensor, teacher: Tensor, labels: Tensor, hyper: Meta) -> Tensor:
    temperature = ctkd_temperature(hyper, torch.as_tensor(hyper["global_temperature"]).to(student))
    divergence = losses.forward_kl(student, teacher, temperature=temperature)
    return temperature**2 * (divergence + entropy(teacher / temperature))


def ctkd_temperature(hyper: Meta, learned: Tensor) -> Tensor:
    return hyper.get("temp_start", 1) + hyper.get("temp_end", 20) * learned.sigmoid()


RULES: dict[str, Callable[[Tensor, Tensor, Tensor, Meta], Tensor]] = {
    "taid_ce": taid_ce,
    "taid_kdloss": taid_kdloss,
    "ce_fkl": ce_fkl,
    "kl_fkl": kl_fkl,
    "kl_fkl_T2": kl_fkl_t2,
    "rkl": rkl,
    "symkl": symkl,
    "jsd": jsd,
    "jsd_liger": jsd_liger,
    "tvd": tvd,
    "skew_ce": skew_ce,
    "skew_rkl": skew_rkl,
    "akl_official": akl_official,
    "dkd_alltok": dkd_alltok,
    "ctkd": ctkd,
}


def exclusion(meta: Meta, tensors: dict[str, Tensor]) -> str | None:
    """Return why a vector does not test a loss function, and which test reads it."""
    if meta["formula"] == "akl_taid":
        return "faulty head mask: test_the_ported_akl_has_its_head_in_the_wrong_place"
    if meta["formula"] == "taid_update":
        return "holds no logits, only a schedule: the schedules' tests"
    if meta["formula"] == "taid_full":
        return "a whole run: test_taid_along_a_run, and the schedules' tests"
    if tensors["student_logits"].shape != tensors["teacher_logits"].shape:
        return "logits of 0 for missing tokens: test_a_missing_token_gets_no_probability"
    if not tensors["expected_grad"].isfinite().all():
        return "the reference is not finite: test_finite_where_a_reference_is_not"
    return None


LOADED = {path: read(path) for path in FILES}
NOT_RUN = {path: reason for path in FILES if (reason := exclusion(*LOADED[path]))}
RUN = [path for path in FILES if path not in NOT_RUN]


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def divisor(meta: Meta, mask: Tensor, vocabulary: int) -> float:
    """Return the divisor of the implementation for the sum over valid positions."""
    hyper, valid = meta["hparams"], max(int(mask.sum()), 1)
    if hyper.get("num_items_in_batch") is not None:
        return hyper["num_items_in_batch"]
    if hyper.get("no_labels"):
        return mask.shape[0]
    if meta["formula"] == "dkd_alltok":
        return mask.numel()
    return {"sum": 1, "mean": valid * vocabulary}.get(hyper.get("reduction"), valid)


def evaluate(path: Path, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute loss and gradient of a vector, with the conventions in its metadata."""
    meta, tensors = LOADED[path]
    student, teacher = (tensors[f"{side}_logits"].to(dtype) for side in ("student", "teacher"))
    leaf, labels = student.requires_grad_(), tensors["labels"]
    if meta["formula"] == "taid_kdloss":  # the only one with unshifted labels
        student, teacher, labels = leaf[:, :-1], teacher[:, :-1], labels[:, 1:]
    mask = labels != -100
    values = RULES[meta["formula"]](student, teacher, labels, meta["hparams"])
    loss = values[mask].sum() / divisor(meta, mask, student.shape[-1])
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def agree(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Check for an error of at most 1e-6 in float64, 2e-4 in float32, of the largest entry."""
    tolerance, floor = (1e-6, 1e-6) if dtype == torch.float64 else (2e-4, 1e-3)
    scale = max(expected.abs().max().item(), floor)
    error = (actual.double() - expected.double()).abs().max().item()
    assert error <= tolerance * scale, f"off by {error / scale:.1e}"


@each(RUN)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_loss_and_gradient_are_the_references(path: Path, dtype: torch.dtype) -> None:
    suffix, (_, tensors) = "" if dtype == torch.float64 else "_f32", LOADED[path]
    loss, gradient = evaluate(path, dtype)
    assert loss.dtype == gradient.dtype == dtype
    agree(gradient, tensors[f"expected_grad{suffix}"], dtype)
    agree(loss, tensors[f"expected_loss{suffix}"], dtype)


def of(formula: str) -> list[Path]:
    return [path for path in FILES if LOADED[path][0]["formula"] == formula]


@each(of("taid_full"))
def test_taid_along_a_run(path: Path) -> None:
    meta, tensors = LOADED[path]
    positions = [
        meta["hparams"]["t_start"],
        *tensors["expected_t"][:-1].tolist(),
    ]  # t changes after the step
    for step, t in enumerate(positions):
        student = tensors["student_logits"][step].clone().requires_grad_()
        teacher, labels = tensors["teacher_logits"][step], tensors["labels"][step]
        values = taid_ce(student, teacher, labels, {"t": t})
        loss = losses.masked_mean(values, labels != -100)
        agree(loss.detach(), tensors["expected_loss"][step], torch.float64)
        gradient = torch.autograd.grad(loss, student)[0]
        agree(gradient, tensors["expected_grad"][step], torch.float64)


@each(of("ctkd"))
def test_a_learned_temperature_gets_the_gradient_that_its_reference_scales(path: Path) -> None:
    meta, tensors = LOADED[path]
    hyper, mask = meta["hparams"], tensors["labels"] != -100
    learned = torch.tensor(hyper["global_temperature"], dtype=torch.float64, requires_grad=True)
    student, teacher = tensors["student_logits"], tensors["teacher_logits"]
    loss = ctkd(student, teacher, tensors["labels"], {**hyper, "global_temperature": learned})
    gradient = torch.autograd.grad(losses.masked_mean(loss, mask), learned)[0]
    agree(gradient * ctkd_factor(hyper), tensors["expected_grad_global_temperature"], torch.float64)


def ctkd_factor(hyper: Meta) -> float:
    """Return the implementation's factor of the temperature's gradient; negative reverses it."""
    high, low = hyper.get("lambda_max", 1), hyper.get("lambda_min", 0)
    loops = hyper.get("num_loops", 10)
    epoch = min(max(hyper["current_epoch"] + 1, 0), loops)
    return (math.cos(math.pi * epoch / loops) + 1) / 2 * (high - low) + low


def test_the_ported_ctkd_defaults_never_reverse_the_gradient() -> None:
    # kdlight's loss has the plain derivative; the objective reverses its sign.
    port = {"lambda_max": 1, "lambda_min": 0}
    authors = {"lambda_max": 0, "lambda_min": -1}
    for epoch in range(12):
        assert ctkd_factor({"current_epoch": epoch, **port}) >= 0
        assert ctkd_factor({"current_epoch": epoch, **authors}) < 0


@each(of("akl_taid"))
def test_the_ported_akl_has_its_head_in_the_wrong_place(path: Path) -> None:
    meta, tensors = LOADED[path]
    mask, mu = tensors["labels"] != -100, meta["hparams"]["mu"]
    student = tensors["student_logits"][mask].requires_grad_()
    teacher = tensors["teacher_logits"][mask]
    q, p = student.softmax(-1), teacher.softmax(-1)
    # The port sorts in ascending order, takes the end of it, and does not map its mask back to the
    # vocabulary; its shares take a gradient, and its forward term is a cross-entropy.
    head = p.sort(-1).values.cumsum(-1) >= mu
    gap = (p - q).abs()
    share = (gap * head).sum(-1) / gap.sum(-1)
    forward = losses.forward_kl(student, teacher) + entropy(teacher)
    port = (share * forward + (1 - share) * losses.reverse_kl(student, teacher)).mean()
    agree(port.detach(), tensors["expected_loss"], torch.float64)
    gradient = torch.autograd.grad(port, student)[0]
    agree(gradient, tensors["expected_grad"][mask], torch.float64)
    # kdlight uses the authors' rule, which does not depend on the order of the vocabulary.
    own = losses.adaptive_kl(student, teacher, head_mass=mu)
    rows = zip(student.detach(), teacher, strict=True)
    expected = torch.stack([reference.adaptive_kl(*row, head_mass=mu) for row in rows])
    agree(own.detach(), expected, torch.float64)
    assert (own.mean() - tensors["expected_loss"]).abs() > 1e-2 * tensors["expected_loss"]


@each([path for path, reason in NOT_RUN.items() if "missing" in reason])
def test_a_missing_token_gets_no_probability(path: Path) -> None:
    meta, tensors = LOADED[path]
    mask, hyper = tensors["labels"] != -100, meta["hparams"]
    student = tensors["student_logits"][mask].requires_grad_()
    teacher = tensors["teacher_logits"][mask]
    missing = teacher.shape[-1] - student.shape[-1]
    # The implementation gives the student logits of 0 there, which take mass from real tokens.
    filled = torch.nn.functional.pad(student, (0, missing), value=0.0)
    loss = jsd(filled, teacher, tensors["labels"], hyper).mean()
    agree(loss.detach(), tensors["expected_loss"], torch.float64)
    agree(torch.autograd.grad(loss, student)[0], tensors["expected_grad"][mask], torch.float64)
    # kdlight raises an error; -inf marks tokens that the student does not have.
    with pytest.raises(ValueError, match="the vocabularies differ"):
        jsd(student, teacher, tensors["labels"], hyper)
    padded = torch.nn.functional.pad(student, (0, missing), value=-math.inf)
    own = jsd(padded, teacher, tensors["labels"], hyper).mean()
    assert torch.autograd.grad(own, student)[0].isfinite().all()
    assert (own - tensors["expected_loss"]).abs() > 1e-3


@each([path for path in of("dkd_alltok") if (LOADED[path][1]["labels"] == -100).any()])
def test_decoupled_kl_is_averaged_over_valid_positions(path: Path) -> None:
    # The implementation divides by all positions, so its loss decreases with ignored ones.
    meta, tensors = LOADED[path]
    mask = tensors["labels"] != -100
    student, teacher = tensors["student_logits"], tensors["teacher_logits"]
    values = dkd_alltok(student, teacher, tensors["labels"], meta["hparams"])
    shrunk = tensors["expected_loss"] * mask.numel() / mask.sum()
    agree(losses.masked_mean(values, mask), shrunk, torch.float64)
    assert mask.sum() < mask.numel()


@each(of("ce_fkl") + of("taid_ce") + of("symkl") + of("skew_ce"))
def test_what_is_called_kl_is_zero_at_a_match(path: Path) -> None:
    # These implementations omit the entropy of the target, so their loss is the entropy there.
    meta, tensors = LOADED[path]
    teacher = tensors["teacher_logits"][tensors["labels"] != -100]
    values = RULES[meta["formula"]](teacher, teacher, teacher[:, 0].long(), meta["hparams"])
    assert (values > 0.1 * meta["hparams"].get("fkl_weight", 1.0)).all()
    weight = meta["hparams"].get("fkl_weight", 1.0)
    agree(values - weight * entropy(teacher), torch.zeros_like(values), torch.float64)


def test_finite_where_a_reference_is_not() -> None:
    for path in (path for path, reason in NOT_RUN.items() if "not finite" in reason):
        assert evaluate(path, torch.float64)[1].isfinite().all(), name_of(path)
    # The implementation's interpolation is NaN at t = 0 and t = 1 where logits are padded.
    padded = [path for path in of("taid_ce") if LOADED[path][1]["student_logits"].isinf().any()]
    for path in padded:
        _, tensors = LOADED[path]
        student, teacher = tensors["student_logits"].requires_grad_(), tensors["teacher_logits"]
        assert (0.0 * student + 1.0 * teacher).isnan().any()
        for t in (0.0, 1.0):
            values = losses.taid(student, teacher, t=t)
            assert not values.isnan().any()
            assert torch.autograd.grad(values.sum(), student)[0].isfinite().all()
    assert padded


def test_every_vector_is_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILES, f"no vectors in {ROOT}"
    unknown = [name_of(path) for path in RUN if LOADED[path][0]["formula"] not in RULES]
    assert unknown == []
    folders = Counter(path.relative_to(ROOT).parts[0] for path in RUN)
    with capsys.disabled():
        print(f"\nconformance: {len(RUN)} of {len(FILES)} vectors run, in float64 and in float32")
        print("  " + ", ".join(f"{folder} {count}" for folder, count in sorted(folders.items())))
        for path, reason in NOT_RUN.items():
            print(f"  not run: {name_of(path)}: {reason}")
