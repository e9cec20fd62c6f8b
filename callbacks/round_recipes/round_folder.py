"""The folder of a round, which is continued if it is that of the same round."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

from kdlight.data.traces.trace import Trace, to_lines
from kdlight.data.written_files import write_files


def open_folder(folder: Path, prompts: Sequence[Trace], settings: Mapping[str, Any]) -> bool:
    """Prepare the folder of a round; return whether it holds what was made of it before.

    What was made from other prompts, with other settings or by a student with other weights is
    removed.

    Args:
        folder: the folder of the round.
        prompts: the prompts of the round.
        settings: everything else that decides what is made, as data that JSON can represent.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as path:
        ...     [open_folder(Path(path, "round_1"), [], {"samples": n}) for n in (4, 4, 8)]
        [False, True, False]
    """
    # hashes: what an object holds may be a secret, such as the key of a service
    digests = {"settings": json.dumps(settings).encode(), "prompts": to_lines(prompts)}
    text = json.dumps({name: sha256(part).hexdigest() for name, part in digests.items()}).encode()
    path = folder / "settings.json"
    if path.exists() and path.read_bytes() == text:
        return True
    if folder.exists():
        rmtree(folder)
    write_files({path: text})
    return False
