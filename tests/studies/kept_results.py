"""Results of a study that are kept in a file, so that a study that was stopped goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any


class KeptResults(dict[str, Any]):
    """Results by name, which are written after each of them.

    Args:
        path: a JSON file, which need not exist.
        settings: what the results depend on; those of other settings are not mixed with them.

    Raises:
        ValueError: The file has results of other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self._start = time.process_time()
        if path.exists():
            found = json.loads(path.read_text())
            if found["settings"] != self.settings:
                raise ValueError(
                    f"{path} has results of {found['settings']}, got {self.settings}; choose"
                    " another --output"
                )
            self.update(found["results"])

    def get_or_compute(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result, which is computed and printed if it is missing."""
        if name not in self:
            self[name] = compute()
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps({"settings": self.settings, "results": self}, indent=1))
            part.replace(self.path)
            seconds = time.process_time() - self._start
            print(f"{seconds:.0f} s, {name}: {self[name]}", flush=True)
        return deepcopy(self[name])
