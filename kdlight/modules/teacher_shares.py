"""The shares of several teachers in a loss, for the log."""

from __future__ import annotations

from kdlight.objectives import Loss, LossInputs


def with_shares(loss: Loss, inputs: LossInputs) -> Loss:
    """Return the loss with the mean weight of each teacher among its parts.

    They are means over the positions that the loss was evaluated on, times the units of the loss,
    so that those of an optimizer step weigh its micro-batches and ranks like the loss itself. An
    objective that did not evaluate the average of the teachers has none.

    Args:
        loss: the loss, already evaluated.
        inputs: what it was evaluated on.

    Example:
        >>> import torch
        >>> from kdlight import Dense
        >>> from kdlight.objectives import ForwardKL
        >>> from kdlight.sources import Mixture
        >>> one, two = Dense(torch.zeros(2, 5)), Dense(torch.ones(2, 5))
        >>> inputs = LossInputs(torch.zeros(2, 5), Mixture((one, two), (0.75, 0.25), ("a", "b")))
        >>> with_shares(ForwardKL()(inputs), inputs).parts
        {'teacher/a/share': tensor(1.5000), 'teacher/b/share': tensor(0.5000)}
    """
    shares = {} if inputs.teacher is None else inputs.teacher.shares
    parts = {f"teacher/{name}/share": share * loss.count for name, share in shares.items()}
    return loss._replace(parts={**loss.parts, **parts})
