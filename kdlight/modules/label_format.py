"""The format of the labels in the batches of a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kdlight.checks import check_choice
from kdlight.data.targets import LABEL_RULES, LabelRule, are_shifted, find_label_rule
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models import ModelKind


class LabelFormat:
    """Where the labels of a batch stand, and which of their values is ignored.

    Args:
        rule: ``"causal"``, ``"aligned"`` or ``"none"``, see `kdlight.data.batch_labels`; ``"auto"``
            for the rule of the model's class, or of the batch where the class does not tell.
        ignore_index: labels of this value are ignored, and those of -100 in any case.

    Raises:
        ValueError: an unknown rule; an ``ignore_index`` that is no integer.

    Example:
        >>> import torch
        >>> LabelFormat("aligned").rule_of({"labels": torch.zeros(2)}, ModelKind(), check=True)
        'aligned'
    """

    def __init__(
        self,
        rule: Literal["auto", "causal", "aligned", "none"] = "auto",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        check_choice("labels", rule, ("auto", *LABEL_RULES))
        if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
            raise ValueError(f"ignore_index must be an integer, got {ignore_index!r}")
        self.rule: Literal["auto", "causal", "aligned", "none"] = rule
        self.ignore_index = ignore_index
        self._found: LabelRule | None = None

    def rule_of(self, batch: Any, kind: ModelKind, *, check: bool) -> LabelRule:
        """Return where the labels of ``batch`` stand.

        Args:
            batch: a batch.
            kind: the kind of the student.
            check: compare the labels with the kind, which waits for the device.

        Raises:
            ValueError: neither the kind nor the batch tells, or they contradict each other.
        """
        if kind.is_encoder_decoder and self.ignore_index != IGNORE_INDEX:
            raise ValueError(
                f"ignore_index is {self.ignore_index}, but the model makes the inputs of its"
                " decoder from the labels, where -100 marks ignored ones; use -100 in the data"
            )
        if self.rule != "auto":
            return self.rule
        if kind.labels is not None:
            if check and kind.labels == "causal":
                self._check_not_shifted(batch)
            return kind.labels
        labels = batch.get("labels") if isinstance(batch, Mapping) else None
        if labels is None:  # found without reading values
            return find_label_rule(batch, ignore_index=self.ignore_index) or "aligned"
        if check or self._found is None:
            found = find_label_rule(batch, ignore_index=self.ignore_index)
            if None not in (found, self._found) and found != self._found:
                raise ValueError(
                    f"the labels of a batch are {found!r}, but those of an earlier one are"
                    f" {self._found!r}; give one of them as labels= to the module"
                )
            self._found = found or self._found
        return self._found or "causal"  # the rule does not matter where no label counts

    def reset(self) -> None:
        """Forget the rule that a batch told."""
        self._found = None

    def _check_not_shifted(self, batch: Any) -> None:
        labels = batch.get("labels") if isinstance(batch, Mapping) else None
        ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
        if not isinstance(labels, Tensor) or not isinstance(ids, Tensor):
            return
        if labels.shape != ids.shape:
            return
        counts = (labels != IGNORE_INDEX) & (labels != self.ignore_index)
        if are_shifted(labels, ids, counts) and not bool((labels == ids)[counts].all()):
            raise ValueError(
                "the labels of a batch are the tokens after those of 'input_ids', shifted already,"
                " but a causal language model takes labels at their own tokens; give"
                " labels='aligned' to the module, or labels equal to 'input_ids' in the data"
            )
