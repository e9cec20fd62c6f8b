"""The model card holds what is known of a run, and metadata that the hub reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from kdlight.export.model_card import write_model_card

RUN = {
    "student": "PrunedCausalLM(layers=2)",
    "teacher": "CausalLM(source='owner/name')",
    "data": "a | b\nc",
    "steps": 7,
    "metrics": {"val/b": 0.123456789, "val/a": 2.0},
}


def test_it_holds_what_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    write_model_card(folder, RUN)
    text = (folder / "README.md").read_text()
    assert "# student\n" in text
    assert "| steps | `7` |" in text
    assert "| objective" not in text
    assert "| data | `a \\| b c` |" in text
    assert text.index("| val/a | 2 |") < text.index("| val/b | 0.123457 |")
    assert "AutoModelForCausalLM.from_pretrained('student')" in text


def test_its_metadata_are_those_of_the_hub(tmp_path: Path) -> None:
    write_model_card(tmp_path, RUN)
    data: Any = ModelCard.load(tmp_path / "README.md").data
    assert (data.base_model, data.library_name) == ("owner/name", "transformers")
    (tmp_path / "adapter_config.json").touch()
    write_model_card(tmp_path, {**RUN, "teacher": "CausalLM(source='./folder')"})
    card: Any = ModelCard.load(tmp_path / "README.md")
    assert (card.data.base_model, card.data.library_name) == (None, "peft")
    assert "PeftModel.from_pretrained(base" in card.text


def test_nothing_is_needed(tmp_path: Path) -> None:
    write_model_card(tmp_path, {})
    assert "logged values" not in (tmp_path / "README.md").read_text()


def test_a_model_that_generates_no_text_is_loaded_by_its_class(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    write_model_card(tmp_path, RUN)
    text = (tmp_path / "README.md").read_text()
    assert "from transformers import ViTForImageClassification" in text
    assert "text-generation" not in text
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    write_model_card(tmp_path, RUN)
    assert "pipeline_tag: text-generation" in (tmp_path / "README.md").read_text()


def test_a_tokenizer_is_loaded_only_where_there_is_one(tmp_path: Path) -> None:
    write_model_card(tmp_path, {})
    assert "No tokenizer is saved with it" in (tmp_path / "README.md").read_text()
    (tmp_path / "tokenizer_config.json").write_text("{}")
    write_model_card(tmp_path, {})
    assert "tokenizer = AutoTokenizer.from_pretrained(" in (tmp_path / "README.md").read_text()


def test_values_of_another_scale_of_the_adapters_are_not_those_of_this_model(
    tmp_path: Path,
) -> None:
    write_model_card(tmp_path, {**RUN, "adapter_scale": 0.5})
    text = (tmp_path / "README.md").read_text()
    assert "| adapter_scale | `0.5` |" in text
    assert "Last logged values of the student before its adapters were scaled:" in text
