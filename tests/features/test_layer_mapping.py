"""Which layer learns from which, by rule, in networks of any depth."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from kdlight import CausalLM
from kdlight.features import LayerMapping


def stack(depth: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.ReLU()) for _ in range(depth)))


def numbers(ours: int, theirs: int, **options: Any) -> list[tuple[int, int]]:
    pairs = LayerMapping("*.0", **options).pairs(stack(ours), stack(theirs))
    return [(int(a.split(".")[0]), int(b.split(".")[0])) for a, b in pairs.items()]


@pytest.mark.parametrize("ours", range(1, 8))
@pytest.mark.parametrize("theirs", range(1, 14))
def test_uniform_layers_are_in_order_and_end_together(ours: int, theirs: int) -> None:
    pairs = numbers(ours, theirs)
    assert len(pairs) == min(ours, theirs)
    assert pairs[-1] == (ours - 1, theirs - 1)
    for (a, b), (c, d) in zip(pairs, pairs[1:], strict=False):
        assert a < c
        assert b < d
    for i, j in pairs:  # at most one layer away from the same relative depth
        assert abs((i + 1) / ours - (j + 1) / theirs) < 1 / min(ours, theirs)


def test_uniform_layers_of_tinybert() -> None:
    assert numbers(4, 12) == [(0, 2), (1, 5), (2, 8), (3, 11)]
    assert numbers(6, 12, count=3) == [(1, 3), (3, 7), (5, 11)]
    assert numbers(3, 3) == [(0, 0), (1, 1), (2, 2)]
    assert numbers(4, 12, count=1) == [(3, 11)]


def test_last_layers() -> None:
    assert numbers(3, 5, rule="last") == [(0, 2), (1, 3), (2, 4)]
    assert numbers(3, 5, rule="last", count=2) == [(1, 3), (2, 4)]


def test_a_function() -> None:
    assert numbers(3, 5, rule=lambda n, m: [(0, m - 1), (n - 1, 0)]) == [(0, 4), (2, 0)]
    assert numbers(2, 5, rule=lambda n, m: ((i, 1) for i in range(n))) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("chosen", [[(3, 0)], [(0, 5)], [(-1, 0)], [], [(0, 1), (0, 2)]])
def test_a_function_that_returns_no_layers_is_refused(chosen: Any) -> None:
    with pytest.raises(ValueError, match="rule must return one pair or more of layers below"):
        numbers(3, 5, rule=lambda n, m: chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student": "layers"}, r"student must have one '\*'"),
        ({"student": "*.*"}, r"student must have one '\*'"),
        ({"student": "*", "teacher": "b"}, r"teacher must have one '\*'"),
        ({"student": "*", "rule": "first"}, "rule must be 'uniform', 'last' or a function"),
        ({"student": "*", "count": 0}, "count must be at least 1"),
        (
            {"student": "*", "count": 2, "rule": lambda n, m: [(0, 0)]},
            "count must be None",
        ),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerMapping(**options)


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="count is 4, but there are 3 layers .* and 5"):
        numbers(3, 5, count=4)
    with pytest.raises(ValueError, match=r"Sequential has no modules 'layers.\*'"):
        LayerMapping("layers.*").pairs(stack(2), stack(2))
    both = nn.ModuleDict({"encoder": stack(2), "decoder": stack(2)})
    with pytest.raises(ValueError, match=r"'\*.0' fits several lists .* 'decoder.\*.0', 'encoder"):
        LayerMapping("*.0").pairs(both, both)
    assert LayerMapping("decoder.*").pairs(both, both) == {
        "decoder.0": "decoder.0",
        "decoder.1": "decoder.1",
    }


def test_layers_beyond_nine_are_ordered_by_number() -> None:
    assert numbers(12, 12) == [(i, i) for i in range(12)]


def test_real_models_with_and_without_a_wrapper() -> None:
    def llama(depth: int) -> LlamaForCausalLM:
        sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 11}
        return LlamaForCausalLM(
            LlamaConfig(**sizes, num_hidden_layers=depth, num_attention_heads=2)
        )

    student, teacher = llama(2), CausalLM.wrap(llama(4))
    assert LayerMapping("layers.*.mlp:input", "model.layers.*.mlp:input").pairs(
        student, teacher
    ) == {
        "model.layers.0.mlp:input": "model.model.layers.1.mlp:input",
        "model.layers.1.mlp:input": "model.model.layers.3.mlp:input",
    }
