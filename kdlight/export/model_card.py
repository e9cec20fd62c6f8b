"""The model card of an exported student."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"source='(\w[\w.-]*/[\w.-]+)'")
_MODEL = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({name!r})
tokenizer = AutoTokenizer.from_pretrained({name!r})
```"""
_ADAPTER = """\
These are adapters only. Load them on the base model of the student:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(base, {name!r})
```"""


def write_model_card(directory: str | Path, run: Mapping[str, Any]) -> None:
    """Write ``README.md`` with the metadata that the Hugging Face hub reads.

    Args:
        directory: the directory of the student.
        run: description of the run, see `kdlight.modules.checkpoint_metadata.describe_run`; missing
            entries are left out.

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
    lines = [f"# {name}", "", "A student trained by knowledge distillation with kdlight.", ""]
    lines += ["| | |", "| --- | --- |"]
    for entry in ("student", "teacher", "objective", "data", "steps", "version"):
        if run.get(entry) is not None:
            lines.append(f"| {entry} | `{_cell(run[entry])}` |")
    metrics = {name: run["metrics"][name] for name in sorted(run.get("metrics", {}))}
    if metrics:
        lines += [
            "",
            "Last logged values:",
            "",
            "| metric | value |",
            "| --- | --- |",
        ]
        lines += [f"| {name} | {value:.6g} |" for name, value in metrics.items()]
    lines += ["", *(_ADAPTER if adapter else _MODEL).format(name=name).splitlines(), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
