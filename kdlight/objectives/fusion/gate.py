"""A gate: what it reads of a batch, its network, and the weights that it gives to teachers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight.checks import check_choice, check_instance, check_integer
from kdlight.features import feature_width, is_map
from kdlight.losses.log_space import log_probs
from kdlight.objectives.features.sample_rows import POOLINGS, Pooling
from kdlight.objectives.fusion.gate_network import GateNetwork
from kdlight.objectives.fusion.gate_rows import STUDENT, gate_rows
from kdlight.objectives.inputs import LossInputs


class Gate(nn.Module):
    """Gives each sample of a batch weights over K teachers, in sum 1, as logarithms.

    Args:
        teachers: K.
        gate_input: ``"student"`` for the student's logits, or the path of a feature of the student.
        network: from rows ``(n, C)`` to ``(n, K)``; None for a `GateNetwork`, which `bind` makes.
        size: C, with which the network is made at once; None if the modules of the student tell.
        pooling: see `kdlight.objectives.fusion.gate_rows.gate_rows`.
        detach_input: keep the gradient of the input from the student.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an unknown ``pooling``, or a size below 1.

    Example:
        >>> gate = Gate(2, "student", size=5)
        >>> gate(LossInputs(torch.zeros(3, 5))).exp().sum(-1).round(decimals=4)
        tensor([1., 1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(
        self,
        teachers: int,
        gate_input: str,
        *,
        network: nn.Module | None = None,
        size: int | None = None,
        pooling: Pooling = "auto",
        detach_input: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(gate_input, str):
            raise TypeError(f"gate_input must be 'student' or a path, got {gate_input!r}")
        check_choice("pooling", pooling, POOLINGS)
        if network is not None:
            check_instance("gate", network, nn.Module)
        if size is not None:
            check_integer("gate_size", size, 1)
        self.teachers, self.gate_input = teachers, gate_input
        self.pooling: Pooling = pooling
        self.detach_input = bool(detach_input)
        self.network = network
        if network is None and size is not None:
            self.network = GateNetwork(size, teachers)

    @property
    def student_paths(self) -> tuple[str, ...]:
        """The path of the input, if it is a feature."""
        return () if self.gate_input == STUDENT else (self.gate_input,)

    def bind(self, student: nn.Module) -> None:
        """Find the path in the student, and make the network, once, in the size of the input.

        Raises:
            ValueError: the student does not tell the size, or is a language model whose logits the
                gate is to read; a path leads to no module.
        """
        is_student = self.gate_input == STUDENT
        vocabulary = getattr(student, "vocab_size", None)
        if is_student and vocabulary is not None:
            raise ValueError(
                f"gate_input='student' would read the logits of a language model of {vocabulary}"
                f" tokens, by a layer of {2 * vocabulary**2} weights; give the path of a feature of"
                " the student, such as gate_input='model.layers.3'"
            )
        path = "" if is_student else self.gate_input
        size = feature_width(student, path)
        if self.network is not None:
            return
        if self.pooling != "mean" and is_map(student, path):
            raise ValueError(
                f"gate_input={self.gate_input!r} is a map, all entries of which the gate would"
                " read; pass their number as gate_size, or read the mean of each channel by"
                " pooling='mean'"
            )
        if size is None:
            raise ValueError(
                f"the size of gate_input={self.gate_input!r} cannot be told from the modules of"
                f" {type(student).__name__}; pass gate_size, the numbers in a row of it"
            )
        self.network = GateNetwork(size, self.teachers)

    def forward(self, inputs: LossInputs) -> Tensor:
        """Return the logarithms of the weights, ``(n, K)``.

        They are those of the n samples that have a valid position, in their order.

        Raises:
            ValueError: there is no network yet, it was made for rows of another size, or it returns
                something of another shape.
        """
        if self.network is None:
            raise ValueError(
                "the gate has no network yet: call bind(student, teacher), as modules do, or pass"
                " gate_size"
            )
        rows = gate_rows(inputs, self.gate_input, self.pooling)
        rows = rows.detach() if self.detach_input else rows
        size = getattr(self.network, "size", rows.shape[-1])
        if size != rows.shape[-1]:
            raise ValueError(
                f"the gate was made for rows of {size} numbers, but those of gate_input="
                f"{self.gate_input!r} have {rows.shape[-1]}; pass gate_size={rows.shape[-1]}"
            )
        weight = next(self.network.parameters(), rows)
        with torch.autocast(rows.device.type, enabled=False):
            logits = self.network(rows.to(weight.dtype))
        expected = (len(rows), self.teachers)
        if logits.shape != expected:
            raise ValueError(
                f"gate must return a number for each sample and teacher, {expected}, got"
                f" {tuple(logits.shape)}"
            )
        return log_probs(logits)
