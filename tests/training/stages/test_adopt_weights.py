"""What adopting does to weights: labels folded, formats kept, probes streamed, absent or in their own dtype."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
)

from tests.support import tiny_models
from tests.support.architectures import CONFIGS, CONTEXT, GROUPED, WEIGHTS, edit_weights, save
from tests.support.stored import assert_weights_match
from training.artifacts import checkpoints, machine
from training.artifacts.errors import UserError
from training.models import fetching, forward, loading
from training.models.weights import DTYPES, headers
from training.stages.adopt import Config, adopt, next_steps

unit = pytest.mark.unit
ROW = [5, 6, 7, 300, 9]


@unit
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_is_copied_as_it_is(tmp_path: Path, name: str) -> None:
    source = save(tmp_path / "m", name, dtype=torch.bfloat16)
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert (adopted.path / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert adopted.manifest.probe["dtype"] == "float32"
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    assert adopted.manifest.metrics["parameters"] == sum(p.numel() for p in model.parameters())
    for ids, expected in zip(adopted.manifest.probe["ids"], adopted.manifest.probe["logprobs"], strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert [float(logprobs[i, token]) for i, token in enumerate(ids[1:])] == pytest.approx(expected, abs=1e-4)


@unit
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox", "gemma-tied"])
def test_labels_become_one_score(tmp_path: Path, name: str) -> None:
    """By hand: score = 0.5 a - 2 b + 1.25 c of the labels' logits a, b, c."""
    weights = (0.5, -2.0, 1.25)
    source = save(tmp_path / "m", name, "reward", torch.bfloat16, num_labels=3)
    before = (source / WEIGHTS).read_bytes()
    adopted = adopt(Config(str(source), label_weights=weights, home=tmp_path / "runs"))
    assert (source / WEIGHTS).read_bytes() == before
    original = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    model = loading.load(adopted.id, tmp_path / "runs", "reward").model
    assert model.config.num_labels == 1
    assert model.config.dtype == torch.bfloat16
    with torch.no_grad():
        a, b, c = original(torch.tensor([ROW])).logits[0].tolist()
        (score,) = forward.scores_of(model, [ROW]).tolist()
    assert score == pytest.approx(0.5 * a - 2 * b + 1.25 * c, abs=1e-4)
    probe = adopted.manifest.probe
    with torch.no_grad():
        logits = original(torch.tensor([probe["ids"][1]])).logits[0]
    assert probe["rewards"][1] == pytest.approx(float(logits @ torch.tensor(weights)), abs=1e-4)
    assert adopted.manifest.config["label_weights"] == list(weights)
    assert_weights_match(adopted)


@unit
@pytest.mark.parametrize(
    "kind, labels, weights, message",
    [
        ("reward", 3, (1.0,), "has 3 labels: give as many --label-weights, not 1"),
        ("reward", 3, (), "has 3 labels and a reward model gives one score: adopt it with --label-weights"),
        ("reward", 1, (1.0,), "--label-weights belongs to a reward model of several labels: leave it out"),
        ("policy", 2, (1.0, 2.0), "--label-weights belongs to a reward model of several labels: leave it out"),
    ],
)
def test_label_weights_that_do_not_fit_are_refused(
    tmp_path: Path, kind: str, labels: int, weights: tuple[float, ...], message: str
) -> None:
    source = save(tmp_path / "m", "llama", kind, **({"num_labels": labels} if kind == "reward" else {}))
    with pytest.raises(UserError, match=message):
        adopt(Config(str(source), label_weights=weights, home=tmp_path / "runs"))


def biased(folder: Path, *bias: float, **settings: Any) -> Path:
    """A saved reward model whose head adds `bias` to its logits; transformers' own class leaves it out."""
    source = save(folder, "llama", "reward", num_labels=len(bias), **settings)
    return edit_weights(source, lambda tensors: tensors | {"score.bias": torch.tensor(bias)})


