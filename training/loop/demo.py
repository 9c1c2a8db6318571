"""The first turn of the loop on the miniature world, from nothing to a served, measured policy.

Every step is a command that works by itself; this file only runs them in order, remembers their results, and
ends what it started. A second run resumes where the first ended.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from training.artifacts import processes
from training.loop import checks, serving
from training.loop.client import Service
from training.loop.steps import Results, show
from training.runtime import runs
from training.runtime.configuration import parse, preset_file

print_status = runs.CONSOLE.print
ALIASES = {"policy/production": "ppo-ptx", "policy/baseline": "sft", "reward/production": "reward"}
MEASURED = ("ppo", "pretrain")  # beside those of the aliases, and served for that only
COLLECTED = ("policy/production", "policy/candidate", "policy/baseline")
TEMPERATURE = "0.8"  # sampled, as for people who use the models; a model this small rambles at 1
RANKED, LABELERS = 420, 10  # prompts and simulated labelers of the second turn: at least as many labelers


@dataclass(frozen=True)
class Config:
    """Run the first turn of the loop on the miniature world, then serve it."""

    preset: str = "demo"
    """Preset of every stage: demo, or a TOML file of your own with the same tables."""
    seed: int = 0
    """Seed of the world and of every stage. Turns of several seeds may share a home."""
    home: Path = Path("runs")
    """Where everything is written."""
    port: int = 8000
    """Port of the service."""
    locked: bool = False
    """Measure on the world's locked items, as for published figures."""
    check: bool = False
    """Also run the second turn, check the service over HTTP, end everything and exit."""


class Steps(Results):
    """The demo's steps: each stage with the demo's preset, seed and home."""

    def __init__(self, config: Config) -> None:
        preset = preset_file(config.preset)
        common = ["--preset", config.preset, "--seed", str(config.seed), "--home", str(config.home)]
        key = hashlib.sha256(preset.read_bytes()).hexdigest()
        super().__init__(config.home, f"demo-{preset.stem}-{config.seed}.json", key, common)
        self.config = config


def demo(config: Config) -> int:
    """Train, serve, measure; then serve until Ctrl-C, or run the second turn, check and leave."""
    serving.check_port(config.port)
    started = time.monotonic()
    steps = Steps(config)
    _train(steps)
    print_status(f"trained: {(time.monotonic() - started) / 60:.1f} minutes")
    with ExitStack() as stack:
        service = _serve(steps, stack)
        print_status(f"served: {(time.monotonic() - started) / 60:.1f} minutes")
        report = _measure(steps, service)
        print_status(f"first turn done in {(time.monotonic() - started) / 60:.1f} minutes")
        if config.check:
            second = time.monotonic()
            _second_turn(steps, service)
            print_status(f"second turn done in {(time.monotonic() - second) / 60:.1f} minutes")
            checks.run(service, RANKED, LABELERS)
            return 0
        _welcome(steps, service, report)
        serving.until_interrupted()
    return 0


def _train(steps: Steps) -> None:
    """Every stage of the first turn. Those that need nothing of each other run side by side.

    Models are named by id: the newest of a stage may be of another seed or of a later turn.
    """
    steps.run({"world": steps.stage("world")})
    steps.run({"tokenizer": steps.stage("tokenizer")})
    [base] = steps.run({"pretrain": steps.stage("pretrain")})
    [sft] = steps.run({"sft": steps.stage("sft", "--model", base)})
    steps.run({"sample": steps.stage("sample", "--model", sft)})
    [reward] = steps.run({"reward": steps.stage("reward", "--model", sft)})
    ppo = steps.stage("ppo", "--model", sft, "--reward", reward)
    steps.run({"ppo-ptx": ppo, "ppo": [*ppo, "--ptx-coefficient", "0"]})


def _serve(steps: Steps, stack: ExitStack) -> Service:
    """Start gateway and engines, and wait until the aliases' checkpoints are served, and those still to be measured."""
    config, results = steps.config, steps.results
    return serving.serve(
        config.home,
        config.port,
        "demo",
        {alias: results[step] for alias, step in ALIASES.items()},
        Path(results["world"]) / "prompts-collect.jsonl",
        _served(steps)[len(ALIASES) :],
        {"ALIGNLOOP_COLLECT_POLICIES": json.dumps(COLLECTED)},
        stack,
    )


def _served(steps: Steps) -> list[str]:
    """Checkpoints that need an engine: those of the aliases and, until the turn is measured, all that is compared."""
    measured = () if _is_measured(steps) else MEASURED
    return [steps.results[step] for step in (*ALIASES.values(), *measured)]


def _report_folder(steps: Steps) -> Path:
    suffix = "-locked" if steps.config.locked else ""
    return steps.config.home / "reports" / f"demo-{steps.results['ppo-ptx']}{suffix}"


def _is_measured(steps: Steps) -> bool:
    return (_report_folder(steps) / "table.json").is_file()


def _measure(steps: Steps, service: Service) -> Path:
    """The first turn's table, figures and report; printed again where they exist already."""
    results, home = steps.results, steps.config.home
    out = _report_folder(steps)
    if _is_measured(steps):
        show(["evals.report", str(out)])
        return out
    base, rankings = results["pretrain"], Path(results["sample"])
    show(
        [
            "evals.run", "--url", service.url, "--home", str(home), "--world", results["world"], "--out", str(out),
            "--temperature", TEMPERATURE, "--seed", str(steps.config.seed),
            *(["--locked"] if steps.config.locked else []),
            "--baseline", base, f"{base}:few-shot", results["sft"],
            "--checkpoint", results["ppo"], results["ppo-ptx"],
            "--reward", results["reward"], "--comparisons", str(rankings.with_stem(f"{rankings.stem}-validation")),
        ],
        processes.ONE_THREAD,
        accepted=processes.DECIDED,
    )  # fmt: skip
    return out


def _second_turn(steps: Steps, service: Service) -> None:
    """The loop's next turn on rankings of simulated labelers, with its control."""
    show(
        steps.stage(
            "loop", "--url", service.url, "--sft", steps.results["sft"], "--labelers", "miniature",
            "--limit", str(RANKED), "--control", "--temperature", TEMPERATURE,
        ),
        {"ALIGNLOOP_KEY": service.key},
    )  # fmt: skip


def _welcome(steps: Steps, service: Service, report: Path) -> None:
    command = shlex.join(
        steps.stage("loop", "--url", service.url, "--sft", steps.results["sft"], "--labelers", "miniature")
    )
    print_status(
        f"""
  ask it       {service.url}/playground
  compare      {service.url}/compare      (blind, by keyboard)
  results      {service.url}/results
  report       {report / "index.html"}
  OpenAI API   {service.url}/v1           models policy/production, policy/baseline
  key          {service.key}   (for /admin and /api/export, valid for a day)

  next turn    ALIGNLOOP_KEY={service.key} .venv/bin/python -m {command}
  Ctrl-C ends the service and its engines.
""",
        highlight=False,
        soft_wrap=True,  # a command that is broken over lines cannot be copied
    )


def main(arguments: Sequence[str]) -> int:
    """`python -m training demo`."""
    return demo(parse(Config, "demo", arguments))
