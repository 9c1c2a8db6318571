"""Tokenizers: byte-level, so that nothing is unknown, with a chat template whose prefixes are stable."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.data import reading
from training.data.reading import Selection
from training.data.usage import SourceUsage, Usage
from training.runtime.configuration import parse
from training.stages import limits

END, PAD = "<|endoftext|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (END, PAD, *ROLES)

# Text starts with the end token of the document before it, in pretraining and in conversations alike; the same
# token ends an assistant turn. A turn never changes what stands before it, so the assistant's tokens can be found.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Config:
    """Train a tokenizer on text."""

    data: tuple[str, ...]
    """Text: .txt or .jsonl files, folders or hub ids (ID[:configuration][@split])."""
    name: str = "default"
    """The tokenizer is saved as HOME/tokenizer/NAME."""
    kind: Literal["bpe", "words"] = "bpe"
    """`bpe`: byte pairs merged as often as they occur. `words`: each of the commonest words, and each punctuation
    mark, is one token, and any other word is spelt in bytes; fit for small worlds of simple text."""
    vocab_size: int = 8192
    """Greatest number of tokens, special tokens and the 256 bytes included."""
    limit: int | None = None
    """Use this many documents at most, drawn at random."""
    seed: int = 0
    """Seed of that draw, and of the world where `{world}` names one."""
    home: Path = Path("runs")
    """Where everything is written."""


def train(config: Config) -> Path:
    """Train a tokenizer and save it as a transformers folder, replacing one of the same name. Returns the folder."""
    limits.check_name(config.name)
    if config.vocab_size <= 256 + len(SPECIAL):
        raise UserError(f"--vocab-size {config.vocab_size} leaves no room: bytes and special tokens take 261")
    selection = reading.select(reading.DOCUMENTS, config.data, limit=config.limit, seed=config.seed)
    sources = tuple(SourceUsage(path, reading.fingerprint(path, reading.DOCUMENTS)[0]) for path in selection.sources)
    build = byte_pairs if config.kind == "bpe" else whole_words
    with progress.bar("tokenizer from text"):
        tokenizer = build(documents(selection, sources), config.vocab_size)
    limits.report(Usage(selection.role, sources, sum(s.rows - sum(s.skipped.values()) for s in sources)))
    folder = config.home / "tokenizer" / config.name
    _save(tokenizer, folder)
    return folder


def documents(selection: Selection, sources: Sequence[SourceUsage]) -> Iterator[str]:
    """The documents one by one, as often as their source's weight says in whole numbers, at least once."""
    for entry in reading.entries(selection, reading.DOCUMENTS, sources):
        for _ in range(max(1, round(selection.weights[entry.source]))):
            yield entry.record


def byte_pairs(texts: Iterable[str], vocab_size: int) -> Any:
    """Byte-level BPE (GPT-2's pre-tokenizer)."""
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    raw.decoder = decoders.ByteLevel()
    return _wrap(raw)


def whole_words(texts: Iterable[str], vocab_size: int) -> Any:
    """One token per common word, wherever it stands; `ignore_merges` takes whole words from the vocabulary."""
    # Every word gets a space before it, also the first of a text, so that it is the same token everywhere.
    before = pre_tokenizers.ByteLevel(add_prefix_space=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = (piece for word, _ in counts.most_common() for piece in _pieces(before, word))
    vocab = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    for piece in pieces:
        if len(vocab) == vocab_size:
            break
        vocab.setdefault(piece, len(vocab))
    raw = Tokenizer(BPE(vocab=vocab, merges=[], ignore_merges=True))
    raw.normalizer = normalizers.Strip()
    raw.pre_tokenizer = before
    raw.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return _wrap(raw)


def _pieces(before: Any, word: str) -> Iterator[str]:
    return (piece for piece, _ in before.pre_tokenize_str(word))


def _wrap(raw: Tokenizer) -> Any:
    """As transformers' tokenizer: special tokens, chat template, and a begin token for plain text."""
    end = raw.token_to_id(END)
    # `tokenizer(text)` and an engine's /v1/completions add it; the chat template brings its own.
    raw.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, end)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _save(tokenizer: Any, folder: Path) -> None:
    """Save beside the final place, then rename: no half tokenizer under its name."""
    temporary = folder.parent / f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """`python -m training tokenizer`."""
    print(train(parse(Config, "tokenizer", arguments)))
    return 0
