"""The required packages are those that the code imports, and all of them are locked."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parent.parent
PACKAGES = ("training", "service", "evals", "docs", "deploy", "tests")
# Packages that no file imports, and why they are needed all the same; and what is imported without being named.
NOT_IMPORTED = {
    "import-linter": "make lint",
    "mypy": "make lint",
    "pytest-timeout": "`timeout` in pyproject.toml",
    "python-multipart": "FastAPI reads forms with it",
    "ruff": "make lint",
    "s3fs": "fsspec of s3://",
    "tenacity": "lm-eval's models of an OpenAI server",
    "tensorboard": "torch.utils.tensorboard writes with it",
    "types-pyyaml": "mypy",
}
NOT_NAMED = {"torch": "each variant has its own: lock.sh", "vllm": "each variant has its own: lock.sh"}
# Imported by tests alone, yet needed to run: others import them.
NEEDED_BY_OTHERS = {
    "gguf": "transformers reads GGUF files with it",
    "psycopg": "SQLAlchemy's driver of postgresql:// addresses",
}


@cache
def imported() -> dict[str, set[str]]:
    """Top-level module -> our packages that import it."""
    importers: dict[str, set[str]] = defaultdict(set)
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in {m.split(".")[0] for m in modules} - set(sys.stdlib_module_names) - set(PACKAGES):
                importers[module].add(path.relative_to(ROOT).parts[0])
    return importers


def listed() -> tuple[set[str], set[str]]:
    """Names of requirements.in: for running, for developing."""
    running, developing = (ROOT / "requirements/requirements.in").read_text().split("# Developing")
    return _names(running), _names(developing)


def _names(lines: str) -> set[str]:
    return {normal(name) for name in re.findall(r"^([\w.-]+)", lines, re.MULTILINE)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def modules_of(name: str) -> set[str]:
    """Top-level modules of an installed distribution. Only listed ones are asked: to read all takes ten seconds."""
    distribution = importlib.metadata.distribution(name)
    named = (distribution.read_text("top_level.txt") or "").split()
    return set(named) or {
        file.parts[0].removesuffix(".py") for file in distribution.files or () if file.suffix == ".py"
    }


def test_requirements_are_what_is_imported() -> None:
    running, developing = listed()
    distributions: dict[str, set[str]] = defaultdict(set)
    for name in running | developing:
        for module in modules_of(name):
            distributions[module].add(name)
    users: dict[str, set[str]] = {}
    for module, packages in imported().items():
        for name in distributions.get(module) or {normal(module)}:
            users[name] = packages
    needed = {name for name in users if name not in NOT_NAMED}
    assert needed - running - developing == set(), "imported, but not in requirements.in"
    assert running | developing == needed | set(NOT_IMPORTED), "in requirements.in, but imported nowhere"
    assert set(NOT_IMPORTED) & needed == set(), "imported after all"
    for name in needed:
        only_for_work = not users[name] & {"training", "service", "evals"} and name not in NEEDED_BY_OTHERS
        assert name in (developing if only_for_work else running), f"{name}: in the other section of requirements.in"


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_what_is_required_is_locked(variant: str) -> None:
    locked = {normal(line.split("==")[0]) for line in (ROOT / f"requirements/{variant}.txt").read_text().splitlines()}
    running, developing = listed()
    assert (running | developing) - locked == set()
