"""The best sub-network within a budget is saved, and is what pruning makes of the student."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight.callbacks import ElasticDepth, ExportStudent
from kdlight.callbacks.elastic.held_out import held_out_kl
from kdlight.callbacks.elastic.sub_network_search import SubNetworkSearch
from kdlight.distributed import FSDP2Strategy
from kdlight.models import SubNetworks, choose_layers, prune_layers, sub_network
from tests.support import toy
from tests.support.elastic_fit import DEPTH, llama, module, trainer

CODE = (
    "import sys, torch; sys.modules['kdlight'] = None\n"
    "from transformers import AutoModelForCausalLM\n"
    "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float64)\n"
    f"torch.save(model(torch.arange({toy.VOCABULARY})[None]).logits, sys.argv[2])"
)


@pytest.mark.slow
def test_the_best_one_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    this = module()
    student: Any = this.student
    per_layer = sum(p.numel() for p in student.model.model.layers[0].parameters())
    total = sum(p.numel() for p in student.model.parameters())
    elastic = ElasticDepth(
        2, max_parameters=total - 2 * per_layer, directory=str(tmp_path / "small")
    )
    run = trainer(tmp_path, elastic, ExportStudent(str(tmp_path / "whole")))
    run.fit(this, toy.loader(2, count=16), toy.loader(4, count=8))
    assert [len(each.layers) for each in sorted(elastic.ranked, key=lambda r: r.parameters)] == [
        *range(2, DEPTH + 1)
    ]
    assert [each.score for each in elastic.ranked] == sorted(each.score for each in elastic.ranked)
    batches = list(toy.loader(4, count=8))
    for each in elastic.ranked:
        assert each.layers == choose_layers(len(each.layers), depth=DEPTH)
        assert each.parameters == total - (DEPTH - len(each.layers)) * per_layer
        with sub_network(student.model, each.layers):
            assert held_out_kl(this, batches) == pytest.approx(each.score, rel=1e-9)
    best = min((r for r in elastic.ranked if len(r.layers) <= 3), key=lambda r: r.score)
    arguments = [str(tmp_path / "small"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", CODE, *arguments], check=True, capture_output=True)
    ids = torch.arange(toy.VOCABULARY)[None]
    expected = prune_layers(student.model, best.layers).eval()(input_ids=ids).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    shown = capsys.readouterr().out
    assert f"|      {len(best.layers)} |" in shown
    assert [line.endswith("| best |") for line in shown.splitlines()].count(True) == 1
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"{len(best.layers)} layers: {best.layers}" in card
    whole = llama().model.from_pretrained(tmp_path / "whole")
    assert whole.config.num_hidden_layers == DEPTH


def test_a_directory_that_holds_a_model_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    elastic = ElasticDepth(2, max_parameters=1e6, directory=str(tmp_path))
    with pytest.raises(FileExistsError, match="already holds a model"):
        trainer(tmp_path, elastic).fit(module(), toy.loader(2), toy.loader(4))


def test_a_sharded_student_is_not_pruned(tmp_path: Path) -> None:
    this, run = module(), toy.trainer(tmp_path)
    student: Any = this.student
    run._accelerator_connector.strategy = FSDP2Strategy()
    search = SubNetworkSearch(1e6, str(tmp_path / "out"))
    with pytest.raises(ValueError, match="but FSDP2Strategy shards it; leave max_parameters out"):
        search.check(run, this, SubNetworks(student.model), 2)


def test_no_search_without_a_budget(tmp_path: Path) -> None:
    elastic = ElasticDepth(2)
    trainer(tmp_path, elastic, max_steps=1).fit(module(), toy.loader(2), toy.loader(4))
    assert elastic.ranked == []
    assert not (tmp_path / "sub_network").exists()


def test_without_a_held_out_position_nothing_is_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlabeled = [
        {**batch, "labels": torch.full_like(batch["labels"], -100)}
        for batch in toy.loader(4, count=8)
    ]
    elastic = ElasticDepth(2, max_parameters=1e6, directory=str(tmp_path / "small"))
    loader = DataLoader(unlabeled, batch_size=None)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="no sub-network is saved: none within max_parameters"):
        trainer(tmp_path, elastic).fit(module(), toy.loader(2, count=8), loader)
    assert not (tmp_path / "small" / "config.json").exists()
    assert "best" not in capsys.readouterr().out


def test_a_budget_must_be_a_number() -> None:
    with pytest.raises(TypeError, match="max_parameters must be a number, got 'many'"):
        SubNetworkSearch("many")  # type: ignore[arg-type]
