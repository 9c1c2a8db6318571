"""Errors that speak to the operator, and how commands end."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the operator can correct. The message is one sentence that names the fix."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command's `main` and turn its result or exception into an exit status.

    Returns:
        main's own status (None counts as 0); 2 after a `UserError`, printed as one line;
        130 after Ctrl-C. Any other exception is a bug and keeps its traceback.
    """
    try:
        return main() or 0
    except UserError as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped, no partial files left: run the same command to resume", file=sys.stderr)
        return 130
