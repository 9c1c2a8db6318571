"""Weights as an engine reads them: names and values of what is published, adapters added, heads of their own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import architectures
from training.models import exporting, loading, lora
from training.models.weights import SINGLE

pytestmark = pytest.mark.unit


def exported(model: Any, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    folder.mkdir()
    exporting.write_weights(model, folder, dtype)
    return load_file(folder / SINGLE)


@pytest.mark.parametrize("name", sorted(architectures.CONFIGS))
def test_names_and_values_are_those_of_a_saved_model(tmp_path: Path, name: str) -> None:
    model = loading.load(str(architectures.save(tmp_path / "model", name)), tmp_path).model
    saved, found = load_file(tmp_path / "model" / SINGLE), exported(model, tmp_path / "exported")
    assert all(torch.equal(found[key], tensor) for key, tensor in saved.items())
    # What is more: an output head that the model holds once with its embeddings.
    head = {key: found[key] for key in set(found) - set(saved)}
    assert list(head) == (["lm_head.weight"] if model.config.tie_word_embeddings else [])
    for tensor in head.values():
        assert torch.equal(tensor, model.get_input_embeddings().weight)


def test_the_configuration_is_untied_and_the_models_own_stays(tmp_path: Path) -> None:
    model = loading.load(str(architectures.save(tmp_path / "model", "llama-tied")), tmp_path).model
    before = copy.deepcopy(model.config.to_dict())
    exporting.write_config(model, tmp_path, torch.bfloat16)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["tie_word_embeddings"] is False
    assert written["architectures"] == ["LlamaForCausalLM"]
    assert written["dtype"] == "bfloat16"
    assert model.config.to_dict() == before


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "gpt-neox"])
def test_adapters_are_added_as_they_are_when_published(tmp_path: Path, name: str) -> None:
    folder = str(architectures.save(tmp_path / "model", name))
    model = loading.load(folder, tmp_path).model
    lora.add(model, 4, 8.0, seed=1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(generator=torch.Generator().manual_seed(len(key)))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    found = exported(model, tmp_path / "exported")
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    merged, _ = lora.merge(model, loading.load(folder, tmp_path).model)
    merged.save_pretrained(tmp_path / "merged")
    expected = load_file(tmp_path / "merged" / SINGLE)
    assert set(found) - set(expected) == ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=1e-6)


def test_weights_are_written_in_the_engines_dtype(tmp_path: Path) -> None:
    model = loading.load(str(architectures.save(tmp_path / "model", "llama-tied")), tmp_path).model
    found = exported(model, tmp_path / "exported", torch.bfloat16)
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert sum(tensor.nbytes for tensor in found.values()) == exporting.size_of(model, torch.bfloat16)
