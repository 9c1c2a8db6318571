"""Small files in the layouts of the human data sets, and a preset with which the loop on them takes seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.support.tiny_models import sentences, tokenizer

CONTEXT = 2048  # tokens
PRESET = """
[reward]
data = "{home}/human/training.jsonl"
validation = "{home}/human/development.jsonl"
learning_rate = 1e-3
batch = 32
[dpo]
data = "{home}/human/training.jsonl"
validation = "{home}/human/development.jsonl"
learning_rate = 1e-3
batch = 32
[ppo]
prompts = "{home}/human/questions-training.jsonl"
iterations = 1
batch = 8
minibatch = 8
max_tokens = 8
ptx_coefficient = 0.1
ptx_documents = 2
"""


def write(folder: Path, pairs: int = 240) -> dict[str, Path]:
    """Files of every kind that the loop on real data reads; name -> file."""
    texts = iter(sentences(4 * pairs + 400, seed=3, longest=10))
    rng = random.Random(0)
    questions = [f"{number} {next(texts)}" for number in range(pairs)]
    hh = [{"chosen": _talk(question, next(texts)), "rejected": _talk(question, next(texts))} for question in questions]
    hellaswag = [
        {"ind": n, "activity_label": "Walking", "ctx_a": f"{n} {next(texts)} a", "ctx_b": "", "ctx": "", "label": n % 4,
         "endings": [f"{next(texts)} {end}" for end in "abcd"]}
        for n in range(6)
    ]  # fmt: skip
    piqa = [
        {"query": f"Question: {n}?\nAnswer:", "choices": [next(texts), f"{n} of them"], "gold": 0} for n in range(6)
    ]
    truth = [
        {"question": f"What is {n}?", "mc1_targets": {f"It is {n}.": 1, "It is the sea.": 0}, "mc2_targets": {"a": 1}}
        for n in range(6)
    ]
    rng.shuffle(hh)
    prompts = [{"id": f"p{n}", "prompt": f"Write {n} words: {next(texts)}"} for n in range(40)]
    rows: dict[str, list[Any]] = {
        "hh": hh, "hellaswag": hellaswag, "piqa": piqa, "truthfulqa": truth, "prompts": prompts
    }  # fmt: skip
    files = {name: folder / f"{name}.jsonl" for name in rows}
    for name, file in files.items():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
    files["preset"] = folder / "tiny.toml"
    files["preset"].write_text(PRESET)
    files["text"] = folder / "text.txt"
    files["text"].write_text("\n\n".join(sentences(60, seed=5)))
    return files


def save_model(folder: Path) -> Path:
    """A random Llama as transformers saves it, with a context that takes TruthfulQA's prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tok = tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=CONTEXT, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def arguments(files: dict[str, Path], model: Path, home: Path) -> list[str]:
    """Options of `python -m training real` on these files."""
    items = [f"{name}={files[name]}" for name in ("hellaswag", "piqa", "truthfulqa")]
    return [
        "--model", str(model), "--home", str(home), "--preset", str(files["preset"]), "--data", str(files["hh"]),
        "--prompts", str(files["prompts"]), "--text", str(files["text"]), "--eval-data", *items,
    ]  # fmt: skip


def _talk(question: str, answer: str) -> str:
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"
