"""The README of an exported student: what it learned from, how, and how well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"source='([\w.-]+/[\w.-]+)'")
_MODEL = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({name!r})
tokenizer = AutoTokenizer.from_pretrained({name!r})
```"""
_ADAPTER = """\
These are adapters alone. They go on the model that the student began from:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(base, {name!r})
```"""


def write_model_card(directory: str | Path, run: Mapping[str, Any]) -> None:
    """Write ``README.md``, with the metadata that the Hugging Face hub reads.

    Args:
        directory: where the student lies.
        run: what is known, as by `kdlight.modules.checkpoint_metadata.describe_run`; what is not is left out.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_model_card(folder, {"objective": "ForwardKL()"})
        ...     "`ForwardKL()`" in (Path(folder) / "README.md").read_text()
        True
    """
    from huggingface_hub import ModelCard, ModelCardData

    source = HUB_ID.search(run.get("teacher") or "")
    adapter = (Path(directory) / "adapter_config.json").exists()
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["knowledge-distillation", "kdlight"],
        base_model=source.group(1) if source else None,
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(Path(directory).name, run, adapter=adapter)}"
    ModelCard(text).save(Path(directory) / "README.md")


def _body(name: str, run: Mapping[str, Any], *, adapter: bool) -> str:
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
    lines += ["", *(_ADAPTER if adapter else _MODEL).format(name=name).splitlines(), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
