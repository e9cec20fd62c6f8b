"""Which tokens are stored, and settings out of range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.cache import CacheReader, Settings
from kdlight.cache.folder import complete
from kdlight.cache.row_keys import keyed_rows
from tests.cache.caches import V, write


def test_top_p_keeps_what_has_the_mass(tmp_path: Path, generator: torch.Generator) -> None:
    logits = 4 * torch.randn(2, 9, V, generator=generator)
    ids = torch.randint(V, (2, 9), generator=generator)
    writer = write(tmp_path, logits, ids, k=200, top_p=0.9, bits=32)
    complete(tmp_path, writer.manifest)
    cache = CacheReader(tmp_path)
    read = cache.read(cache.find([keyed_rows({"input_ids": ids})[1].key or b""])[0])
    p = logits[1, :-1].softmax(-1).sort(-1, descending=True).values
    fewest = (p.cumsum(-1) < 0.9).sum(-1) + 1
    assert np.bincount(read.positions).tolist() == fewest.tolist()
    kept = np.add.reduceat(
        np.exp(read.log_probs), np.flatnonzero(np.diff(read.positions, prepend=-1))
    )
    np.testing.assert_allclose(kept + np.exp(read.log_tails), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"k": 0}, "k must be"), ({"top_p": 0.0}, "top_p must be"), ({"bits": 9}, "bits must be")],
)
def test_settings_out_of_range(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Settings(**settings).check()