@unit
@pytest.mark.parametrize("weights, bias", [((), (0.75,)), ((0.5, -2.0), (3.0, 0.25))])
@pytest.mark.parametrize("offset", [None, 10.0])
def test_the_bias_of_a_head_is_part_of_the_offset(
    tmp_path: Path, weights: tuple[float, ...], bias: tuple[float, ...], offset: float | None
) -> None:
    """By hand: score = w . (W h + b) - offset = raw - (offset - w . b), where engines give raw = w . W h."""
    source = biased(tmp_path / "m", *bias)
    before = (source / WEIGHTS).read_bytes()
    adopted = adopt(Config(str(source), label_weights=weights, reward_offset=offset, home=tmp_path / "runs"))
    assert (source / WEIGHTS).read_bytes() == before
    added = sum(w * b for w, b in zip(weights or (1.0,), bias, strict=True))
    assert adopted.manifest.reward_offset == pytest.approx((offset or 0.0) - added)
    assert adopted.manifest.metrics["head_bias"] == pytest.approx(added)
    assert f"adds {added:g} to every score" in next_steps(adopted, Path("runs"))
    assert "score.bias" not in load_file(adopted.path / WEIGHTS)
    with torch.no_grad():
        plain = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
        logits = plain(torch.tensor([ROW])).logits[0]
        (raw,) = forward.scores_of(loading.load(adopted.id, tmp_path / "runs", "reward").model, [ROW]).tolist()
    by_its_authors = float((logits + torch.tensor(bias)) @ torch.tensor(weights or (1.0,)))
    assert raw - (adopted.manifest.reward_offset or 0.0) == pytest.approx(by_its_authors - (offset or 0.0), abs=1e-4)
    assert_weights_match(adopted)


