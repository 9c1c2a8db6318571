"""Programs that tests need and that `make setup` does not install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

TOOLS = Path(__file__).parents[2] / ".tools/bin"  # of `make tools`


def tool(name: str, install: str) -> str:
    """A command's path: of .tools, else of the system. Without it the test is skipped, in CI it fails.

    Args:
        install: how it comes to this machine.
    """
    path = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    return path if path is not None else missing(f"{name} is not installed: {install}")


def missing(what: str) -> NoReturn:
    """Skip the test for what this machine does not have; where CI is set, fail it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
