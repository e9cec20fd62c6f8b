"""The temperature at which logits fit the labels of the validation data best."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kdlight.callbacks.inference.batches import validation_batches
from kdlight.callbacks.inference.context import inference_context
from kdlight.checks import check_choice, check_integer
from kdlight.losses.topk import log_rest
from kdlight.metrics import TemperatureCurve
from kdlight.metrics.distillation import ROWS
from kdlight.modules.base import DistillationBase
from kdlight.sources import LogitsSource, TopK
from kdlight.sources.tempered import depends_on_student

LOW, HIGH, POINTS = 0.05, 20.0, 33

Criterion = Literal["nll", "ece"]
Logits = Callable[[Any], LogitsSource]
Curves = dict[str, list[float]]


def check_search(criterion: str, bins: int) -> None:
    """Raise an error for a criterion or a number of bins that `find_temperature` cannot use.

    Raises:
        ValueError: A criterion of another name, bins below 1.

    Example:
        >>> check_search("brier", 15)
        Traceback (most recent call last):
        ValueError: criterion must be one of 'nll', 'ece', got 'brier'
    """
    check_choice("criterion", criterion, ("nll", "ece"))
    check_integer("bins", bins, 1)


def find_temperature(
    callback: str,
    trainer: Trainer,
    module: DistillationBase,
    logits: Logits,
    *,
    criterion: Criterion,
    bins: int,
) -> dict[str, Any]:
    """Find the best temperature on the validation data of all ranks, in two passes over them.

    The first pass takes 33 temperatures from 0.05 to 20, the second 33 around the best of them. No
    logits are stored. Training mode, random numbers and checks of the next batch are as before.

    Args:
        callback: name of the callback that needs it, for errors.
        trainer: the trainer, whose validation data are loaded.
        module: the module, which reads the labels of a batch.
        logits: from a batch to a logits source.
        criterion: ``"nll"`` or ``"ece"``.
        bins: number of bins of the expected calibration error.

    Returns:
        ``temperature``, and ``nll`` and ``ece`` with their values ``before``, at temperature 1, and
        ``after``.

    Raises:
        ValueError: No validation data, none with labels, or labels that are no classes.
    """

    def measured(temperatures: list[float]) -> Curves:
        return _measure(callback, trainer, module, logits, temperatures, bins)

    with module.outside_of_steps():
        coarse = _log_grid(LOW, HIGH)
        best = _best(coarse, measured(coarse)[criterion])
        ratio = coarse[1] / coarse[0]
        fine = _log_grid(coarse[best] / ratio, coarse[best] * ratio)
        # and at 1, which is the network without scaling
        curves = measured([*fine, 1.0])
    index = _best(fine, curves[criterion][:-1])
    values = {name: {"before": v[-1], "after": v[index]} for name, v in curves.items()}
    return {"temperature": fine[index], **values}


def outcomes(source: LogitsSource, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits of what a source knows, and the labels among it, ``(n, K), (n,)``.

    That is the whole vocabulary, or for a `kdlight.TopK` its k tokens and one outcome for all
    others. A tail that is spread evenly over a large vocabulary would outweigh the k tokens at a
    temperature above 1.

    Raises:
        ValueError: A source that knows a part of the vocabulary or of the rows, in another way.

    Example:
        >>> source = TopK.of(torch.tensor([[3.0, 1.0, 1.0, 0.0]]), 1)
        >>> logits, labels = outcomes(source, torch.tensor([2]))
        >>> logits.softmax(-1), labels
        (tensor([[0.7573, 0.2427]]), tensor([1]))
    """
    if not isinstance(source, TopK):
        if depends_on_student(source):
            raise ValueError(
                f"a temperature cannot be found for logits of type {type(source).__name__} that"
                " know a part of the vocabulary or of the rows only; find it for the live teacher,"
                " or for a kdlight.CachedTeacher by itself"
            )
        return source.logits(), labels
    rest = log_rest(source.log_probs) if source.log_tail is None else source.log_tail
    log_p = torch.cat([source.log_probs, rest.unsqueeze(-1)], -1) / source.temperature
    is_kept = (source.ids == labels.unsqueeze(-1)) & (source.log_probs > -torch.inf)
    place = is_kept.int().argmax(-1)
    return log_p, torch.where(is_kept.any(-1), place, log_p.shape[-1] - 1)


def _measure(
    callback: str,
    trainer: Trainer,
    module: DistillationBase,
    logits: Logits,
    temperatures: list[float],
    bins: int,
) -> Curves:
    """Return ``nll`` and ``ece`` at each temperature, over all ranks."""
    metric = TemperatureCurve(temperatures, bins).to(module.device)
    with inference_context(trainer, module):
        for batch in validation_batches(trainer, module):
            source = logits(batch)
            inputs = module.make_loss_inputs(batch, source, None)
            if inputs.labels is None:
                raise ValueError(
                    f"{callback} needs labels, but the batch has none; name the entry 'labels', or"
                    " override aligned_labels(batch) of the module"
                )
            if inputs.class_labels is None or source.shape[-1] == 1:
                raise ValueError(
                    f"{callback} needs labels that are classes and logits of two classes or more,"
                    f" got labels of {inputs.labels.dtype} and {source.shape[-1]} logits: the"
                    " outputs of a regression are no probabilities, and have no temperature"
                )
            labels = inputs.labels.flatten()
            for rows in inputs.valid_positions().to(labels.device).split(ROWS):
                metric.update(*outcomes(source.select(rows), labels[rows]))
    with metric.sync_context():
        count = int(metric.cells[0, 0].sum())
    if not count:
        raise ValueError(
            f"{callback} found no valid label in the validation data (labels of -100 are ignored),"
            " so no temperature can be found; check the labels, or limit_val_batches"
        )
    return {name: values.tolist() for name, values in metric.compute().items()}


def _best(temperatures: list[float], values: list[float]) -> int:
    # among equal values, the temperature that changes the logits least
    return min(range(len(temperatures)), key=lambda i: (values[i], abs(log(temperatures[i]))))


def _log_grid(low: float, high: float) -> list[float]:
    return torch.linspace(log(low), log(high), POINTS, dtype=torch.float64).exp().tolist()
