"""`python -m training STAGE ...`: one stage of training a command."""

from __future__ import annotations

import importlib
import sys

from training.artifacts.errors import UserError, run_command
from training.configuration import STAGES


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in {"-h", "--help"}:
        print("usage: python -m training STAGE [--help] ...\n")
        for name, what in STAGES.items():
            print(f"  {name:10} {what}")
        return 0
    stage, arguments = sys.argv[1], sys.argv[2:]
    if stage not in STAGES:
        raise UserError(f"no stage {stage!r}: use one of {', '.join(STAGES)}")
    # A stage's module is imported only when asked for: `--help` of one must not load torch for all.
    module = importlib.import_module(f"training.{stage}")
    status: int | None = module.main(arguments)
    return status or 0


if __name__ == "__main__":
    sys.exit(run_command(main))
