"""`python -m evals COMMAND ...`: the harness's commands under one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from training.artifacts.errors import UserError, run_command

COMMANDS = {
    "run": "evaluate checkpoints that a service serves, and write results and a report",
    "gate": "test a candidate's results against a baseline's",
    "report": "write the table and the page of a run again",
    "judges": "train an offline judge of toxicity or of TruthfulQA answers",
}
MODULES = {name: f"evals.{name}" for name in COMMANDS} | {"judges": "evals.judges.__main__"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. `python -m evals.run` and `python -m evals run` are the same."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        print("usage: python -m evals COMMAND [--help] ...\n\ncommands:")
        for name, purpose in COMMANDS.items():
            print(f"  {name:10} {purpose}")
        return 0
    if words[0] not in MODULES:
        raise UserError(f"no command {words[0]!r}: use one of {', '.join(MODULES)}")
    # Imported only when asked for: --help must not load the harness.
    status: int | None = importlib.import_module(MODULES[words[0]]).command(words[1:])
    return status or 0


if __name__ == "__main__":
    sys.exit(run_command(main))
