"""Traces with known properties, for the operators that select traces."""

from __future__ import annotations

from kdlight.data.traces import Trace


def planted(prompts: int = 200, of_each: int = 5) -> list[Trace]:
    """Return 1,000 traces; i % 6 of prompt i are correct, and these increase in length."""
    traces = []
    for i in range(prompts):
        for k in range(of_each):
            right = k < i % (of_each + 1)
            traces.append(
                Trace(
                    f"prompt {i}",
                    f"response {k}",
                    prompt_id=f"{i:03}",
                    score=float(right),
                    n_tokens=10 + k if right else 1,
                    difficulty=float(1 + i % 5),
                    teacher=f"teacher {k % 2}",
                    perplexity=float(k),
                )
            )
    return traces
