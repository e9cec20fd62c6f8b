"""The samples of a batch that count, and how much."""

from __future__ import annotations

from torch import Tensor

from kdlight.objectives.features.positions import valid_per_sample
from kdlight.objectives.inputs import LossInputs


def selected_samples(
    student: Tensor, teacher: Tensor, inputs: LossInputs, path: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples that have a valid position among the logits.

    Args:
        student: feature ``(B, ...)``.
        teacher: feature ``(B, ...)``.
        inputs: the logits and their mask.
        path: the student's path.

    Returns:
        Both features ``(n, ...)``, and the number of valid positions of each, ``(n,)``.

    Raises:
        ValueError: the features have another number of samples than the logits.

    Example:
        >>> import torch
        >>> inputs = LossInputs(torch.zeros(3, 5), mask=torch.tensor([True, False, True]))
        >>> one = torch.ones(3, 2)
        >>> [each.shape[0] for each in selected_samples(one, one, inputs, "a")]
        [2, 2, 2]
    """
    counts = valid_per_sample(inputs)
    for name, feature in (("student", student), ("teacher", teacher)):
        if feature.shape[:1] != counts.shape:
            raise ValueError(
                f"the feature of the {name} in the pair of {path!r} has shape"
                f" {tuple(feature.shape)}, and the logits have {len(counts)} samples; the first"
                " axis must be that of samples"
            )
    index = (counts > 0).nonzero().squeeze(-1)
    return student.index_select(0, index), teacher.index_select(0, index), counts[index]


def check_no_padding(inputs: LossInputs, path: str) -> None:
    """Raise a ValueError for a sequence with padding, where a map of channels is needed.

    Example:
        >>> import torch
        >>> x, mask = torch.zeros(1, 5), torch.tensor([[True, False]])
        >>> check_no_padding(LossInputs(x, feature_masks={"a": mask}), "a")
        Traceback (most recent call last):
        ValueError: the feature 'a' is a sequence with padding, and a map (B, C, ...) is needed ...
    """
    mask = (inputs.feature_masks or {}).get(path)
    if mask is not None and not bool(mask.all()):
        raise ValueError(
            f"the feature {path!r} is a sequence with padding, and a map (B, C, ...) is needed"
            " here, in which padding is not known; compare sequences by HiddenStates or"
            " AttentionRelation, or choose the path of a map"
        )
