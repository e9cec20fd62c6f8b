"""Write predictions to files: logits, or generated text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file
from torch import Tensor

from kdlight.callbacks.generation.checks import check_generates, check_tokenizer, datamodule_of
from kdlight.callbacks.generation.rows import Row, take_rows
from kdlight.callbacks.generation_samples import SHARDING
from kdlight.callbacks.inference.context import inference_context
from kdlight.checkpoints import check_writable
from kdlight.models.end_tokens import cut_at_end, decode, end_tokens
from kdlight.models.sampling import Sampling
from kdlight.modules.inputs import LossInputsModule
from kdlight.rollouts.continuation import continue_text


class PredictionWriter(BasePredictionWriter):
    """Writes what ``kdlight predict`` or ``Trainer.predict`` computes for each batch.

    ``content="logits"`` writes a safetensors file per batch and rank. It holds ``logits`` as
    ``predict_step`` returns them, the ``labels`` that are aligned with them if the batch has any,
    and the ``indices`` of the samples in the data set if Lightning knows them.

    ``content="text"`` writes a file of JSON lines per rank, one line for each row of a batch with
    ``input_ids``. A line holds ``prompt``, ``continuation``, and ``index`` of the sample, if known.
    The prompt is what precedes the first valid label. Plain text has no such boundary; its first
    ``prompt_tokens`` tokens are the prompt. A row without a response is a prompt as a whole.

    The Trainer also keeps all predictions in memory, unless it is called with
    ``return_predictions=False`` (``--return_predictions false``).

    Args:
        output: the folder to write to. It must not hold predictions already.
        content: ``"logits"`` or ``"text"``.
        sampling: how text is generated; greedily by default. It needs ``max_new_tokens``.
        prompt_tokens: length of the prompt of plain text.

    Raises:
        ValueError: An argument outside its range. For text: a student that does not generate, a
            data module without a tokenizer, or a strategy that shards the student.
        FileExistsError: ``output`` holds predictions already.
        OSError: ``output`` cannot be written to; raised before the first batch.
        TypeError: For logits: ``predict_step`` does not return a tensor. For text: a batch without
            ``input_ids``.

    Example:
        >>> PredictionWriter("predictions", content="text").sampling.max_new_tokens
        64
    """

    def __init__(
        self,
        output: str | Path,
        content: Literal["logits", "text"] = "logits",
        sampling: Sampling = Sampling(temperature=0.0, max_new_tokens=64),  # noqa: B008
        prompt_tokens: int = 16,
    ) -> None:
        super().__init__(write_interval="batch")
        if content not in ("logits", "text"):
            raise ValueError(f"content must be 'logits' or 'text', got {content!r}")
        if content == "text" and sampling.max_new_tokens is None:
            raise ValueError("sampling needs max_new_tokens, the maximal length of a continuation")
        if prompt_tokens < 1:
            raise ValueError(f"prompt_tokens must be at least 1, got {prompt_tokens}")
        self.output, self.content = Path(output), content
        self.sampling, self.prompt_tokens = sampling, prompt_tokens

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before the first batch that predictions can be made and written."""
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        if self.content == "text":
            check_generates("PredictionWriter", "student", _student(pl_module))
            check_tokenizer("PredictionWriter", trainer)
            if isinstance(trainer.strategy, SHARDING):
                raise ValueError(
                    "PredictionWriter cannot generate text under"
                    f" {type(trainer.strategy).__name__}, which shards the student; use DDP or one"
                    " device"
                )
        suffix = ".jsonl" if self.content == "text" else ".safetensors"
        if any(self.output.glob(f"*{suffix}")):
            raise FileExistsError(
                f"output {str(self.output)!r} holds {suffix} files already; remove them or choose"
                " another folder"
            )
        check_writable(self.output)

    def check_writable(self, trainer: Trainer) -> None:
        """Raise an OSError if the folder cannot be written to."""
        check_writable(self.output)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the predictions of one batch."""
        self.output.mkdir(parents=True, exist_ok=True)
        loader = f"loader{dataloader_idx}-" if dataloader_idx else ""
        name = f"{loader}rank{trainer.global_rank}"
        if self.content == "logits":
            tensors = _tensors(pl_module, prediction, batch, batch_indices)
            save_file(tensors, self.output / f"{name}-batch{batch_idx:06d}.safetensors")
            return
        place = f"{dataloader_idx}:{batch_idx}:{trainer.global_rank}"
        lines = self._generate(trainer, pl_module, batch, place)
        for line, index in zip(lines, batch_indices or ()):  # noqa: B905, indices may be unknown
            line["index"] = index
        with (self.output / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _generate(
        self, trainer: Trainer, module: LightningModule, batch: Any, place: str
    ) -> list[dict[str, Any]]:
        if not isinstance(batch, Mapping) or "input_ids" not in batch:
            raise TypeError(
                "PredictionWriter generates text for batches that are mappings with 'input_ids',"
                f" got {type(batch).__name__}; use content='logits'"
            )
        rows = take_rows(batch, prompt_tokens=self.prompt_tokens, max_new_tokens=None)
        prompts = [_prompt(row) for row in rows]
        tokenizer, student = datamodule_of(trainer).tokenizer, _student(module)
        ends = end_tokens(student, tokenizer)
        with inference_context(trainer, module):
            torch.manual_seed(_seed(self.sampling.seed, place))
            texts = continue_text(
                student,
                prompts,
                [self.sampling.max_new_tokens or 0] * len(prompts),
                end=ends,
                device=module.device,
                **replace(self.sampling, max_new_tokens=None).options(),
            )
        continuations = [text[len(p) :] for p, text in zip(prompts, texts, strict=True)]
        return [
            {
                "prompt": decode(tokenizer, [t for t in prompt.tolist() if t not in ends]),
                "continuation": decode(tokenizer, cut_at_end(new.tolist(), ends)[0]),
            }
            for prompt, new in zip(prompts, continuations, strict=True)
        ]


def _student(module: LightningModule) -> Any:
    return module.student_network() if isinstance(module, LossInputsModule) else None


def _prompt(row: Row) -> Tensor:
    return row.ids[: row.prompt] if row.prompt else row.ids


def _tensors(
    module: LightningModule, prediction: Any, batch: Any, indices: Sequence[int] | None
) -> dict[str, Tensor]:
    if not isinstance(prediction, Tensor):
        raise TypeError(
            "PredictionWriter writes logits, but predict_step of"
            f" {type(module).__name__} returns {type(prediction).__name__}; return a tensor"
        )
    tensors = {"logits": prediction}
    labels = _labels(module, batch)
    if labels is not None:
        tensors["labels"] = labels
    if indices:
        tensors["indices"] = torch.tensor(indices)
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _labels(module: LightningModule, batch: Any) -> Tensor | None:
    if not isinstance(module, LossInputsModule):
        return None
    try:
        return module.aligned_labels(batch)
    except TypeError:  # data to predict need not have labels
        return None


def _seed(seed: int, place: str) -> int:
    return int(sha256(f"{seed}:{place}".encode()).hexdigest()[:15], 16)
