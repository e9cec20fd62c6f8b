"""Laws about the state of objectives: copies, checkpoints, calls without side effects."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import Objective
from kdlight.objectives.hyperparameters import scalar_hyperparameters
from kdlight.testing.laws import Deviations
from kdlight.testing.report import apart, holds
from kdlight.testing.sample import Sample


def the_default_dtype_of_a_run_does_not_matter(o: Objective, s: Sample) -> Deviations:
    """A run with ``precision: bf16-true`` makes bfloat16 the default of new tensors."""
    expected, default = o(s.inputs(mask=s.mask)), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        loss = o(s.inputs(mask=s.mask))
    finally:
        torch.set_default_dtype(default)
    yield apart(loss.total, expected.total, "value")
    yield holds(loss.parts.keys() == expected.parts.keys(), "names of parts")
    for name, part in loss.parts.items():
        yield apart(part, expected.parts[name], name)


def forward_changes_no_state(o: Objective, s: Sample) -> Deviations:
    """Validation must not change it, and gradient checkpointing would change it twice."""
    o = o.train()
    before = copy.deepcopy((o.state_dict(), _scalars(o)))
    o(s.inputs()).total.backward(inputs=[s.student])
    yield holds(_same(o.state_dict(), before[0]), "state_dict")
    yield holds(_scalars(o) == before[1], "scalar hyper-parameters")


def copies_and_pickles_are_the_same_objective(o: Objective, s: Sample) -> Deviations:
    """Weight averaging copies an objective, and multiprocessing pickles it."""
    expected = o(s.inputs()).total
    yield apart(pickle.loads(pickle.dumps(o))(s.inputs()).total, expected, "pickle", allowed=0)
    yield apart(copy.deepcopy(o)(s.inputs()).total, expected, "copy", allowed=0)


def state_dict_brings_back_what_is_not_a_hyper_parameter(o: Objective, s: Sample) -> Deviations:
    """A run resumes from the state dict in a checkpoint."""
    again = copy.deepcopy(o)
    with torch.no_grad():
        for tensor in (*o.parameters(), *o.buffers()):
            tensor.add_(0.25)
    again.load_state_dict(o.state_dict())
    yield apart(again(s.inputs()).total, o(s.inputs()).total, "value", allowed=0)


def _scalars(o: Objective) -> dict[str, float]:
    return {path: scalar.get() for path, scalar in scalar_hyperparameters(o).items()}


def _same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
        for key, value in one.items()
    )
