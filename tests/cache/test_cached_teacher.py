"""A fit on a cached teacher equals the fit on the live one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import CachedTeacher, FrozenTeacher, SelectiveTeacher, TeacherEnsemble
from kdlight.cache import Settings, cache_teacher
from kdlight.cache.cache_pass import write_cache
from kdlight.objectives import ForwardKL, Objective, TopKForwardKL, build_objective
from tests.cache.caches import ALL, written
from tests.support import toy


class Shuffled(toy.RaggedModule):
    """Data in other batches, another order and other padding than those of the cache."""

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(7)
        return DataLoader(
            self.data, self.batch_size, shuffle=True, generator=generator, collate_fn=self.collate
        )


def student_of(folder: Path, teacher: Any, objective: Objective, **options: Any) -> Any:
    """Return the weights of a student after a fit."""
    module = toy.module(objective)
    module.teacher = teacher or module.teacher
    data = Shuffled(options.pop("batch_size", 4))
    toy.trainer(folder, max_epochs=2, **options).fit(module, datamodule=data)
    return module.student.state_dict()


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "taid", "topk_forward_kl"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_with_all_tokens_it_is_the_live_fit(name: str, tail: Any, tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path)), tail=tail)
    cached = student_of(tmp_path, teacher, build_objective(name), accumulate_grad_batches=2)
    live = student_of(tmp_path, None, build_objective(name), accumulate_grad_batches=2)
    same_weights(cached, live, 1e-6)


def test_with_a_few_tokens_first_is_the_live_fit(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path, Settings(k=4, bits=32))))
    objective = TopKForwardKL(k=3)
    same_weights(
        student_of(tmp_path, teacher, objective), student_of(tmp_path, None, objective), 1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_of_the_teacher_is_that_of_the_live_one(
    temperature: float, tmp_path: Path
) -> None:
    cached = CachedTeacher(str(written(tmp_path)), temperature=temperature)
    live = FrozenTeacher(toy.ToyLM(12, seed=2), temperature=temperature)
    fits = [student_of(tmp_path, each, ForwardKL()) for each in (cached, live)]
    same_weights(fits[0], fits[1], 1e-6)
    batch = next(iter(toy.loader(4)))
    plain = FrozenTeacher(toy.ToyLM(12, seed=2))(batch).logits()
    torch.testing.assert_close(live(batch).logits(), plain / temperature)


def test_validation_needs_no_live_teacher_either(tmp_path: Path) -> None:
    module = toy.module()
    module.teacher = CachedTeacher(str(written(tmp_path, Settings(k=6))))
    (values,) = toy.trainer(tmp_path).validate(
        module, datamodule=toy.RaggedModule(4), verbose=False
    )
    assert values["val/forward_kl"] > 0
    assert values["val/teacher_accuracy"] >= 0


def test_a_small_cache_changes_a_fit_little(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path, Settings(k=10, bits=8))))
    cached = student_of(tmp_path, teacher, ForwardKL())
    same_weights(cached, student_of(tmp_path, None, ForwardKL()), 1e-2)


def test_a_missing_row_names_cache_and_tokens(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path)))
    other = next(iter(toy.loader(4, seed=5)))
    with pytest.raises(
        ValueError, match=r"4 of 4 rows .*52 sequences of RaggedModule.*beginning \["
    ):
        teacher(other)


def test_a_position_that_is_not_stored_is_named(tmp_path: Path) -> None:
    def answers(rows: Any) -> dict[str, Tensor]:
        padded = toy.pad(rows)
        padded["labels"][:, :2] = -100
        return padded

    data = toy.RaggedModule(4)
    data.collate = answers
    write_cache(toy.module(), data, toy.trainer(tmp_path), str(tmp_path / "cache"), ALL)
    teacher = CachedTeacher(str(tmp_path / "cache"))
    longest = [max(data.data, key=lambda row: len(row["input_ids"]))]  # type: ignore[call-overload]
    teacher(answers(longest))
    with pytest.raises(ValueError, match="1 positions are valid in this batch, but were not when"):
        teacher(toy.pad(longest))


def test_another_vocabulary_is_refused_before_the_fit(tmp_path: Path) -> None:
    module = toy.module()
    module.teacher = CachedTeacher(str(written(tmp_path)))
    module.student.vocab_size = 13  # type: ignore[assignment]
    with pytest.raises(ValueError, match="vocabularies differ: 11 and 13"):
        toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(4))


@pytest.mark.parametrize("kind", ["cached", "ensemble", "routed", "selective", "empty"])
def test_a_batch_in_which_nothing_counts_has_the_loss_of_a_live_teacher(
    kind: str, tmp_path: Path
) -> None:
    batch = next(iter(toy.loader(4)))
    nothing = {**batch, "labels": torch.full_like(batch["labels"], -100), "whose": ["b"] * 4}
    written_batch = nothing if kind == "empty" else batch
    cached = cache_teacher(
        toy.ToyLM(12, seed=2), [written_batch], str(tmp_path / "c"), trainer=toy.trainer(tmp_path)
    )
    teachers: dict[str, Any] = {
        "ensemble": TeacherEnsemble({"a": cached, "b": cached}),
        "routed": TeacherEnsemble({"a": cached, "b": cached}, route_by="whose"),
        "selective": SelectiveTeacher(cached, ask="entropy"),
    }
    module = toy.module(ForwardKL())
    module.teacher = teachers.get(kind, cached)
    module.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    loss = module.objective(module.loss_inputs(nothing))
    assert (loss.total.item(), int(loss.count)) == (0.0, 0)
    loss.total.backward()
    assert all(p.grad is None or not p.grad.any() for p in module.student.parameters())


def test_another_rule_of_the_labels_is_refused(tmp_path: Path) -> None:
    teacher = TeacherEnsemble({"a": CachedTeacher(str(written(tmp_path)))})
    teacher.check_labels("causal", -100)
    for rule, ignored in (("aligned", -100), ("causal", 0)):
        with pytest.raises(ValueError, match="written with labels='causal' and ignore_index=-100"):
            teacher.check_labels(rule, ignored)
