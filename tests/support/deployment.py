"""What the tests of deploy/ share: its tools, rendered overlays, and command lines read by the real parsers."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import service.__main__ as service_commands
import training.__main__ as training_commands
from deploy.check import Object
from evals import options
from tests.support.programs import tool
from training.runtime.configuration import parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MAKE_TOOLS = "run `make tools`"
OVERLAYS = tuple(f"{name}{part}" for name in ("cpu-trial", "gpu-production") for part in ("", "/jobs", "/pull"))
OBJECT_STORE = """\
CHECKPOINTS_URL=s3://models/alignloop
CHECKPOINT=sft-1
AWS_ACCESS_KEY_ID=three
AWS_SECRET_ACCESS_KEY=four
AWS_DEFAULT_REGION=us-east-1
"""
SECRETS = {
    "cpu-trial/secrets.env": "ALIGNLOOP_DATABASE=postgresql://alignloop@postgres/alignloop\nPGPASSWORD=one\n",
    "gpu-production/secrets.env": "ALIGNLOOP_DATABASE=postgresql://a@db.example:5432/b\nPGPASSWORD=one\n",
    "cpu-trial/jobs/keys.env": "ALIGNLOOP_KEY=two\n",
    "gpu-production/jobs/keys.env": "ALIGNLOOP_KEY=two\n",
    "cpu-trial/pull/object-store.env": OBJECT_STORE,
    "gpu-production/pull/object-store.env": OBJECT_STORE,
}


def copied(folder: Path, *, secrets: bool = True) -> Path:
    """The folder of overlays in a copy of deploy/, with secrets filled in."""
    shutil.copytree(
        DEPLOY, folder / "deploy", ignore=shutil.ignore_patterns("*secrets.env", "keys.env", "object-store.env", ".env")
    )
    overlays = folder / "deploy/kubernetes/overlays"
    for name, text in SECRETS.items() if secrets else ():
        (overlays / name).write_text(text)
    return overlays


def render(overlay: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("kubectl", MAKE_TOOLS), "kustomize", str(overlay)], capture_output=True, text=True)


def parsed(text: str) -> list[Object]:
    return [item for item in yaml.safe_load_all(text) if item]


@cache
def bases() -> dict[str, str]:
    """Images that are not built here, by their variable."""
    lines = (DEPLOY / "images/bases.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def entry_point(image: str) -> list[str]:
    """What an image of ours puts before the arguments of its container."""
    return [] if image.startswith("alignloop-trainer") else ["python", "-m", "service"]


def read_command(words: Sequence[str]) -> Any:
    """Have the real parser read a command line of a container. Raises SystemExit or `UserError` for a wrong one."""
    words = list(words)
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        torchrun = get_args_parser().parse_args(words[1:])
        assert torchrun.module
        words = ["python", "-m", torchrun.training_script, *torchrun.training_script_args]
    assert words[:2] == ["python", "-m"], words
    package, *rest = words[2:]
    if package == "service":
        return service_commands.parser().parse_args(rest)
    if package == "evals":
        import tyro

        assert rest[0] == "run"
        return tyro.cli(options.Config, args=rest[1:])
    assert package == "training", words
    module = importlib.import_module(training_commands.MODULES[rest[0]])
    return parse(module.Config, rest[0], rest[1:])
