"""A student with Mamba-2 layers in place of most of its teacher's attention."""

from __future__ import annotations

from typing import Any

from kdlight.checks import check_integer
from kdlight.models.causal_lm import CausalLM
from kdlight.models.conversion.hybrid_model import hybrid_model
from kdlight.models.model_kind import is_transformers_model
from kdlight.models.pretrained import parse_dtype
from kdlight.models.pruning.layer_pruning import choose_layers
from kdlight.models.recipes.student_recipe import StudentRecipe, build_base, load_base

ANY_DEPTH = 10**6
"""More layers than a model has, to check what does not depend on their number."""


class HybridMamba(StudentRecipe):
    r"""The recipe of a student that is its teacher with Mamba-2 layers in place of attention.

    Attention keeps the keys and values of all tokens, a Mamba-2 layer one state of fixed size. A
    teacher like Llama becomes a `transformers.BambaForCausalLM`, a hybrid of both. The layers of
    ``attention_layers`` and everything outside of attention are copied. The mixers of the others
    start from the projections of attention: values become inputs, keys B and queries C of the state
    space (see `kdlight.models.conversion.mixer_start.start_mixer`). If all layers are kept, the
    logits are those of the teacher to the bit.

    A mixer at the start is not attention, and much of the quality is lost. Train the mixers by
    themselves first (`kdlight.callbacks.TrainLayersFirst`), then the whole student, as
    ``m1.yaml`` does. It is exported as a folder that ``AutoModelForCausalLM`` reads. The package
    mamba_ssm is not needed, but makes training on a GPU much faster.

    Wang, Li, Paliotta, Ritter, Rush, Dao, "M1: Towards Scalable Test-Time Compute with Mamba
    Reasoning Models", 2025 (attention in 6 of 28 layers). Wang, Paliotta, May, Rush, Dao, "The
    Mamba in the Llama: Distilling and Accelerating Hybrid Models", 2024 (the start of the mixers).

    Args:
        attention_layers: the layers that keep their attention, or their number (evenly spaced, with
            the first and the last), see `choose_layers`.
        base: the recipe of the model to convert instead of the teacher, such as a `PrunedCausalLM`;
            its own start is the teacher.
        source: the model to convert instead of the teacher, spelled as for `CausalLM`.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: dtype of the student; float32 by default, whatever the teacher's is.
        chunk_size: tokens that a mixer evaluates together; it changes the speed, not what is
            computed. Without mamba_ssm sequences are padded to a multiple of it, so that 32 or 64
            is faster for short ones.
        seed: seed of the weights that have no counterpart in attention.

    Raises:
        TypeError: If ``attention_layers`` are no integers, or ``base`` is no recipe.
        ValueError: If they are out of order or repeated, ``dtype`` is no floating-point dtype,
            a number is out of its range, or both ``base`` and ``source`` are given.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 4}
        >>> teacher = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=9, num_attention_heads=2))
        >>> student = HybridMamba(attention_layers=[0, 3]).build(teacher)
        >>> [type(layer).__name__ for layer in student.model.model.layers[1].children()][-1]
        'BambaMixer'
    """

    shown = ("attention_layers", "base", "source")

    def __init__(
        self,
        attention_layers: int | list[int],
        *,
        base: StudentRecipe | None = None,
        source: str | None = None,
        gguf_file: str | None = None,
        dtype: str = "float32",
        chunk_size: int = 256,
        seed: int = 0,
    ) -> None:
        _choose(attention_layers, depth=ANY_DEPTH)
        if base is not None and not isinstance(base, StudentRecipe):
            raise TypeError(
                f"base must be a recipe such as PrunedCausalLM(10), got a {type(base).__name__}"
            )
        if base is not None and source is not None:
            raise ValueError(
                f"base={base!r} and source={source!r} both say what is converted; set one of them"
            )
        parse_dtype(dtype)
        check_integer("chunk_size", chunk_size, 1)
        check_integer("seed", seed, 0)
        self.attention_layers = attention_layers
        self.base = base
        self.source = source
        self.gguf_file = gguf_file
        self.dtype = dtype
        self.chunk_size = chunk_size
        self.seed = seed

    def build(self, teacher: Any = None) -> CausalLM:
        """Convert ``teacher``, or what ``base`` builds from it, or the model at ``source``.

        Args:
            teacher: a `CausalLM` or a Hugging Face model; it is not changed.

        Raises:
            TypeError: If there is no ``source``, and the teacher is not a causal language model.
            ValueError: If ``attention_layers`` do not fit the model, or it cannot be converted.
            ImportError: If the installed transformers is older than 5.
        """
        if self.base is None:
            model = load_base(self, teacher)
        else:
            student: Any = build_base(self.base, teacher)
            model = student.model if isinstance(student, CausalLM) else student
            if not is_transformers_model(model):
                raise TypeError(
                    f"{self!r} converts a causal language model of transformers, but base gives a"
                    f" {type(student).__name__}; set base to a recipe that gives one, or to None"
                )
        depth = model.config.get_text_config().num_hidden_layers
        kept = _choose(self.attention_layers, depth=depth)
        options: dict[str, Any] = {"chunk_size": self.chunk_size, "seed": self.seed}
        return CausalLM.wrap(hybrid_model(model, kept, dtype=self.dtype, **options))


def _choose(attention_layers: Any, *, depth: int) -> list[int]:
    try:
        return choose_layers(attention_layers, depth=depth)
    except (TypeError, ValueError) as error:
        raise type(error)(f"attention_layers: {error}") from error
