"""An evaluation that is not ours: lm-evaluation-harness reads the exported folder, offline.

This file imports nothing of kdlight, and what it starts does not, either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

TASK = """\
task: held_out
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}}
"""


def check_harness() -> None:
    """Raise a ModuleNotFoundError that says how to get the harness, if it is not there."""
    if find_spec("lm_eval") is None:
        raise ModuleNotFoundError(
            "students are evaluated by lm-evaluation-harness, which is not installed; run"
            " `pip install kdlight[compare]`"
        )


def write_task(texts: list[str], folder: Path) -> None:
    """Write held-out texts as a task of the harness."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "held_out.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = json.dumps(str((folder / "held_out.jsonl").resolve()))
    (folder / "held_out.yaml").write_text(TASK.format(file=file), encoding="utf-8")


def evaluate(model: Path, task: Path) -> dict[str, float]:
    """Bits per byte of held-out text, by the model in a folder."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
        command += ["--model_args", f"pretrained={model},dtype=float32", "--batch_size", "8"]
        command += ["--tasks", "held_out", "--include_path", str(task), "--output_path", output]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": output}
        done = subprocess.run(
            command, env={**os.environ, **offline}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the evaluation harness failed:\n{done.stderr[-3000:]}")
        (found,) = Path(output).rglob("results_*.json")
        results = json.loads(found.read_text(encoding="utf-8"))["results"]["held_out"]
    return {"bits_per_byte": results["bits_per_byte,none"]}
