"""A student that is its teacher with fewer or smaller layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pretrained import parse_dtype
from kdlight.models.pruning.layer_pruning import prune_layers
from kdlight.models.pruning.width_importance import width_importance
from kdlight.models.pruning.width_pruning import prune_width
from kdlight.models.recipes.calibration import calibration_batches, check_batches, check_data
from kdlight.models.recipes.layer_choice import check_layer_choice, select_layers
from kdlight.models.recipes.student_recipe import StudentRecipe, load_base
from kdlight.models.recipes.width_choice import check_width_choice, width_sizes

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule


class PrunedCausalLM(StudentRecipe):
    """The recipe of a student with some of its teacher's layers, or with smaller ones.

    Layers are pruned with `prune_layers`, width with `prune_width`; with both, the importance of
    all is measured on the whole teacher, once.

    Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024;
    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
    2024.

    Args:
        layers: the layers of the teacher that the student keeps; or their number (evenly spaced,
            with the first and the last), see `choose_layers`; or
            ``{"keep": 10, "by": "importance"}`` for those that change the hidden states most, see
            `layer_importance` (``by: even`` spaces them). None keeps all.
        width: what to keep in each layer, such as ``{"heads": 6, "feed_forward": 768}``, see
            `prune_width`; the most important units are kept, see `width_importance`. None keeps
            all.
        data: what importance is measured on: a data module, whose first training batches are read,
            or a list of batches. In a config, ``data: ${data}`` is the data of the run, of which a
            copy is made. Every process prepares and reads them when the student is built, on the
            device of the teacher. Needed only if something is measured.
        batches: number of batches to measure on; None for 4.
        source: the model to prune instead of the teacher, spelled as for `CausalLM`.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: dtype of the student. The default is float32 whatever the teacher's dtype, because
            small updates are lost in half-precision weights.

    Raises:
        TypeError: If ``width`` is no mapping, a number is no integer, or ``data`` is of another
            kind.
        ValueError: If ``dtype`` is no floating-point dtype, nothing is pruned, there are no
            ``data`` where they are needed, or a mapping has other keys or values.

    Example:
        >>> PrunedCausalLM(10)
        PrunedCausalLM(layers=10)
    """

    shown = ("layers", "width", "source")

    def __init__(
        self,
        layers: int | list[int] | dict | None = None,
        *,
        width: dict | None = None,
        data: LightningDataModule | list | None = None,
        batches: int | None = None,
        source: str | None = None,
        gguf_file: str | None = None,
        dtype: str = "float32",
    ) -> None:
        parse_dtype(dtype)
        check_batches(batches)
        if layers is None and width is None:
            raise ValueError("layers and width are both None, so nothing is pruned; set one")
        if check_layer_choice(layers):
            check_data(data, wanted_by=f"layers={layers}")
        if check_width_choice(width):
            check_data(data, wanted_by=f"width={width}")
        self.layers = layers
        self.width = width
        self.data = data
        self.batches = batches
        self.source = source
        self.gguf_file = gguf_file
        self.dtype = dtype
        self.chosen_layers: list[int] | None = None

    def build(self, teacher: Any = None) -> CausalLM:
        """Prune ``teacher``, or the model at ``source`` if there is one.

        Args:
            teacher: a `CausalLM` or a Hugging Face model; it is not changed.

        Raises:
            TypeError: If there is no ``source``, and the teacher is not a causal language model.
            ValueError: If ``layers`` or ``width`` does not fit the model, or ``data`` gives no
                batch.
        """
        model = load_base(self, teacher)
        measures_layers = check_layer_choice(self.layers)
        measures_width = check_width_choice(self.width)
        batches = []
        if measures_layers or measures_width:
            batches = calibration_batches(self.data, self.batches, wanted_by=repr(self))
        scores = width_importance(model, batches) if measures_width else None
        student = model
        if self.layers is not None:
            self.chosen_layers = select_layers(model, self.layers, batches)
            student = prune_layers(model, self.chosen_layers, dtype=self.dtype)
            scores = scores and scores.of_layers(self.chosen_layers)
        if self.width is not None:
            sizes, kept = width_sizes(self.width), "first" if scores is None else scores
            student = prune_width(student, **sizes, importance=kept, dtype=self.dtype)
        return CausalLM.wrap(student)

    def rebuild_arguments(self) -> dict[str, Any]:
        """Return the arguments that build a student of the same shape without data."""
        changed: dict[str, Any] = {}
        if check_layer_choice(self.layers):
            changed["layers"] = self.chosen_layers
        if check_width_choice(self.width):
            changed["width"] = {**(self.width or {}), "by": "first"}
        return {**changed, "data": None} if changed else {}
