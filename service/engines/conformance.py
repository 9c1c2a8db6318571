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


def check(checkpoint: Checkpoint, url: str, dtype: str, key: str | None = None) -> None:
    """Compare the engine at `url` with the renderer's prompts and with the manifest's probe.

    Args:
        dtype: what the engine computes in; `float32` is held to 1e-3 for log-probabilities, 1e-4 for rewards.

    Raises:
        Permanent: it differs; the message says where.
        Transient: the engine did not answer, which says nothing of the checkpoint.
        UserError: the engine refused a question.
    """
    logprob_tolerance, reward_tolerance = TOLERANCES.get(dtype, HALF_PRECISION)
    _check_tokens(checkpoint, url, key)
    probe = checkpoint.manifest.probe
    rows = probe.get("ids") or []
    if checkpoint.manifest.kind == "reward":
        if rows:
            actual = client.raw_scores(url, checkpoint.id, rows, key)
            _compare(checkpoint, "rewards", actual, probe["rewards"], reward_tolerance)
        return
    for ids, expected in zip(rows, probe.get("logprobs") or [], strict=True):
        actual = client.logprobs(url, checkpoint.id, ids, key)
        _compare(checkpoint, "log-probabilities", actual, expected, logprob_tolerance)


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
