"""Any checkpoint that transformers saved becomes one of the store; whatever is no whole model is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from tests.support import tiny_models
from tests.support.stored import assert_weights_match
from training.artifacts import checkpoints
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.templates import template_hash
from training.stages.adopt import Config, adopt, main, next_steps

pytestmark = pytest.mark.unit

Saved = Callable[..., Path]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as transformers saves them: policy, reward, two-labels, gpt2, bert."""
    root = tmp_path_factory.mktemp("originals")
    tokenizer = tiny_models.tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    llama: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": 128, **size, **ids}
    gpt2 = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, **ids)
    bert = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=1, **size)
    torch.manual_seed(0)
    made = {
        "policy": LlamaForCausalLM(LlamaConfig(**llama)),
        "reward": LlamaForSequenceClassification(LlamaConfig(num_labels=1, **llama)),
        "two-labels": LlamaForSequenceClassification(LlamaConfig(num_labels=2, **llama)),
        "gpt2": GPT2LMHeadModel(gpt2),
        "bert": BertForSequenceClassification(bert),
    }
    for name, model in made.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture
def saved(originals: Path, tmp_path: Path) -> Saved:
    """A copy of an original folder that the test may change."""

    def copy(name: str, changed: str = "config.json", **settings: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(originals / name, folder)
        if settings:
            file = folder / changed
            file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        return folder

    return copy


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in folder.iterdir()}


def test_a_policy_is_copied_probed_and_published(saved: Saved, tmp_path: Path) -> None:
    source = saved("policy")
    before = digests(source)
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    manifest = adopted.manifest
    assert (manifest.stage, manifest.kind, manifest.base_model, manifest.context) == ("adopt", "policy", "policy", 128)
    assert manifest.generation == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64}
    assert manifest.reward_offset is None
    assert manifest.template_hash == template_hash(tiny_models.tokenizer())
    assert checkpoints.resolve("adopt", tmp_path / "runs" / "checkpoints").manifest == manifest
    assert_weights_match(adopted)
    # The probe is the log-probability of each token after the first, by a forward of our own.
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    assert (
        manifest.probe["ids"][0]
        == tiny_models.row(
            tiny_models.tokenizer(),
            [
                {"role": "user", "content": "Name three colours."},
                {"role": "assistant", "content": "Red, green and blue."},
            ],
        ).ids
    )
    for ids, expected in zip(manifest.probe["ids"], manifest.probe["logprobs"], strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert [float(logprobs[i, token]) for i, token in enumerate(ids[1:])] == pytest.approx(expected, abs=1e-5)
    # The source is untouched, and no file is shared with it.
    assert digests(source) == before
    weights = "model.safetensors"
    assert (source / weights).stat().st_ino != (adopted.path / weights).stat().st_ino
    assert sha256_file(adopted.path / weights) == before[weights]


def test_a_reward_model_is_served_raw_with_its_offset(saved: Saved, tmp_path: Path) -> None:
    source = saved("reward")
    adopted = adopt(Config(str(source), reward_offset=-0.5, home=tmp_path / "runs"))
    manifest = adopted.manifest
    assert (manifest.kind, manifest.reward_offset, manifest.generation) == ("reward", -0.5, {})
    assert json.loads((adopted.path / "config.json").read_text())["problem_type"] == "regression"
    model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    for ids, expected in zip(manifest.probe["ids"], manifest.probe["rewards"], strict=True):
        with torch.no_grad():
            assert float(model(torch.tensor([ids])).logits) == pytest.approx(expected, abs=1e-5)
    assert adopt(Config(str(source), home=tmp_path / "runs")).manifest.reward_offset == 0.0


def test_another_architecture_without_a_chat_template_completes_text(saved: Saved, tmp_path: Path) -> None:
    source = saved("gpt2")
    (source / "chat_template.jinja").unlink()
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert (adopted.manifest.template_hash, adopted.manifest.context) == (None, 64)
    text = tiny_models.tokenizer()("Name three colours. Red, green and blue.")["input_ids"]
    assert adopted.manifest.probe["ids"][0] == text
    assert "completes text only" in next_steps(adopted, tmp_path / "runs")


def test_a_chat_template_can_be_given(saved: Saved, tmp_path: Path) -> None:
    source = saved("policy")
    template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    (tmp_path / "other.jinja").write_text(template)
    adopted = adopt(Config(str(source), chat_template=str(tmp_path / "other.jinja"), home=tmp_path / "runs"))
    # The template closes no turn with a token, so an answer ends with the end-of-sequence token.
    first = tiny_models.tokenizer()("[Name three colours.][Red, green and blue.")["input_ids"]
    assert adopted.manifest.probe["ids"][0] == [*first, tiny_models.tokenizer().eos_token_id]
    assert (adopted.path / "chat_template.jinja").read_text() == template
    assert (source / "chat_template.jinja").read_text() == tiny_models.TEMPLATE


def test_sampling_defaults_move_from_the_generation_config_to_the_manifest(saved: Saved, tmp_path: Path) -> None:
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "max_new_tokens": 50, "eos_token_id": [0, 1]}
    adopted = adopt(Config(str(saved("policy", "generation_config.json", **settings)), home=tmp_path / "runs"))
    assert adopted.manifest.generation == {"temperature": 0.6, "top_p": 1.0, "top_k": 20, "max_tokens": 50}
    left = json.loads((adopted.path / "generation_config.json").read_text())
    assert left["eos_token_id"] == [0, 1]
    assert not {"temperature", "top_k", "max_new_tokens", "do_sample"} & set(left)


