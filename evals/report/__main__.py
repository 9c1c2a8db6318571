"""`python -m evals.report DIR`."""

from __future__ import annotations

import sys

from evals.report import command
from training.artifacts.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(command))
