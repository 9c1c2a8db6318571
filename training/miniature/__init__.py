"""The bundled miniature world: text, tasks, people and a known true preference, all from one seed.

It is a testbed. A model of about a million parameters learns it in minutes, and since the true preference is
known, every claim about training on human preferences can be checked in it.
"""

from training.miniature.judge import Verdict, is_rude, judge
from training.miniature.labelers import Labeler, agreement, best_accuracy
from training.miniature.plain import few_shot_prefix, few_shot_prompt, plain_prompt
from training.miniature.prompts import Demonstration, Prompt
from training.miniature.world import WORLD_VERSION, World

__all__ = [
    "WORLD_VERSION",
    "Demonstration",
    "Labeler",
    "Prompt",
    "Verdict",
    "World",
    "agreement",
    "best_accuracy",
    "few_shot_prefix",
    "few_shot_prompt",
    "is_rude",
    "judge",
    "plain_prompt",
]
