"""Whether an engine serves the checkpoint that was published: same token ids, same numbers."""

from __future__ import annotations

from typing import Any

from service.engines import client
from service.engines.failures import Permanent
from service.tokenizers import load_tokenizer, renderer_for
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.conversations import Refusal

CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hello, world!"}],
    [{"role": "user", "content": "  Two spaces,\n\na blank line and a tab\t.  "}],
    [
        {"role": "user", "content": "Name 3 rivers."},
        {"role": "assistant", "content": "Rhine, Nile, Yangtze."},
        {"role": "user", "content": "Which is the longest?"},
    ],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Où est l'été ? 🌞"},
        {"role": "assistant", "content": "Ici."},
        {"role": "user", "content": "Thanks"},
    ],
]
# The probe was computed in float32; half precision keeps about three digits.
TOLERANCES = {"float32": (1e-3, 1e-4)}
HALF_PRECISION = (0.15, 0.15)


def check(checkpoint: Checkpoint, url: str, dtype: str, key: str | None = None, context: int | None = None) -> None:
    """Compare the engine at `url` with the renderer's prompts and with the manifest's probe.

    Args:
        dtype: what the engine computes in; `float32` is held to 1e-3 for log-probabilities, 1e-4 for rewards.
        context: greatest number of tokens that the engine takes, with the answer; the checkpoint's when None.

    Raises:
        Permanent: it differs; the message says where.
        Transient: the engine did not answer, which says nothing of the checkpoint.
        UserError: the engine refused a question.
    """
    logprob_tolerance, reward_tolerance = TOLERANCES.get(dtype, HALF_PRECISION)
    _check_tokens(checkpoint, url, key)
    probe = checkpoint.manifest.probe
    rows = probe.get("ids") or []
    limit = context or checkpoint.manifest.context
    if checkpoint.manifest.kind == "reward":
        fitting = [
            (row, reward) for row, reward in zip(rows, probe.get("rewards") or [], strict=True) if len(row) <= limit
        ]
        if rows and not fitting:
            shortest = min(len(row) for row in rows)
            raise Permanent(
                f"the probe of {checkpoint.id} needs a context of {shortest} tokens, the engine has {limit}"
            )
        if fitting:
            actual = client.raw_scores(url, checkpoint.id, [row for row, _ in fitting], key)
            _compare(checkpoint, "rewards", actual, [reward for _, reward in fitting], reward_tolerance)
        return
    for ids, expected in zip(rows, probe.get("logprobs") or [], strict=True):
        # vLLM wants room for an answer, also where none is asked for; a text's beginning has the same values.
        begun = ids[: limit - 1]
        actual = client.logprobs(url, checkpoint.id, begun, key)
        _compare(checkpoint, "log-probabilities", actual, expected[: len(begun) - 1], logprob_tolerance)


def _check_tokens(checkpoint: Checkpoint, url: str, key: str | None) -> None:
    tokenizer = load_tokenizer(checkpoint.path)
    if not getattr(tokenizer, "chat_template", None):
        return
    manifest = checkpoint.manifest
    renderer = renderer_for(checkpoint.path, manifest.system, manifest.stop_ids)
    for messages, expected in zip(CONVERSATIONS, renderer.prompts(CONVERSATIONS), strict=True):
        turns = renderer.usable(messages)
        if isinstance(expected, Refusal) or isinstance(turns, Refusal):
            continue  # a template may refuse a role or an order: such a conversation is never served
        if client.tokenize(url, checkpoint.id, turns, generation=True, key=key) != expected.ids:
            raise Permanent(
                f"the engine of {checkpoint.id} tokenizes a conversation differently than training did: "
                "publish the checkpoint again with its own tokenizer and chat template"
            )


def _compare(checkpoint: Checkpoint, what: str, actual: list[float], expected: list[Any], tolerance: float) -> None:
    if len(actual) != len(expected):
        raise Permanent(f"the engine of {checkpoint.id} gave {len(actual)} {what} for a probe of {len(expected)}")
    worst = max((abs(a - float(b)) for a, b in zip(actual, expected, strict=True)), default=0.0)
    if not worst <= tolerance:
        raise Permanent(
            f"the engine of {checkpoint.id} does not reproduce its probe: {what} differ by up to {worst:.2g} "
            f"(allowed {tolerance:g}); check the weights and the engine's dtype"
        )
