"""A program that trains one step, and says what was planned and what was taken: JSON with bytes.

python -m tests.support.peak_memory STAGE HOME OPTIONS...
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import psutil

from training.models import memory
from training.stages import ppo, reward, sft

STAGES = {"sft": sft.main, "reward": reward.main, "ppo": ppo.main}


def main(stage: str, *options: str) -> None:
    before: dict[str, int] = {}
    plan = memory.plan

    def noting(needs: Any, activations: Any, **arguments: Any) -> Any:
        budget, sentence = plan(needs, activations, **arguments)
        tokens = max(arguments["longest"], min(budget.tokens, arguments["most"]))
        before["loaded"] = psutil.Process().memory_info().rss
        before["planned"] = sum(need.bytes for need in needs) + activations.of(tokens)
        return budget, sentence

    memory.plan = noting
    STAGES[stage](options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(before | {"peak": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
