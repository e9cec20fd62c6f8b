"""What ``kdlight traces verify`` does, and its options."""

from __future__ import annotations

from pathlib import Path

from kdlight.cli.traces.files import check_outputs
from kdlight.data.traces import read_traces
from kdlight.data.traces.trace import to_lines
from kdlight.data.traces.verification.verifiers import find_verifier
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.data.written_files import write_files

NAMES = ("positives", "negatives", "unfinished")


def verify(
    files: list[str] | str,
    output: str,
    verifier: str = "exact",
    threshold: float = 0.9,
    keep_unfinished: bool = False,
) -> None:
    """Score traces, and write positives.jsonl, negatives.jsonl and unfinished.jsonl.

    Args:
        files: traces.
        output: folder to write to.
        verifier: exact, number, math, reasoning_gym, or your own as module:function or
            file.py:function.
        threshold: the minimum score of a positive trace.
        keep_unfinished: write truncated answers to negatives.jsonl, instead of unfinished.jsonl.
            They have the score 0 in either. Pass rates need all three files.
    """
    files = [files] if isinstance(files, str) else files
    outputs = [Path(output) / f"{name}.jsonl" for name in NAMES]
    check_outputs(files, outputs)
    divided = positives, negatives, unfinished = verify_traces(
        read_traces(files),
        find_verifier(verifier),
        threshold=threshold,
        keep_unfinished=keep_unfinished,
    )
    write_files(dict(zip(outputs, map(to_lines, divided), strict=True)))
    both = {trace.prompt_id for trace in positives} & {trace.prompt_id for trace in negatives}
    print(
        f"{len(positives)} positive, {len(negatives)} negative, {len(unfinished)} unfinished;"
        f" {len(both)} prompts have positive and negative ones: {output}"
    )
