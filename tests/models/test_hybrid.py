"""A module is trained inside a frozen network, which never changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from kdlight import DistillationModule, SingleInput
from kdlight.models.cut_modules import cut_modules
from kdlight.models.digits import ConvNet
from kdlight.models.hybrid import Hybrid
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, Weighted

# Lightning's hint to a network that is not to be trained as a whole
pytestmark = pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode")

CUTS = ["3", "8"]  # after the first convolution, and before the head


def meta(channels: int = 4) -> list[nn.Sequential]:
    """A small network with layers that act otherwise in training, in three modules."""
    torch.manual_seed(0)
    network = ConvNet(channels=channels, size=4)
    with torch.no_grad():  # statistics that differ from those of any batch
        for each in network.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_()  # type: ignore[union-attr]
                each.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return cut_modules(network, CUTS)


def deeper(width: int, inner: int = 6) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.MaxPool2d(2),
        nn.Conv2d(width, inner, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(inner, 2 * width, 3, padding=1),
        nn.MaxPool2d(2),
    )


def images(n: int = 8) -> Tensor:
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(2))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first) and len(first) == len(
        second
    )


@pytest.mark.parametrize("index", [0, 1, 2, -1, -3])
def test_with_its_own_module_a_network_has_its_own_logits(index: int) -> None:
    modules = meta()
    whole = nn.Sequential(*modules).eval()
    hybrid = Hybrid(modules, index, modules[index], stitch=False)  # nn.Flatten tells no width
    assert (hybrid.stitch_in, hybrid.stitch_out) == (None, None)
    assert torch.equal(hybrid.eval()(images()), whole(images()))


def test_the_gradient_flows_through_the_frozen_part_to_the_module_and_nowhere_else() -> None:
    modules = meta()
    hybrid, module = Hybrid(modules, 1, modules[1]), modules[1].double()
    hybrid.double().eval()
    x, weights = images().double(), torch.randn(8, 10).double()
    (hybrid(x) * weights).sum().backward()
    got = {name: p.grad for name, p in hybrid.named_parameters()}
    trained = {name for name in got if name.startswith("module.")}
    assert trained
    assert {name for name, grad in got.items() if grad is not None} == trained
    # the gradient of the whole network with respect to the same weights
    whole = nn.Sequential(*copy.deepcopy(modules)).double().eval()
    whole.requires_grad_().zero_grad()
    (whole(x) * weights).sum().backward()
    for (name, ours), theirs in zip(module.named_parameters(), whole[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


@pytest.mark.parametrize(
    "touch",
    [
        lambda outer: outer.train(),
        lambda outer: outer.requires_grad_(),
        lambda outer: outer.net.requires_grad_().train(),
    ],
    ids=["train", "requires_grad_", "both, of itself"],
)
def test_the_meta_network_stays_frozen_and_in_evaluation(touch: Any) -> None:
    outer = SingleInput(Hybrid(meta(), 1, deeper(4)))
    touch(outer)
    outer.train()
    hybrid = outer.net
    assert isinstance(hybrid, Hybrid)
    for part in (hybrid.before, hybrid.after):
        assert not any(each.training for each in part.modules())
        assert not any(p.requires_grad for p in part.parameters())
    assert all(each.training for each in hybrid.module.modules())
    assert all(p.requires_grad for p in hybrid.module.parameters())
    first = hybrid(images())  # twice the same: no dropout, no running statistics
    assert torch.equal(hybrid(images()), first)
    hybrid.requires_grad_(False)
    assert not any(p.requires_grad for p in hybrid.parameters())


def test_the_given_network_is_left_as_it_is() -> None:
    modules = meta()
    hybrid = Hybrid(nn.Sequential(*modules), 1, deeper(4))
    with torch.no_grad():
        for p in hybrid.parameters():
            p.zero_()
    assert all(p.requires_grad and p.any() for m in modules for p in m.parameters() if p.dim() > 1)
    assert all(each.training for each in modules)


def test_stitches_are_made_where_widths_differ_and_are_trained() -> None:
    hybrid = Hybrid(meta(4), 1, deeper(6))
    assert isinstance(hybrid.stitch_in, nn.Conv2d)
    assert isinstance(hybrid.stitch_out, nn.Conv2d)
    assert (hybrid.stitch_in.in_channels, hybrid.stitch_in.out_channels) == (4, 6)
    assert (hybrid.stitch_out.in_channels, hybrid.stitch_out.out_channels) == (12, 8)
    hybrid(images()).sum().backward()
    trained = {n.split(".")[0] for n, p in hybrid.named_parameters() if p.grad is not None}
    assert trained == {"stitch_in", "module", "stitch_out"}


def test_only_the_differing_side_is_stitched_and_none_at_the_ends() -> None:
    plain = [nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    middle = Hybrid(plain, 1, nn.Linear(8, 6))
    assert middle.stitch_in is None
    assert isinstance(middle.stitch_out, nn.Linear)
    first = Hybrid(plain, 0, nn.Linear(4, 6))
    assert first.stitch_in is None
    assert first(torch.zeros(2, 4)).shape == (2, 3)
    last = Hybrid(plain, -1, nn.Linear(6, 3))
    assert last.stitch_out is None
    assert last(torch.zeros(2, 4)).shape == (2, 3)
    with pytest.raises(ValueError, match="output of module has 5 .* 3 channels; .* gives the log"):
        Hybrid(plain, 2, nn.Linear(8, 5))
    with pytest.raises(ValueError, match="input of module has 5 .* 4 channels; .* reads the input"):
        Hybrid(plain, 0, nn.Linear(5, 8))


def test_widths_that_are_not_clear_are_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    plain = [nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    with pytest.raises(ValueError, match=r"input width of Own is not known .* set stitch=False"):
        Hybrid(plain, 1, Own())
    assert Hybrid(plain, 1, Own(), stitch=False)(torch.zeros(2, 4)).shape == (2, 3)
    assert (
        Hybrid(plain, 1, nn.Sequential(nn.Linear(8, 8), Own(), nn.Linear(8, 8))).stitch_in is None
    )
    with pytest.raises(ValueError, match="input of module has 5 channels, .* 8 .* stitch=False"):
        Hybrid(plain, 1, nn.Linear(5, 8), stitch=False)


@pytest.mark.parametrize(
    ("given", "index", "module", "error", "message"),
    [
        (nn.Linear(2, 2), 0, nn.Linear(2, 2), TypeError, "meta must be .* got a Linear"),
        (3, 0, nn.Linear(2, 2), TypeError, r"meta must be .* got \['int'\]"),
        ([nn.Linear(2, 2)], 0, nn.Linear(2, 2), ValueError, "at least 2 modules, got 1"),
        ([nn.Linear(2, 2), nn.ReLU()], 2, nn.Linear(2, 2), ValueError, "index must .* got 2"),
        ([nn.Linear(2, 2), nn.ReLU()], 1.0, nn.Linear(2, 2), TypeError, "index must .* got 1.0"),
        ([nn.Linear(2, 2), nn.ReLU()], 0, "Linear", TypeError, "module must .* got str"),
    ],
)
def test_wrong_arguments(given: Any, index: Any, module: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Hybrid(given, index, module)


def fit(student: nn.Module, teacher: nn.Module | None, **options: Any) -> DistillationModule:
    objective = Weighted({"kd": ForwardKL(temperature=2.0), "ce": CrossEntropy()})
    module = DistillationModule(student, objective, teacher)
    x = images(32)
    data = torch.utils.data.TensorDataset(x, torch.arange(32) % 10)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8))
    return module


def test_a_fit_changes_the_module_alone() -> None:
    modules = meta()
    teacher = Hybrid(modules, 1, deeper(4, inner=12), stitch=False)
    student = Hybrid(modules, 1, deeper(3))  # stitched
    before, taught = state(student), state(teacher)
    fit(SingleInput(student), SingleInput(teacher))
    after = state(student)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name.split(".")[0] for name in changed} == {"module", "stitch_in", "stitch_out"}
    assert same(state(teacher), taught)
    assert all(p.grad is None for p in teacher.parameters())


def test_a_checkpoint_holds_all_that_the_student_computes_with(tmp_path: Any) -> None:
    modules = meta()
    options: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    module = fit(
        SingleInput(Hybrid(modules, 1, deeper(4))),
        SingleInput(Hybrid(modules, 1, deeper(4, 12), stitch=False)),
        **options,
    )
    (path,) = tmp_path.rglob("*.ckpt")
    weights = torch.load(path, weights_only=False)["state_dict"]
    places = {".".join(name.split(".")[:3]) for name in weights}
    assert {"student.net.before", "student.net.module", "student.net.after"} <= places
    other = SingleInput(Hybrid(meta(), 1, deeper(4)))
    other.load_state_dict(
        {n.removeprefix("student."): v for n, v in weights.items() if n.startswith("student.")}
    )
    x = images()
    assert torch.equal(other.eval()(x).logits(), module.student.eval()(x).logits())


def test_equal_modules_have_no_divergence() -> None:
    modules, module = meta(), deeper(4)
    x = images()
    student, teacher = (Hybrid(modules, 1, copy.deepcopy(module)) for _ in range(2))
    loss = ForwardKL(temperature=3.0)
    value = loss(LossInputs(student(x), teacher(x).detach())).mean()
    assert value.item() == 0.0
    value.backward()
    assert max(p.grad.abs().max() for p in student.module.parameters()) < 1e-6  # type: ignore[union-attr]
