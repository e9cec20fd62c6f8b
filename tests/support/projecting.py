"""An objective with a projector, whose sizes are those of student and teacher."""

from __future__ import annotations

import torch
from torch import nn

from kdlight.objectives import Loss, LossInputs, Objective


class Projecting(Objective):
    """Squared distance of projected logits of the student to those of the teacher."""

    projector: nn.Module

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Create the projector, ``V -> V``, by way of the hidden width of the teacher."""
        assert teacher is not None
        out, hidden = _last_linear(student).out_features, _last_linear(teacher).in_features
        with torch.random.fork_rng():
            torch.manual_seed(0)
            projector = nn.Sequential(
                nn.Linear(out, hidden), nn.Linear(hidden, _last_linear(teacher).out_features)
            )
        self.projector = projector.to(_last_linear(student).weight)

    def forward(self, inputs: LossInputs) -> Loss:
        assert inputs.teacher is not None
        rows = inputs.valid_positions()
        difference = (
            self.projector(inputs.student.select(rows).logits())
            - inputs.teacher.select(rows).logits()
        )
        return Loss(difference.square().sum(), torch.tensor(len(rows)))


def _last_linear(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