@unit
def test_a_bias_is_left_out_of_the_index_too(tmp_path: Path) -> None:
    source = biased(tmp_path / "m", 0.75)
    tensors = load_file(source / WEIGHTS)
    (source / WEIGHTS).unlink()
    parts = {"model-00001-of-00002.safetensors": [n for n in tensors if not n.startswith("score")],
             "model-00002-of-00002.safetensors": ["score.weight", "score.bias"]}  # fmt: skip
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, source / file, metadata={"format": "pt"})
    weight_map = {name: file for file, names in parts.items() for name in names}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert adopted.manifest.reward_offset == pytest.approx(-0.75)
    kept = json.loads((adopted.path / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(kept) == set(tensors) - {"score.bias"}


@unit
def test_a_bias_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = edit_weights(save(tmp_path / "m", "llama", "reward"), lambda t: t | {"score.bias": torch.ones(2)})
    with pytest.raises(UserError, match="has a bias of 2 numbers for 1 labels"):
        adopt(Config(str(source), home=tmp_path / "runs"))
    with pytest.raises(UserError, match=r"the head of .* has a bias: adopt it"):
        loading.load(str(source), tmp_path, "reward")


@unit
@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors"])
def test_quantised_weights_are_copied_and_their_probe_is_absent(tmp_path: Path, method: str) -> None:
    """Their layout is the engine's matter: names and shapes are not those of the architecture."""
    source = edit_weights(
        save(tmp_path / "m", "llama"),
        lambda t: {name.replace(".weight", ".qweight"): tensor.to(torch.int32) for name, tensor in t.items()},
    )
    settings = json.loads((source / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": method, "bits": 4}
    (source / "config.json").write_text(json.dumps(settings))
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert adopted.manifest.probe == {"absent": f"quantised weights ({method}): only an engine computes with them"}
    assert "Its numbers will not be checked when it is served: quantised weights" in next_steps(adopted, Path("runs"))
    assert (adopted.path / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match="has quantised weights"):
        loading.load(adopted.id, tmp_path / "runs")
    (source / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        adopt(Config(str(source), home=tmp_path / "runs"))


def mixtral(folder: Path) -> Path:
    """Experts lie one by one in its files: transformers joins them in memory."""
    sizes: dict[str, Any] = {**GROUPED, **CONTEXT, "num_local_experts": 4, "vocab_size": len(tiny_models.tokenizer())}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(MixtralConfig(**sizes)).to(torch.bfloat16).save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


@unit
def test_weights_that_must_be_loaded_whole_are_probed_in_their_own_dtype_where_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = mixtral(tmp_path / "m")
    probe = adopt(Config(str(source), home=tmp_path / "runs")).manifest.probe
    assert probe["dtype"] == "bfloat16"
    assert len(probe["logprobs"]) == 3
    monkeypatch.setattr(machine, "memory", lambda: 1000)
    probe = adopt(Config(str(source), home=tmp_path / "runs")).manifest.probe
    assert probe == {"absent": "the weights must be loaded whole, 0.0 GiB, and 0.0 GiB of memory were free"}


@unit
def test_state_space_models_are_adopted(tmp_path: Path) -> None:
    tokenizer = tiny_models.tokenizer()
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, tie_word_embeddings=False)
    MambaForCausalLM(config).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    adopted = adopt(Config(str(tmp_path / "m"), home=tmp_path / "runs"))
    assert (adopted.manifest.kind, adopted.manifest.context) == ("policy", 2048)
    assert adopted.manifest.probe["dtype"] == "float32"


@unit
def test_only_the_files_that_transformers_reads_are_copied(tmp_path: Path) -> None:
    """Several shards by their index; a second copy of the weights under another name stays behind."""
    source = save(tmp_path / "m", "llama")
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(source, max_shard_size="60KB")
    (source / WEIGHTS).unlink()
    save_file({"other": torch.zeros(9)}, source / "consolidated.safetensors")
    shards = {file.name for file in source.glob("model-*.safetensors")}
    assert len(shards) > 2
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert set(adopted.manifest.weights) == shards
    assert not (adopted.path / "consolidated.safetensors").exists()
    (source / min(shards)).unlink()
    with pytest.raises(UserError, match=f"lacks {min(shards)}, which its index names: fetch that file as well"):
        adopt(Config(str(source), home=tmp_path / "runs"))


@unit
def test_a_full_disk_is_said_before_anything_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "m", "llama")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"takes 0.0 GiB and 0.0 GiB are free where --home lies: make room there"):
        adopt(Config(str(source), home=tmp_path / "runs"))
    assert list((tmp_path / "runs" / "checkpoints").iterdir()) == []


@unit
def test_a_head_that_the_configuration_ties_and_the_files_do_not(tmp_path: Path) -> None:
    """transformers takes both weights, an engine only one: the adopted configuration says that they differ."""
    source = edit_weights(
        save(tmp_path / "m", "llama-tied"), lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"] + 0.1}
    )
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert json.loads((adopted.path / "config.json").read_text())["tie_word_embeddings"] is False
    theirs, ours = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(torch.tensor([ROW])).logits
        for folder in (source, adopted.path)
    )
    torch.testing.assert_close(ours, theirs)
    assert loading.load(str(source), tmp_path).model.config.tie_word_embeddings is False


def write_large(folder: Path, config: LlamaConfig, tile: bytes) -> int:
    """A bfloat16 checkpoint of any size without a model in memory; returns the size of its weights in bytes."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    about: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in model.state_dict().items():
        end = position + 2 * tensor.numel()
        about[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(about).encode()
    folder.mkdir()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for left in range(position, 0, -len(tile)):
            file.write(tile[: min(left, len(tile))])
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return position


PEAK = """
import resource, sys
from pathlib import Path
from training.stages.adopt import Config, adopt, next_steps
adopted = adopt(Config(sys.argv[1], home=Path(sys.argv[2])))
assert adopted.manifest.probe["dtype"] == "float32", adopted.manifest.probe
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_model_larger_than_the_memory_that_adopting_takes(tmp_path: Path) -> None:
    """3.5 GB of weights, of which one matrix alone has 0.5 GB, within 2 GB; in float32 they would take 7."""
    size = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = LlamaConfig(vocab_size=64_000, num_hidden_layers=7, tie_word_embeddings=False, **size)
    torch.manual_seed(0)
    tile = (torch.randn(2**20) * 0.02).to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
    assert write_large(tmp_path / "large", config, tile) > 3.4e9
    command = [sys.executable, "-c", PEAK, str(tmp_path / "large"), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2e9
    (adopted,) = checkpoints.checkpoints(tmp_path / "runs" / "checkpoints")
    assert all(math.isfinite(value) for row in adopted.manifest.probe["logprobs"] for value in row)
    assert (adopted.path / WEIGHTS).stat().st_size == (tmp_path / "large" / WEIGHTS).stat().st_size


@unit
def test_headers_are_read_without_the_weights(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama", dtype=torch.bfloat16)
    entries = headers(source)
    for name, tensor in load_file(source / WEIGHTS).items():
        assert (entries[name].dtype, entries[name].shape) == (torch.bfloat16, tuple(tensor.shape))
        assert torch.equal(entries[name].read(), tensor)
        assert torch.equal(entries[name].read(1, 3), tensor[1:3])
    assert DTYPES["BF16"] == torch.bfloat16
