"""The seed of every sampled answer.

An engine turns a seed into the same noise whatever the prompt. One seed for many prompts would shift all their answers
together (for example towards one register), and intervals over items would be far too narrow. So each answer has a
seed of its own, the same for every system: paired comparisons keep common noise within an item, never between items.
"""

from __future__ import annotations

import hashlib
import json

RULE = "of each answer its own, from (run seed, suite, item, prompt hash, sample number); in the items file"


def answer_seed(run_seed: int, suite: str, item: str, prompt_hash: str, sample: int = 0) -> int:
    """Seed of one sampled answer, from 0 to 2^48 - 1.

    Args:
        run_seed: of the evaluation; another one draws all answers anew.
        sample: number of the request among several for one prompt. Of several samples in one request, number i gets
            this seed + i, as vLLM counts them; among 2^48, two items' stretches hardly ever meet.
    """
    name = json.dumps([run_seed, suite, item, prompt_hash, sample])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
