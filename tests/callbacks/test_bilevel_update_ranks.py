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


def test_a_resumed_run_of_a_sharded_student_has_the_optimizer_of_the_ratio(tmp_path: Path):
    """FSDP2 reads the state of callbacks later than other strategies."""
    path, options = str(tmp_path / "saved"), {"strategy": "fsdp2", "epochs": 2}
    cases = {"whole": {**options, "save": path}, "rest": {**options, "resume": path}}
    for results in fit_on_ranks(cases, tmp_path):
        whole, rest = results["whole"], results["rest"]
        assert whole["update"]["drawn"] == rest["update"]["drawn"] == 8
        assert len(whole["gradients"]) == 8
        assert torch.equal(whole["gradients"][4:], rest["gradients"])
        for part in ("student", "objective"):
            for key, value in whole[part].items():
                assert torch.equal(rest[part][key], value), key
        for index, entries in whole["update"]["optimizer"]["state"].items():
            for name, value in entries.items():
                assert torch.equal(value, rest["update"]["optimizer"]["state"][index][name])
