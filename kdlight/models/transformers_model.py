"""Any model of transformers with logits, as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdlight.models.call_network import binary_logits, to_logits
from kdlight.models.model_inputs import model_inputs
from kdlight.models.model_kind import model_kind
from kdlight.models.pretrained import load_model
from kdlight.models.saving import save_model
from kdlight.sources import LogitsSource


class TransformersModel(nn.Module):
    """A model of transformers that maps a batch to its logits: encoders, vision, speech, others.

    The model gets every entry of a batch that its ``forward`` takes. A model in memory may also be
    given to a `kdlight.DistillationModule` as it is. The wrapper loads one from files, and names
    the output and the axis of the classes where the model's class does not tell.

    For causal language models choose `CausalLM`, which computes logits only where they are needed.

    Args:
        source: spelled as for `CausalLM`.
        auto_class: name of the class of transformers that loads it, such as
            ``"AutoModelForImageClassification"``.
        output: name of the logits in the model's output, such as ``"logits_per_image"`` of CLIP.
        class_dim: the axis of the logits that holds the classes; None for that of the model's kind,
            or the last of at most three.
        dtype: such as ``"bfloat16"``; float32 by default.
        model_kwargs: other arguments of ``from_pretrained``.

    Raises:
        ValueError: If no model can be loaded from ``source``, or there is no such class or output.

    Example:
        >>> import torch
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        ...                    intermediate_size=16, image_size=8, patch_size=4, num_labels=3)
        >>> student = TransformersModel.wrap(ViTForImageClassification(config))
        >>> student({"pixel_values": torch.zeros(2, 3, 8, 8)}).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        source: str,
        *,
        auto_class: str,
        output: str = "logits",
        class_dim: int | None = None,
        dtype: str | None = None,
        # values of dict[str, Any] would be read anew in a config, where "5" would become 5
        model_kwargs: dict | None = None,
    ) -> None:
        super().__init__()
        model = load_model(source, auto_class=auto_class, dtype=dtype, model_kwargs=model_kwargs)
        self._adopt(model, output, class_dim)

    @classmethod
    def wrap(
        cls, model: nn.Module, *, output: str = "logits", class_dim: int | None = None
    ) -> TransformersModel:
        """Wrap a model that is in memory, without a copy."""
        wrapped = cls.__new__(cls)
        nn.Module.__init__(wrapped)
        wrapped._adopt(model, output, class_dim)
        return wrapped

    def _adopt(self, model: nn.Module, output: str, class_dim: int | None) -> None:
        self.model = model
        self.output = output
        self.class_dim = class_dim
        self.train()

    def forward(self, batch: Mapping[str, Any]) -> LogitsSource:
        """Compute the logits of a batch."""
        result = self.model(**model_inputs(self.model, batch))
        logits = getattr(result, self.output, None)
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"{type(self.model).__name__} has no output {self.output!r}; set output to one of"
                f" {sorted(result)}"
            )
        kind = model_kind(self.model)
        class_dim = kind.class_dim if self.class_dim is None else self.class_dim
        source = to_logits(logits, class_dim=class_dim, name=type(self.model).__name__)
        return binary_logits(source) if kind.is_multi_label else source

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        tokenizer: Any = None,
        state_dict: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that ``from_pretrained`` of the model's class reads without kdlight.

        Args:
            folder: the folder; it is created.
            tokenizer: a tokenizer to save in the same folder.
            state_dict: weights to save instead of this module's own, under the same names.
        """
        save_model(self.model, folder, tokenizer=tokenizer, state_dict=state_dict)
