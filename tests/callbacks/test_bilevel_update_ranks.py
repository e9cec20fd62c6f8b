"""On several ranks the ratio network learns what it learns on one, and is the same on all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.bilevel_fit import fit, fit_on_ranks

pytestmark = pytest.mark.slow

CASES = {
    "ddp": {"strategy": "ddp"},
    "ddp_exact": {"strategy": "ddp", "update": {"form": "exact"}},
    "fsdp2": {"strategy": "fsdp2"},
    "refused": {"strategy": "fsdp2", "update": {"form": "exact"}},
}


def test_ranks_learn_what_one_process_learns(tmp_path: Path):
    ranks = fit_on_ranks(CASES, tmp_path)
    for name in ("ddp", "ddp_exact", "fsdp2"):
        first, second = (results[name] for results in ranks)
        alone = fit({"update": CASES[name].get("update", {}), "folder": tmp_path})
        for part in ("student", "objective"):
            assert first[part].keys() == alone[part].keys()
            for key, value in alone[part].items():
                assert torch.equal(first[part][key], second[part][key]), (name, key)
                torch.testing.assert_close(first[part][key], value, rtol=1e-8, atol=1e-8)
        scale = alone["gradients"].abs().max()
        assert scale > 1e-4
        assert (first["gradients"] - alone["gradients"]).abs().max() < 1e-8 * scale, name
        assert first["loss"] == pytest.approx(alone["loss"], rel=1e-9)
    assert "use form='finite_difference'" in ranks[0]["refused"]["error"]
