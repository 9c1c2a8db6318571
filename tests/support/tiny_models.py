"""Tiny random checkpoints, built and saved by transformers alone, so that they look like any Hugging Face model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.artifacts.checkpoints import Checkpoint, publish, staging
from training.artifacts.rendering import Rendered, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Tools are told as Hermes does; without them every conversation reads as it would without this part.
TEMPLATE = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "Call a tool by <tool_call>JSON</tool_call>.{% endif %}"
    "{% for m in messages %}<|{{ 'user' if m['role'] == 'tool' else m['role'] }}|>{{ m['content'] or '' }}"
    "{% for call in m['tool_calls'] or [] %}<tool_call>{{ call['function'] | tojson }}</tool_call>{% endfor %}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
WORDS = [
    "the", "a", "of", "and", "to", "in", "is", "it", "that", "was", "for", "on", "are", "with", "they", "at", "one",
    "have", "this", "from", "by", "hot", "but", "some", "what", "there", "we", "can", "out", "other", "were", "all",
    "your", "when", "up", "use", "word", "how", "said", "each", "she", "which", "do", "their", "time", "if", "will",
    "way", "about", "many", "then", "them", "would", "write", "like", "so", "these", "her", "long", "make", "thing",
    "see", "him", "two", "has", "look", "more", "day", "could", "go", "come", "did", "my", "sound", "no", "most",
    "number", "who", "over", "know", "water", "than", "call", "first", "people", "may", "down", "side", "been", "now",
]  # fmt: skip
CONTEXT = 256  # tokens


def sentences(count: int, seed: int, longest: int = 24) -> list[str]:
    """Random sentences of up to `longest` common words, with some punctuation, digits and accents."""
    rng = random.Random(seed)
    ends = [".", "?", "!", " 42.", " café.", ' "quoted".', "…", ""]
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) + rng.choice(ends) for _ in range(count)]


def conversations(count: int, seed: int) -> list[list[dict[str, str]]]:
    """Random conversations of one to three turns, some with a system prompt, each ending with the user."""
    rng = random.Random(seed)
    texts = iter(sentences(count * 8, seed + 1, longest=12))
    result = []
    for _ in range(count):
        messages = [{"role": "system", "content": next(texts)}] if rng.random() < 0.3 else []
        for _ in range(rng.randint(0, 2)):
            messages += [{"role": "user", "content": next(texts)}, {"role": "assistant", "content": next(texts)}]
        result.append([*messages, {"role": "user", "content": next(texts)}])
    return result


@cache
def _trained() -> str:
    """A byte-level BPE tokenizer trained on a few hundred sentences, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(sentences(400, seed=0), trainer)
    return str(raw.to_str())


def tokenizer() -> PreTrainedTokenizerFast:
    """A new tokenizer with a chat template, each time the same."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIAL[2:],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def row(tokenizer: Any, conversation: Sequence[Any], *, generation: bool = False, learn: bool = False) -> Rendered:
    """One rendered conversation, which must not be refused."""
    renderer = Renderer(tokenizer)
    (rendered,) = renderer.prompts([conversation]) if generation else renderer.render([conversation], learn=learn)
    assert isinstance(rendered, Rendered), rendered
    return rendered


def publish_tiny(
    store: Path,
    kind: str = "policy",
    seed: int = 0,
    *,
    context: int = CONTEXT,
    spread: float = 0.3,
    train: Callable[[Any, Any], None] | None = None,
) -> Checkpoint:
    """Publish a random two-layer Llama in float32 with its probe.

    Args:
        store: folder of checkpoints.
        kind: `policy`, or `reward` for a reward model with offset 0.5.
        seed: of the random weights.
        context: in tokens.
        spread: standard deviation of the random weights. As large as it is they give peaked, text-dependent
            distributions: ties of greedy choices would be flaky.
        train: changes the model before it is published; it is given the model and the tokenizer.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    tok = tokenizer()
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,  # heads of size 32, the smallest that vLLM's attention on CPU supports
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
        num_labels=1,
        initializer_range=spread,
    )
    torch.manual_seed(seed)
    build = LlamaForCausalLM if kind == "policy" else LlamaForSequenceClassification
    model = build(config)
    if train is not None:
        train(model, tok)
    model.eval()
    probe_ids = [row(tok, [*c, {"role": "assistant", "content": "so it is"}]).ids for c in conversations(3, seed=9)]
    with torch.no_grad():
        outputs = [model(input_ids=torch.tensor([ids])).logits[0] for ids in probe_ids]
    probe: dict[str, Any] = {"ids": probe_ids}
    if kind == "policy":
        # Log-probability of each token but the first, given those before it.
        logprobs = [
            logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            for logits, ids in zip(outputs, probe_ids, strict=True)
        ]
        probe["logprobs"] = [row.tolist() for row in logprobs]
    else:
        probe["rewards"] = [float(logits.reshape(-1)[-1]) for logits in outputs]
    folder = staging(store)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return publish(
        folder,
        store,
        stage="tiny" if kind == "policy" else "tiny-reward",
        kind="policy" if kind == "policy" else "reward",
        tokenizer=tok,
        context=context,
        generation={"temperature": 1.0, "top_p": 1.0, "max_tokens": 32} if kind == "policy" else None,
        reward_offset=None if kind == "policy" else 0.5,
        probe=probe,
        seed=seed,
    )
