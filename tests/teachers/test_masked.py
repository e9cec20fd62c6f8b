"""Masked teachers: one network with several masks, armed only while their teacher answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import FrozenTeacher, TeacherEnsemble
from kdlight.sources import as_source
from kdlight.teachers import MaskedTeacher
from tests.support import toy


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))


def trained(teacher: MaskedTeacher) -> MaskedTeacher:
    teacher.finish()
    return teacher


X = torch.linspace(-1, 1, 20).reshape(5, 4)


def logits(teacher: Any) -> Tensor:
    return as_source(teacher(X)).logits()


def test_its_logits_are_those_of_the_masked_network() -> None:
    net = network()
    teacher = trained(MaskedTeacher(net, ["0", "2"]))
    with torch.no_grad():
        hidden = net[0](X)
        hidden = net[1](hidden * teacher.masks[0](hidden))
        hidden = net[2](hidden)
        expected = net[3](hidden * teacher.masks[1](hidden))
    torch.testing.assert_close(logits(teacher), expected)
    assert not logits(teacher).requires_grad


def test_several_share_a_network_which_itself_is_not_masked() -> None:
    frozen = FrozenTeacher(network())
    plain = logits(frozen)
    one, two = (trained(MaskedTeacher(frozen, [path])) for path in ("0", "2"))
    answers = [logits(each) for each in (one, two, one)]
    assert not torch.allclose(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(logits(frozen), plain)
    assert not any(module._forward_hooks for module in frozen.model.modules())
    ensemble = TeacherEnsemble({"plain": frozen, "one": one, "two": two})
    assert ensemble.networks() == [frozen.model]
    assert one.vocab_size is None
    assert torch.equal(as_source(ensemble(X).parts["two"]).logits(), answers[1])


def test_only_the_masks_have_a_gradient() -> None:
    teacher = MaskedTeacher(network(), ["0"])
    assert not any(p.requires_grad for p in teacher.teacher.model.parameters())
    as_source(teacher.compute(X)).logits().square().sum().backward()
    masks = list(teacher.masks.parameters())
    assert all(p.grad is not None and p.grad.any() for p in masks)
    teacher.finish()
    assert not any(p.requires_grad for p in masks)


def test_it_does_not_answer_before_its_masks_are_trained_or_loaded() -> None:
    one, two = MaskedTeacher(network(), ["0"]), MaskedTeacher(network(), ["0"])
    with pytest.raises(ValueError, match=r"masks .* at \['0'\] are not trained: add the callback"):
        logits(one)
    two.load_state_dict(one.state_dict())
    assert two.is_trained
    assert torch.equal(as_source(one.compute(X)).logits().detach(), logits(two))


def test_options_of_the_frozen_teacher_apply() -> None:
    net = network()
    cold, plain = (
        trained(MaskedTeacher(FrozenTeacher(net, temperature=t), ["0"])) for t in (2.0, 1.0)
    )
    cold.load_state_dict(plain.state_dict())
    torch.testing.assert_close(2 * logits(cold), logits(plain))
    half = trained(MaskedTeacher(FrozenTeacher(network(), dtype="bfloat16"), ["0"]))
    assert logits(half).dtype is torch.bfloat16


def test_hooks_are_removed_after_an_error() -> None:
    teacher = trained(MaskedTeacher(network(), ["0"]))
    with pytest.raises(RuntimeError):
        teacher(torch.zeros(2, 3))
    assert not teacher.teacher.model[0]._forward_hooks  # type: ignore[operator]


class Pair(nn.Module):
    """A layer that returns a tuple, or something else."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(4, 8), kind

    def forward(self, x: Tensor) -> Any:
        hidden = self.linear(x)
        return {"out": hidden} if self.kind is dict else (hidden, None)


class Stack(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.pair, self.head, self.unused = Pair(kind), nn.Linear(8, 3), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        output = self.pair(x)
        return self.head(output["out"] if isinstance(output, dict) else output[0])


def test_a_tensor_of_a_tuple_is_masked_and_others_are_refused() -> None:
    net = Stack(tuple)
    teacher = trained(MaskedTeacher(net, ["pair"]))
    with torch.no_grad():
        hidden = net.pair.linear(X)
        expected = net.head(hidden * teacher.masks[0](hidden))
    torch.testing.assert_close(logits(teacher), expected)
    with pytest.raises(ValueError, match="output of 'pair' is a dict, in which no tensor can be"):
        logits(trained(MaskedTeacher(Stack(dict), ["pair"])))


def test_a_module_that_does_not_run_is_named() -> None:
    with pytest.raises(ValueError, match="module 'unused' of the teacher did not run"):
        logits(trained(MaskedTeacher(Stack(tuple), ["pair", "unused"])))


def test_a_language_model_is_masked_token_by_token() -> None:
    ids = torch.randint(1, toy.VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(0))
    teacher = trained(MaskedTeacher(toy.llama(dim=8), ["layers.0"]))
    whole, start = (as_source(teacher({"input_ids": each})).logits() for each in (ids, ids[:, :4]))
    torch.testing.assert_close(whole[:, :4], start)


REFUSED: dict[str, tuple[Any, Any, type, str]] = {
    "path": (
        lambda: toy.ToyLM(),
        ["layers.7"],
        ValueError,
        "no module of ToyLM is called 'layers.7'; similar names: 'layers.1'",
    ),
    "input": (network, ["0:input"], ValueError, "'0:input' is an input; give the path of the mod"),
    "none": (network, [], ValueError, "paths is empty"),
    "string": (network, "0", TypeError, "paths must be a list of paths"),
    "size": (network, ["1"], ValueError, r"channels of '1' cannot be told .* sizes=\{'1'"),
    "small": (network, ["3"], ValueError, "heads must be at most 1 for a feature of 3 channels"),
    "function": (lambda: FrozenTeacher(len), ["0"], TypeError, "network or a FrozenTeacher of one"),  # type: ignore[arg-type]
    "several": (
        lambda: TeacherEnsemble({"a": network()}),
        ["0"],
        TypeError,
        "got TeacherEnsemble",
    ),
    "sharded": (
        lambda: FrozenTeacher(network(), shard=True),
        ["0"],
        ValueError,
        "masks need whole features, .* set shard=False",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_masked_is_refused(name: str) -> None:
    make, paths, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        MaskedTeacher(make(), paths)


def test_sizes_may_be_given() -> None:
    teacher = trained(MaskedTeacher(network(), ["1"], sizes={"1": 8}, heads=2))
    assert logits(teacher).shape == (5, 3)
    with pytest.raises(ValueError, match=r"sizes has \['2'\], but the paths are \['1'\]"):
        MaskedTeacher(network(), ["1"], sizes={"2": 8})


def test_compute_is_answer_with_the_graph_of_what_is_trained() -> None:
    frozen = FrozenTeacher(network(), temperature=2.0)
    scale = nn.Parameter(torch.ones(8))
    with torch.enable_grad():
        handle = frozen.model[0].register_forward_hook(lambda *args: args[2] * scale)  # type: ignore[operator]
        computed = as_source(frozen.compute(X)).logits()
        answered = as_source(frozen.answer(X)).logits()
        handle.remove()
    assert torch.equal(computed, answered)
    assert (computed.requires_grad, answered.requires_grad) == (True, False)
