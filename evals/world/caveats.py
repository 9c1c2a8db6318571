"""What a reader of figures from the miniature world must know."""

from __future__ import annotations

from evals.results import Result

CAVEATS = (
    "The miniature world is a testbed: a tiny model, generated text, simulated labelers, a preference that is known.",
    "The gain in truth is a shift of register that this world makes learnable: its text holds the truth in one "
    "register (the almanac) and the myth in others, and feedback teaches which register to answer in. It is not new "
    "knowledge.",
    "The mean reward comes from the reward model that PPO was trained against, so it overstates the gain; compare it "
    "with the true preference beside it.",
    "Win rates, truth and honesty are judged by the world's own rules, toxicity by a small model trained on generated "
    "comments.",
    "The base model is prompted with plain text, and once more with a few answered examples before it; the other "
    "models through their chat template.",
)


def is_of_world(result: Result) -> bool:
    """Whether a result was measured on the miniature world."""
    return any(name == "world" or name.startswith("world:") for name in result.data)
