"""What ``kdlight traces select`` does, and its options."""

from __future__ import annotations

from pathlib import Path

from kdlight.cli.traces.files import check_outputs
from kdlight.data.traces import read_traces
from kdlight.data.traces.operators.compose import Compose, table
from kdlight.data.traces.trace import to_lines
from kdlight.data.written_files import write_files


def select(
    files: list[str] | str,
    output: str,
    select: list[str | dict] | dict | str,
) -> None:
    """Select or change traces with operators, and print what each of them kept.

    Args:
        files: traces.
        output: file of JSON lines to write.
        select: one operator, or a list of them in order, each a name or a mapping of one name to
            its parameters, such as [quality_filter, {shortest_correct: {n: 2}}]; your own as
            module:function or file.py:function. The page on traces lists them.
    """
    operators = Compose([select] if isinstance(select, (str, dict)) else select)
    files = [files] if isinstance(files, str) else files
    check_outputs(files, [Path(output)])
    steps = operators.steps(read_traces(files))
    kept = steps[-1].kept
    print(table(steps))
    if not kept:
        raise ValueError(
            f"select: no trace is left, so {output} is not written; the table tells which operator"
            " dropped them"
        )
    write_files({Path(output): to_lines(kept)})
    prompts = len({trace.prompt_id for trace in kept})
    print(f"{len(kept):,} traces of {prompts:,} prompts: {output}")
