"""`python -m training STAGE ...`: one command per stage, and the commands around them."""

from __future__ import annotations

import importlib
import os
import sys

from training.artifacts.errors import UserError, run_command
from training.artifacts.progress import CONSOLE
from training.runtime.configuration import COMMANDS, STAGES

MODULES = {stage: f"training.stages.{stage}" for stage in STAGES} | {
    "data": "training.data.report",
    "world": "training.loop.world",
    "demo": "training.loop.demo",
    "loop": "training.loop.turn",
    "real": "training.loop.real",
    "accuracy": "training.stages.accuracy",
    "drift": "training.stages.drift",
    "push": "training.registry.push",
    "pull": "training.registry.pull",
    "clean": "training.runtime.cleaning",
}
TRAINED = ("pretrain", "sft", "reward", "ppo", "dpo")  # stages that run in several processes too


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in {"-h", "--help"}:
        print("usage: python -m training STAGE [--help] ...\n")
        for title, group in (("stages", STAGES), ("commands", COMMANDS)):
            print(f"{title}:")
            for name, what in group.items():
                print(f"  {name:10} {what}")
        return 0
    stage, arguments = sys.argv[1], sys.argv[2:]
    if stage not in MODULES:
        raise UserError(f"no stage {stage!r}: use one of {', '.join(MODULES)}")
    processes = os.environ.get("WORLD_SIZE", "1")
    if stage not in TRAINED and processes != "1":
        if os.environ.get("RANK", "0") != "0":
            return 2
        raise UserError(
            f"{stage} runs in one process, and WORLD_SIZE is {processes}: start it without torchrun or accelerate "
            f"launch, which are for {', '.join(TRAINED)}"
        )
    # Threads of OpenMP that wait spin by default for milliseconds, in which those waited for get no core where another
    # process takes part of one, such as an engine that serves beside the training (docs/log.md, 2026-11-27).
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # read when torch is imported
    # A stage's module is imported only when asked for: `--help` of one must not load torch for all.
    module = importlib.import_module(MODULES[stage])
    status: int | None
    if stage not in TRAINED:
        status = module.main(arguments)
        return status or 0
    from training.runtime import launchers, ranks  # imports torch, as the stage's module did

    with ranks.group():
        if ranks.count() > 1 and (sentence := launchers.check()) is not None:
            CONSOLE.print(sentence, highlight=False)
        status = module.main(arguments)
    return status or 0


if __name__ == "__main__":
    sys.exit(run_command(main))