def test_pickled_weights_are_converted(saved: Saved, tmp_path: Path) -> None:
    source = saved("policy")
    model = AutoModelForCausalLM.from_pretrained(source)
    (source / "model.safetensors").unlink()
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    adopted = adopt(Config(str(source), home=tmp_path / "runs"))
    assert set(adopted.manifest.weights) == {"model.safetensors"}
    assert not (adopted.path / "pytorch_model.bin").exists()
    again = AutoModelForCausalLM.from_pretrained(adopted.path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_command_prints_the_id_and_what_comes_next(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(saved("policy")), "--home", str(tmp_path / "runs")])
    printed = capsys.readouterr()
    (adopted,) = checkpoints.checkpoints(tmp_path / "runs" / "checkpoints")
    assert printed.out == adopted.id + "\n"
    assert f"--checkpoint {adopted.id} --suite tax" in printed.err


def set_config(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def spoil(folder: Path, fault: str) -> None:
    if fault == "weights cut":
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    elif fault == "pickle of another thing":
        (folder / "model.safetensors").unlink()
        torch.save({"x": folder.exists}, folder / "pytorch_model.bin")  # a bound method: not tensors only
    elif fault == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    elif fault == "manifest":
        (folder / "manifest.json").write_text("{}")
    elif fault == "generation settings cut":
        (folder / "generation_config.json").write_text("{")
    elif fault == "end beyond the vocabulary":
        (folder / "generation_config.json").write_text('{"eos_token_id": [0, 99999]}')
    elif fault == "weights not a number":
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"].fill_(torch.nan)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    elif fault == "context of one token":
        set_config(folder, max_position_embeddings=1)
    elif fault == "code of its own":
        set_config(folder, model_type="of_its_own", auto_map={"AutoConfig": "code.Config"})
        (folder / "code.py").write_text("raise SystemExit('the code of a checkpoint ran')\n")
    elif fault == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    else:
        (folder / fault).unlink()


@pytest.mark.parametrize(
    "name, fault, options, message",
    [
        ("policy", "config.json", {}, "has no config.json: give a folder that transformers saved"),
        ("policy", "model.safetensors", {}, "holds no weights: give a folder with .safetensors files"),
        ("policy", "weights cut", {}, "is not a whole safetensors file: fetch it again"),
        (
            "policy",
            "pickle of another thing",
            {},
            "its pickled weights cannot be converted, save them with safetensors",
        ),
        ("policy", "adapter", {}, "is a LoRA adapter: merge it"),
        ("policy", "manifest", {}, "has a manifest already: use its path or id"),
        ("policy", "no tokenizer", {}, "has no usable tokenizer: save one into it"),
        ("policy", "generation settings cut", {}, "generation_config.json is not valid JSON"),
        ("policy", "end beyond the vocabulary", {}, r"ends answers with token 99999 .* mend its eos_token_id"),
        ("policy", "weights not a number", {}, "the model computes numbers that are not finite"),
        ("policy", "context of one token", {}, "the model takes 1 tokens by its config.json"),
        ("policy", "code of its own", {}, "the config.json of .* cannot be used: .*custom code"),
        ("policy", None, {"kind": "reward"}, "is a policy model .LlamaForCausalLM.: leave --kind out"),
        ("policy", None, {"reward_offset": 1.0}, "--reward-offset belongs to a reward model"),
        ("policy", None, {"chat_template": "no.jinja"}, "no.jinja does not exist: give a Jinja file"),
        ("reward", "chat_template.jinja", {}, "a reward model scores conversations.* give --chat-template"),
        ("two-labels", None, {}, "has 2 labels and a reward model gives one score: adopt it with --label-weights"),
        ("bert", None, {}, "is an encoder .BertForSequenceClassification."),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(
    saved: Saved, tmp_path: Path, name: str, fault: str | None, options: dict[str, Any], message: str
) -> None:
    folder = saved(name)
    if fault is not None:
        spoil(folder, fault)
    with pytest.raises(UserError, match=message):
        adopt(Config(str(folder), home=tmp_path / "runs", **options))
    store = tmp_path / "runs" / "checkpoints"
    assert not store.exists() or list(store.iterdir()) == []


def test_a_reward_model_without_its_head_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = saved("policy", architectures=["LlamaForSequenceClassification"], num_labels=1)
    with pytest.raises(UserError, match=r"lacks 1 weight, such as `score.weight`: give a whole reward checkpoint"):
        adopt(Config(str(folder), home=tmp_path / "runs"))


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = saved("policy")
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_tokens(["colours"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"the tokenizer gives id \d+, which the model does not have"):
        adopt(Config(str(folder), home=tmp_path / "runs"))


@pytest.mark.parametrize("source", ["/no/such/folder", "./nowhere", "a/b/c"])
def test_a_missing_folder_is_one_sentence(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: give the folder that transformers saved, or a hub id"):
        adopt(Config(source, home=tmp_path / "runs"))


def test_code_of_a_checkpoint_is_not_offered_to_be_run(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any) -> str:
        raise AssertionError("the terminal was asked whether to run the checkpoint's code")

    monkeypatch.setattr("builtins.input", answer)
    folder = saved("policy")
    spoil(folder, "code of its own")
    with pytest.raises(UserError, match="cannot be used"):
        adopt(Config(str(folder), home=tmp_path / "runs"))


def test_a_template_that_refuses_a_plain_question_is_said(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved("policy")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('give a system turn [/INST] first') }}")
    adopted = adopt(Config(str(folder), home=tmp_path / "runs"))
    assert adopted.manifest.kind == "policy"
    output = "".join(capsys.readouterr())
    assert (
        "It answers no plain question: the chat template refuses the conversation: give a system turn [/INST] first"
        in output
    )
