"""Features and gradients of the classifier, compared with definitions written out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CausalLM, SingleInput
from kdlight.models.digits import ConvNet
from kdlight.ranking.network_reading import MAX_CLASSES, NetworkReading, compare, read_network
from kdlight.ranking.places import find_places
from tests.families.families import FAMILIES
from tests.ranking.test_places import Tied


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def network(channels: int = 3) -> ConvNet:
    torch.manual_seed(channels)
    return ConvNet(channels=channels).double().eval()


def labels() -> Tensor:
    return torch.tensor([3, 1, 4, 1, 5, 9])


def gradient(net: nn.Module, weight: str, logits: Tensor, targets: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
    return torch.autograd.grad(loss, net.get_parameter(weight))[0]


def wrapped(net: nn.Module) -> SingleInput:
    return SingleInput(net)


def test_rows_and_gradient_are_those_of_autograd() -> None:
    net, x = network(), images()
    read = read_network(wrapped(net), (x, labels()))
    torch.testing.assert_close(read.gradient, gradient(net, "10.weight", net(x), labels()))
    maps = nn.Sequential(*list(net)[:8])(x)  # (B, C, 2, 2) before nn.Flatten
    torch.testing.assert_close(read.rows, maps.flatten(1).detach())
    assert read.classes.tolist() == list(range(10))
    assert read.labels.tolist() == labels().tolist()


def test_without_labels_the_classes_of_the_teacher_are_those_of_all() -> None:
    teacher, student, x = network(), network(4), images()
    read = read_network(teacher, x)
    guessed = teacher(x).argmax(-1)
    assert torch.equal(read.labels, guessed)
    torch.testing.assert_close(read.gradient, gradient(teacher, "10.weight", teacher(x), guessed))
    ours = read_network(student, x, teacher=read)
    torch.testing.assert_close(ours.gradient, gradient(student, "10.weight", student(x), guessed))


def test_the_distances_are_those_of_the_paper() -> None:
    pair = (images(), labels())
    teacher = read_network(wrapped(network(5)), pair)
    student = read_network(wrapped(network(2)), pair, teacher=teacher)

    def normalized(features: Tensor) -> Tensor:
        return torch.stack([row / row.norm() for row in features @ features.T])

    gap = normalized(student.gradient) - normalized(teacher.gradient)
    semantic = float((gap**2).sum()) / 10
    gap = normalized(student.rows) - normalized(teacher.rows)
    relation = float((gap**2).sum()) / 6**2
    assert compare(student, teacher) == pytest.approx((semantic, relation), rel=1e-9)
    assert min(semantic, relation) > 1e-3


def test_neither_scale_nor_rotation_of_the_features_matters() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5).double()
    plain = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4)).double()
    turned = copy.deepcopy(plain)
    turn, _ = torch.linalg.qr(torch.randn(6, 6).double())
    with torch.no_grad():  # the same logits from features that are turned and scaled
        for name in ("weight", "bias"):
            turned.get_parameter(f"0.{name}").copy_(3 * turn @ plain.get_parameter(f"0.{name}"))
        turned.get_parameter("1.weight").copy_(plain.get_parameter("1.weight") @ turn.T / 3)
    torch.testing.assert_close(turned(x), plain(x))
    read = read_network(plain, x)
    assert compare(read_network(turned, x, teacher=read), read) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("head", [nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1, bias=False)])
def test_a_classifier_of_pixels(head: nn.Conv2d) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), head).double()
    targets = torch.randint(5, (6, 8, 8))
    targets[0, 0] = -100
    read = read_network(SingleInput(net, class_dim=1), (images(), targets))
    expected = gradient(net, "2.weight", net(images()), targets)
    torch.testing.assert_close(read.gradient, expected.flatten(1))
    assert read.rows.shape == (6, 3 * 64)


def test_a_network_and_its_copy_have_no_distance() -> None:
    net = network()
    read = read_network(net, images())
    assert compare(read_network(copy.deepcopy(net), images(), teacher=read), read) == (0.0, 0.0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert_tokens"])
def test_each_valid_token_is_a_sample(family: str) -> None:
    model: Any = FAMILIES[family].make(0).double().eval()
    batch = FAMILIES[family].batch(0)
    read = read_network(model, batch)
    mask = batch["attention_mask"].bool()
    assert len(read.rows) == int(mask.sum()) < mask.numel()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    # tokens of other rows at the places of padding change nothing
    inputs["input_ids"] = torch.where(mask, inputs["input_ids"], 7)
    other = read_network(model, {**batch, **inputs})
    torch.testing.assert_close(other.rows, read.rows)
    torch.testing.assert_close(other.gradient, read.gradient)


def test_the_gradient_of_a_language_model_is_that_of_its_head() -> None:
    model: Any = FAMILIES["llama"].make(0).double().eval()
    ids = FAMILIES["llama"].batch(0)["input_ids"]
    read = read_network(model, {"input_ids": ids})
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1].flatten(0, 1)
    slopes = model.lm_head(hidden).softmax(-1)
    for row, label in enumerate(ids[:, 1:].flatten()):
        slopes[row, label] -= 1
    torch.testing.assert_close(read.gradient, (slopes.T @ hidden).detach())
    wrapped = read_network(CausalLM.wrap(model), {"input_ids": ids}, teacher=read)
    assert compare(wrapped, read) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert len(read.rows) == ids.numel()


def test_padding_of_sequences_with_one_label_does_not_count() -> None:
    family = FAMILIES["bert_sequences"]
    model: Any = family.make(0).double().eval()
    batch = dict(family.batch(0))
    mask = batch["attention_mask"].bool()
    assert not mask.all()
    place = find_places(model, batch).features
    read = read_network(model, batch)
    rows = read.rows.unflatten(1, (mask.shape[1], -1))  # (B, T, D)
    assert (rows[~mask] == 0).all()
    assert (rows[mask] != 0).any()
    handle = place.module.register_forward_hook(
        lambda module, args, out: out.masked_fill(~mask[..., None], float("inf"))
    )
    garbage = read_network(model, batch)
    handle.remove()
    assert torch.equal(garbage.rows, read.rows)


def test_of_a_vocabulary_the_classes_that_the_teacher_expects_are_compared() -> None:
    torch.manual_seed(0)
    size = MAX_CLASSES + 50
    teacher, student = (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, size)) for _ in range(2))
    x = torch.randn(5, 3)
    read = read_network(teacher, x)
    mean = teacher(x).softmax(-1).mean(0).tolist()
    expected = sorted(range(size), key=lambda n: -mean[n])[:MAX_CLASSES]
    assert read.classes.tolist() == sorted(expected)
    whole = gradient(teacher, "1.weight", teacher(x), read.labels)
    torch.testing.assert_close(read.gradient, whole[read.classes])
    ours = read_network(student, x, teacher=read)
    assert (ours.gradient.shape, ours.size) == ((MAX_CLASSES, 4), size)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_network_changes(training: bool) -> None:
    net = network().train(training)
    net[4].requires_grad_(False)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy(net)
    with torch.no_grad():
        read_network(net, images())
    for ours, theirs in zip(net.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad == theirs.requires_grad
        assert ours.grad is not None
        assert (ours.grad == 1).all()
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before.buffers(), strict=True))
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_layers_that_change_their_input_in_place() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(108, 10))
    plain = copy.deepcopy(net)
    plain[1] = nn.ReLU()
    x = images().float()
    read = read_network(plain, x)
    assert compare(read_network(net, x, teacher=read), read) == (0.0, 0.0)
    assert read_network(net, x, path="0").rows.shape == (6, 108)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_double(dtype: torch.dtype) -> None:
    def distances(dtype: torch.dtype) -> tuple[float, float]:
        pair = (images().to(dtype), labels())
        teacher = read_network(wrapped(network(5).to(dtype)), pair)
        return compare(read_network(wrapped(network(2).to(dtype)), pair, teacher=teacher), teacher)

    assert distances(dtype) == pytest.approx(distances(torch.float64), rel=0.05)


def test_what_cannot_be_compared() -> None:
    net, x = network(), images()
    nan = network()
    with torch.no_grad():
        nan.get_parameter("0.weight").fill_(float("nan"))
    with pytest.raises(ValueError, match="features of ConvNet are infinite or NaN"):
        read_network(nan, x)
    read = read_network(wrapped(net), (x, torch.zeros(6).long()))
    for size in (9, 12):
        with pytest.raises(ValueError, match=f"the same classes, but their logits have {size} and"):
            read_network(ConvNet(classes=size).double(), x, teacher=read)
    with pytest.raises(ValueError, match="label 10 is outside of the 10 classes of SingleInput"):
        read_network(wrapped(net), (x, labels() + 1))
    with pytest.raises(ValueError, match="all of them are -100"):
        read_network(wrapped(net), (x, torch.full((6,), -100)))
    with pytest.raises(
        ValueError, match=r"at the same positions, got shapes \(5, 10\) and \(6, 10"
    ):
        read_network(net, x[:5], teacher=read)


def test_a_network_without_features() -> None:
    """Its units are all 0, as those of a small network with random weights can be."""
    dead, net = network(), network()
    with torch.no_grad():
        dead.get_parameter("5.weight").fill_(0.0)
        dead.get_parameter("5.bias").fill_(-1.0)
    read = read_network(net, images())
    semantic, relation = compare(read_network(dead, images(), teacher=read), read)
    assert semantic == pytest.approx(1.0)  # the squares of the teacher's rows, each of norm 1
    assert relation == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="classifier of ConvNet is zero"):
        read_network(dead, images())


def test_classifiers_that_are_not_linear_layers() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ConvNet().double()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).detach()

    with pytest.raises(ValueError, match="the logits do not depend on Linear"):
        read_network(Cut(), images())
    wide = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Conv2d(2, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.raises(ValueError, match="must be linear, or a convolution of size 1, got Conv2d"):
        read_network(wide.double(), images())


def test_a_classifier_that_is_no_module() -> None:
    net, ids = Tied().double(), torch.arange(6).view(2, 3)
    read = read_network(net, ids)
    hidden = net.norm(net.embedding(ids)).flatten(0, 1)
    slopes = net(ids).flatten(0, 1).softmax(-1) - nn.functional.one_hot(read.labels.flatten(), 9)
    torch.testing.assert_close(read.gradient, (slopes.T @ hidden).detach())


def test_a_pair_is_a_distance_of_two_floats() -> None:
    pair = NetworkReading(torch.eye(3), torch.ones(2, 4), torch.ones(3), torch.arange(2), 2)
    assert compare(pair, pair) == (0.0, 0.0)
