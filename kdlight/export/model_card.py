"""The model card of an exported student."""

from __future__ import annotations

import json
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
_MODEL_ALONE = """\
```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({name!r})
```

No tokenizer is saved with it: use that of the teacher."""
_OTHER_MODEL = """\
```python
from transformers import {architecture}

model = {architecture}.from_pretrained({name!r})
```"""
_ADAPTER = """\
These are adapters only. Load them on the base model of the student, pruned to the same layers if
its recipe has `layers`:

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
    architecture = _other_architecture(Path(directory))
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation" if architecture is None else None,
        tags=["knowledge-distillation", "kdlight"],
        base_model=source.group(1) if source else None,
    )
    has_tokenizer = (Path(directory) / "tokenizer_config.json").exists()
    usage = _MODEL if has_tokenizer else _MODEL_ALONE
    if architecture is not None:
        usage = _OTHER_MODEL
    name = Path(directory).name
    usage = (_ADAPTER if adapter else usage).format(name=name, architecture=architecture)
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(name, run, usage)}"
    ModelCard(text).save(Path(directory) / "README.md")


def _other_architecture(directory: Path) -> str | None:
    """Return the class of a model that generates no text; None for a language model."""
    config = directory / "config.json"
    if not config.exists():
        return None
    (name, *_) = json.loads(config.read_text()).get("architectures") or ["ForCausalLM"]
    return None if name.endswith(("ForCausalLM", "LMHeadModel")) else name


def _body(name: str, run: Mapping[str, Any], usage: str) -> str:
    lines = [f"# {name}", "", "A student trained by knowledge distillation with kdlight.", ""]
    lines += ["| | |", "| --- | --- |"]
    for entry in ("student", "adapter_scale", "teacher", "objective", "data", "steps", "version"):
        if run.get(entry) is not None:
            lines.append(f"| {entry} | `{_cell(run[entry])}` |")
    of = " of the student before its adapters were scaled" if "adapter_scale" in run else ""
    metrics = {name: run["metrics"][name] for name in sorted(run.get("metrics", {}))}
    if metrics:
        lines += [
            "",
            f"Last logged values{of}:",
            "",
            "| metric | value |",
            "| --- | --- |",
        ]
        lines += [f"| {name} | {value:.6g} |" for name, value in metrics.items()]
    lines += ["", *usage.splitlines(), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
