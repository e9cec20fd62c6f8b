"""Metrics in a module that is cast to half precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from kdlight import LossInputs, metrics
from kdlight.metrics import DistillationMetrics, TemperatureCurve
from kdlight.metrics.precision import Mean
from tests.support import toy

METRICS: dict[str, Callable[[], Metric]] = {
    name: kind
    for name in metrics.__all__
    if isinstance(kind := getattr(metrics, name), type) and issubclass(kind, Metric)
} | {"Mean": Mean, "TemperatureCurve": lambda: TemperatureCurve([0.7, 1.3])}

CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "to": lambda module: module.to(torch.bfloat16),
    "to device and dtype": lambda module: module.to("cpu", torch.float16),
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "type": lambda module: module.type(torch.float16),
}


def tensors(metric: Metric) -> dict[str, Tensor]:
    return {**metric.metric_state, **dict(metric.named_buffers())}  # type: ignore[dict-item]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", METRICS)
def test_a_cast_of_the_module_rounds_no_state(name: str, cast: str) -> None:
    metric = METRICS[name]()
    before = {key: value.clone() for key, value in tensors(metric).items()}
    CASTS[cast](nn.ModuleList([metric]))
    metric.reset()
    for key, value in tensors(metric).items():
        assert value.dtype == before[key].dtype == torch.float64
        assert torch.equal(value, before[key])


def test_states_that_were_reached_are_kept() -> None:
    metric = Mean()
    metric.update(torch.full((3,), 0.1, dtype=torch.float64))
    expected = metric.compute()
    metric = copy.deepcopy(metric)
    nn.ModuleList([metric]).to(torch.bfloat16)
    assert torch.equal(metric.compute(), expected)
    metric.update(torch.tensor([0.123456789], dtype=torch.float64))
    assert metric.compute().item() == pytest.approx((0.1 * 3 + 0.123456789) / 4, abs=1e-12)


def test_a_conversion_that_is_asked_for_happens() -> None:
    assert Mean().set_dtype(torch.float32).mean_value.dtype == torch.float32  # type: ignore[union-attr]


def test_the_metrics_of_a_cast_module_do_not_depend_on_the_amount_of_data() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 5, generator=generator)
    labels = torch.randint(5, (2000,), generator=generator)
    plain, cast = DistillationMetrics(), DistillationMetrics().to(torch.bfloat16)
    for each in (plain, cast):
        for _ in range(3):
            each.update(LossInputs(logits, logits.flip(0), labels))
    assert {k: v.item() for k, v in cast.compute().items()} == {
        k: v.item() for k, v in plain.compute().items()
    }


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_a_run_in_half_precision_measures_its_logits_exactly(
    tmp_path: Path, precision: str
) -> None:
    """Against metrics in full precision of the same logits."""
    module = toy.module(network="plain")
    expected = DistillationMetrics()
    compute = module.loss_inputs

    def recording(batch: dict[str, Tensor]) -> LossInputs:
        inputs = compute(batch)
        default = torch.get_default_dtype()  # that of the run, half precision
        torch.set_default_dtype(torch.float32)
        expected.update(inputs)
        torch.set_default_dtype(default)
        return inputs

    module.loss_inputs = recording  # type: ignore[method-assign]
    trainer = toy.trainer(tmp_path, precision=precision)
    (values,) = trainer.validate(module, toy.loader(4), verbose=False)
    for name, value in expected.compute().items():
        assert values[f"val/{name}"] == pytest.approx(value.item(), rel=1e-6), name
