"""The README of an exported student: what it learned from, how, and how well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"source='([\w.-]+/[\w.-]+)'")


def write_model_card(directory: str | Path, run: Mapping[str, Any]) -> None:
    """Write ``README.md``, with the metadata that the Hugging Face hub reads.

    Args:
        directory: where the student lies.
        run: what is known, as by `kdlight.modules.stamp.describe_run`; what is not is left out.
    """
    from huggingface_hub import ModelCard, ModelCardData

    source = HUB_ID.search(run.get("teacher") or "")
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["knowledge-distillation", "kdlight"],
        base_model=source.group(1) if source else None,
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(Path(directory).name, run)}"
    ModelCard(text).save(Path(directory) / "README.md")


def _body(name: str, run: Mapping[str, Any]) -> str:
    lines = [f"# {name}", "", "A student of knowledge distillation, made with kdlight.", ""]
    lines += ["| | |", "| --- | --- |"]
    for what in ("student", "teacher", "objective", "data", "steps", "version"):
        if run.get(what) is not None:
            lines.append(f"| {what} | `{_cell(run[what])}` |")
    metrics = {name: run["metrics"][name] for name in sorted(run.get("metrics", {}))}
    if metrics:
        lines += [
            "",
            "The last values that were logged:",
            "",
            "| metric | value |",
            "| --- | --- |",
        ]
        lines += [f"| {name} | {value:.6g} |" for name, value in metrics.items()]
    lines += ["", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines += [f"model = AutoModelForCausalLM.from_pretrained({name!r})"]
    lines += [f"tokenizer = AutoTokenizer.from_pretrained({name!r})", "```", ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
