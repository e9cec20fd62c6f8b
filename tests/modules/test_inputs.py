"""From a batch to the inputs of a loss."""

from __future__ import annotations

from tests.support import toy


def test_a_fit_logs_once_how_logits_are_computed(tmp_path, caplog):
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(), toy.loader(4))
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(chunked=True), toy.loader(4))
    said = [line for line in caplog.messages if line.startswith("kdlight: logits")]
    assert [line.split("are computed ")[1].split(" (")[0].split(" of ")[0] for line in said] == [
        "at once",
        "in chunks",
    ]
