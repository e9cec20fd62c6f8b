"""The study of ways to fuse teachers counts right, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.studies import fusion, fusion_task
from tests.studies.fusion_data import Digits
from tests.studies.fusion_task import AVERAGE, LABELS, LEARNED, OWN, WAYS


def results() -> fusion.Results:
    """Labels alone are 2 points below the average in one seed, and 4 in the other."""
    found: fusion.Results = {}
    for seed in range(2):
        found[f"teachers|{seed}"] = {"low": 60.0 + seed, AVERAGE: 90.0}
        for labels in fusion.NOISES:
            for way in WAYS:
                gain = -2.0 - 2 * seed if way == LABELS else 0.0
                figures = {"accuracy": 90.0 + seed + gain, "ece": 5.0}
                if way == LEARNED:
                    figures["ratio, both right"] = 0.25
                found[f"{labels}|{way}|{seed}"] = figures
    return found


def test_differences_from_the_average_are_paired() -> None:
    lines = fusion.table(results(), "right labels", 2).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert f"| {LABELS} | 87.5 ± 0.5 | -3.0 ± 1.0 | 5.0 ± 0.0 |" in lines
    assert f"| {AVERAGE} | 90.5 ± 0.5 | +0.0 ± 0.0 | 5.0 ± 0.0 |" in lines


def test_teachers_and_learned_ratios_are_told() -> None:
    text = fusion.notes(results(), 2)
    assert "Accuracy of the teachers: low 60.5 ± 0.5, average 90.0 ± 0.0 %." in text
    assert "30 % wrong labels: both right 0.25 ± 0.00." in text


def test_parts_of_the_data_do_not_overlap_and_held_out_labels_are_right() -> None:
    noisy, right = Digits(1, 0.3), Digits(1, 0.0)
    parts = [noisy.digits.train_images, noisy.validation, noisy.test]
    assert [len(each) for each in parts] == [898, 200, 699]
    rows = torch.cat([each.tensors[0].flatten(1) for each in parts])
    assert len(rows.unique(dim=0)) >= 1797 - 5  # a few images occur twice in scikit-learn's data
    share = (noisy.digits.train_images.tensors[1] != noisy.true).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.001)
    for ours, theirs in ((noisy.validation, right.validation), (noisy.test, right.test)):
        assert all(map(torch.equal, ours.tensors, theirs.tensors))
    assert len(Digits(1, 0.3, more=True).train) == 1098  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_study_runs_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path), "--seeds", "1", "--epochs", "1"]
    arguments += ["--teacher-epochs", "2"]
    fusion.main(arguments)
    path = tmp_path / "results.json"
    found = json.loads(path.read_text())["results"]
    assert len(found) == 1 + len(fusion.NOISES) * len(WAYS)
    assert set(found["teachers|0"]) == {*OWN, AVERAGE}
    assert all(0 < each["accuracy"] <= 100 for each in found.values() if "accuracy" in each)
    text = (tmp_path / "table.md").read_text()
    assert "nan" not in text
    # a way that is missing is run again, and gives the same figures; the others are not
    kept = dict(found)
    name = f"30 % wrong labels|{LEARNED}|0"
    assert any(key.startswith("ratio, label wrong") for key in found.pop(name))
    settings = {"epochs": 1, "teacher_epochs": 2}
    path.write_text(json.dumps({"settings": settings, "results": found}))
    capsys.readouterr()
    fusion.main(arguments)
    assert capsys.readouterr().out.count(" s, ") == 1
    assert json.loads(path.read_text())["results"] == kept


def test_teachers_are_trained_once(tmp_path: Path) -> None:
    networks = fusion_task.make_teachers(0, tmp_path, epochs=1)
    again = fusion_task.make_teachers(0, tmp_path, epochs=1)
    for name, network in networks.items():
        for a, b in zip(network.parameters(), again[name].parameters(), strict=True):
            assert torch.equal(a, b)  # read from the folder
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"teacher_{name}_0.pt" for name in sorted(OWN)
    ]
