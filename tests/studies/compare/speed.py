"""One process: how quick the steps of one method are, and how much memory they take.

    python -m tests.studies.compare.speed FOLDER METHOD ROUND

It wants the machine for itself. Rounds go through all methods one after the other, so that a
machine that gets slower does so for all of them.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from tests.studies.compare.results import Figures, write
from tests.studies.compare.setting import Setting
from tests.studies.compare.training import train

STEPS = 6


def speed(folder: Path, name: str, seed: int) -> Figures:
    """Positions a second of a step, and the most memory that the process held (GiB)."""
    setting = Setting.load(folder)
    _, clock = train(folder, name, seed=seed, steps=STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "tokens_per_second": setting.batch * setting.block / clock.seconds(),
        "peak_memory": peak * unit / 2**30,
    }


if __name__ == "__main__":
    write(speed, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
