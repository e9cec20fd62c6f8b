"""Attention relations: a slow reference, queries and keys, paths of projections, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.features import LayerMapping
from kdlight.objectives import AttentionRelation
from kdlight.reduce import Loss
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn

PADDING = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
ANSWERS = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()


def evaluate(student: Any, teacher: Any, *, heads: int = 3, **fields: Any) -> Loss:
    options = {key: fields.pop(key) for key in ("kind", "causal") if key in fields}
    objective = AttentionRelation(PAIRS, parts=("q",), heads=heads, **options)
    return objective(feature_inputs(student, teacher, **fields))


def reference(student: Any, teacher: Any, **options: Any) -> Any:
    values = REFERENCE["attention_relation"](
        student.numpy(), teacher.numpy(), heads=3, mask=PADDING.numpy(), **options
    )
    return torch.from_numpy(values)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_it_is_the_mean_over_tokens_of_each_sample(kind: str, causal: bool) -> None:
    """Widths differ; a sample counts with its number of valid positions."""
    student, teacher = randn(3, 4, 6), randn(3, 4, 9, seed=1)
    counts = torch.tensor([2, 0, 1])
    mask = torch.arange(5) < counts[:, None]
    loss = evaluate(
        student,
        teacher,
        kind=kind,
        causal=causal,
        logits=torch.zeros(3, 5, 7),
        mask=mask,
        padding=PADDING,
    )
    means = reference(student, teacher, kind=kind, causal=causal).sum(-1) / PADDING.sum(-1)
    torch.testing.assert_close(loss.total, (means * counts).sum(), rtol=1e-12, atol=0)
    assert loss.count == 3


@pytest.mark.parametrize("causal", [False, True])
def test_queries_are_the_valid_positions_and_keys_all_tokens(causal: bool) -> None:
    """The question of a conversation is attended to, although only the answer is learned."""
    student, teacher = randn(3, 4, 6).requires_grad_(), randn(3, 4, 9, seed=1)
    loss = evaluate(
        student, teacher, causal=causal, logits=torch.zeros(3, 4, 7), mask=ANSWERS, padding=PADDING
    )
    expected = reference(student.detach(), teacher, causal=causal)[ANSWERS].sum()
    torch.testing.assert_close(loss.total.detach(), expected, rtol=1e-12, atol=0)
    assert loss.count == ANSWERS.sum()
    (grad,) = torch.autograd.grad(loss.total, student)
    assert grad[0, 0].abs().max() > 1e-6  # a key
    assert not grad[1].any()  # no answer
    assert not grad[~PADDING].any()


def test_the_model_heads_do_not_matter() -> None:
    """Queries of more heads than keys, as in grouped attention: each part has its own width."""
    queries, keys = randn(2, 3, 8).requires_grad_(), randn(2, 3, 4, seed=1).requires_grad_()
    inputs = feature_inputs(queries, randn(2, 3, 16, seed=2))
    student = {"layer.q": queries, "layer.k": keys}
    teacher = {
        "teacher_layer.q": randn(2, 3, 16, seed=2),
        "teacher_layer.k": randn(2, 3, 2, seed=3),
    }
    object.__setattr__(inputs, "student_features", student)
    object.__setattr__(inputs, "teacher_features", teacher)
    both = AttentionRelation(PAIRS, parts=("q", "k"), heads=2)(inputs).total
    each = [AttentionRelation(PAIRS, parts=(part,), heads=2)(inputs).total for part in "qk"]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2, rtol=1e-12, atol=0)


def test_paths_are_those_of_projections() -> None:
    objective = AttentionRelation({"a.attn": "b.attn"})
    assert objective.paths == {f"a.attn.{p}": f"b.attn.{p}" for p in ("q_proj", "k_proj", "v_proj")}
    objective = AttentionRelation({"a": "b"}, parts=("query",), teacher_parts=("q_lin",))
    assert objective.paths == {"a.query": "b.q_lin"}


def layers(count: int, part: str) -> nn.Module:
    return nn.ModuleDict(
        {"layers": nn.ModuleList(nn.ModuleDict({part: nn.Linear(4, 4)}) for _ in range(count))}
    )


def test_a_mapping_of_layers_is_expanded_once() -> None:
    objective = AttentionRelation(
        LayerMapping("layers.*", rule="last", count=1), parts=("q",), teacher_parts=("query",)
    )
    student, teacher = layers(2, "q"), layers(5, "query")
    for _ in range(2):
        objective.bind(student, teacher)
        assert objective.paths == {"layers.1.q": "layers.4.query"}
    with pytest.raises(ValueError, match=r"no module of ModuleDict is called 'layers.4.query'"):
        objective.bind(student, layers(5, "q"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ()}, "parts and teacher_parts must name equally many projections, at least one"),
        ({"teacher_parts": ("q",)}, r"equally many projections, at least one, got \('q_proj'"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"kind": "cosine"}, "kind must be one of 'kl', 'mse', got 'cosine'"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionRelation(PAIRS, **options)


@pytest.mark.parametrize("name", ["parts", "teacher_parts"])
def test_a_string_is_no_sequence_of_names(name: str) -> None:
    options: Any = {name: "q_proj"}
    with pytest.raises(TypeError, match=f"{name} must be a sequence of names, got 'q_proj'"):
        AttentionRelation(PAIRS, **options)


def test_features_are_sequences_of_the_same_tokens() -> None:
    for shapes in (((2, 6), (2, 6)), ((2, 3, 6), (2, 4, 6)), ((2, 3, 2, 3), (2, 3, 6))):
        with pytest.raises(ValueError, match=r"'layer.q' must be \(B, T, D\) with the same tokens"):
            evaluate(randn(*shapes[0]), randn(*shapes[1]))
    with pytest.raises(ValueError, match="heads must divide both widths, 6 .* and 8"):
        evaluate(randn(2, 3, 6), randn(2, 3, 8))
