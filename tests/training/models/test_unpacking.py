"""GGUF files become whole Hugging Face folders; which of several, and damage, are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support import gguf_files, tiny_models
from training.artifacts import machine
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.models import unpacking
from training.stages.adopt import Config, adopt

pytestmark = pytest.mark.unit
CONVERSATION = [{"role": "user", "content": "how is the water"}, {"role": "assistant", "content": "hot"}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "kind, dtype, tolerance",
    [
        (GGMLQuantizationType.F32, torch.float32, 1e-5),
        (GGMLQuantizationType.F16, torch.float16, 2e-3),
        (GGMLQuantizationType.Q8_0, torch.bfloat16, 0.15),
    ],
)
def test_a_gguf_file_is_adopted_as_the_model_it_came_from(
    tmp_path: Path, kind: GGMLQuantizationType, dtype: torch.dtype, tolerance: float, tied: bool
) -> None:
    model = gguf_files.llama(tied)
    file = gguf_files.write(tmp_path / "little.gguf", model, kind)
    adopted = adopt(Config(str(file), home=tmp_path / "runs"))
    manifest = adopted.manifest
    assert (manifest.base_model, manifest.context, manifest.kind) == ("little", 128, "policy")
    tensors = load_file(adopted.path / "model.safetensors")
    assert ("lm_head.weight" in tensors) == (not tied)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    config = json.loads((adopted.path / "config.json").read_text())
    assert "quantization_config" not in config
    tokenizer = AutoTokenizer.from_pretrained(adopted.path)
    (row,) = Renderer(tokenizer).render([CONVERSATION])
    assert [row] == Renderer(tiny_models.tokenizer()).render([CONVERSATION])
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(adopted.path, dtype=torch.float32)(torch.tensor([row.ids])).logits
        ours = model(torch.tensor([row.ids])).logits
    assert float((theirs - ours).abs().mean() / ours.std()) < tolerance


def test_the_one_gguf_model_of_a_folder_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    gguf_files.write(folder / "little.Q8_0.gguf", gguf_files.llama(), GGMLQuantizationType.Q8_0)
    (folder / "mmproj-little.gguf").write_bytes(b"GGUF")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert adopt(Config(str(folder), home=tmp_path / "runs")).manifest.base_model == "little.Q8_0"


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.Q4.gguf": b"GGUF", "a.Q8.gguf": b"GGUF"}, r"holds 2 GGUF models .a.Q4.gguf, a.Q8.gguf.: give one"),
        ({"m-00001-of-00002.gguf": b"GGUF", "m-00002-of-00002.gguf": b"GGUF"}, "is one of 2 parts: join them first"),
        ({"m.gguf": b"PK\x03\x04 another thing"}, "is not a whole GGUF model: fetch it again .*magic"),
        ({"m.gguf": b"GGUF\x03\x00\x00\x00"}, "is not a whole GGUF model: fetch it again"),
        ({"m.gguf": b""}, "is not a whole GGUF model: fetch it again"),
    ],
)
def test_what_is_no_one_gguf_model_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        adopt(Config(str(tmp_path), home=tmp_path / "runs"))
    store = tmp_path / "runs" / "checkpoints"
    assert not store.exists() or list(store.iterdir()) == []


def test_a_file_that_was_cut_or_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gguf_files.write(tmp_path / "m.gguf", gguf_files.llama(), GGMLQuantizationType.F32)
    monkeypatch.setattr(machine, "memory", lambda: 1000)
    with pytest.raises(UserError, match=r"needs 0.0 GiB of memory to be unpacked and 0.0 are free"):
        unpacking.unpack(file, tmp_path)
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="it ends before its last weight"):
        unpacking.unpack(file, tmp_path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"is a file: give the folder that transformers saved, or a .gguf file"):
        adopt(Config(str(tmp_path / "x.bin"), home=tmp_path / "runs"))
