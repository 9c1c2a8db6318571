"""The first turn of the loop on the miniature world, from nothing to a served, measured policy.

Every step is a command that works by itself; this file only runs them in order, remembers their results, and
ends what it started. A second run resumes where the first ended.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from training.artifacts import checkpoints, processes
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.loop import checks
from training.loop.client import Service, wait_until_served
from training.runtime import runs
from training.runtime.configuration import parse, preset_file

print_status = runs.CONSOLE.print
ALIASES = {"policy/production": "ppo-ptx", "policy/baseline": "sft", "reward/production": "reward"}
MEASURED = ("ppo", "pretrain")  # beside those of the aliases, and served for that only
COLLECTED = ("policy/production", "policy/candidate", "policy/baseline")
SCOPES = ("generate", "score", "eval", "export", "admin")
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


class Steps:
    """The result of each step, kept in a file, so that a second run skips what is done.

    A step counts as done while its result exists: a checkpoint of the store, or a file or folder.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        preset = preset_file(config.preset)
        self.file = config.home / f"demo-{preset.stem}-{config.seed}.json"
        self.key = hashlib.sha256(preset.read_bytes()).hexdigest()
        saved = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.results: dict[str, str] = saved["steps"] if saved.get("preset") == self.key else {}

    def done(self, name: str) -> bool:
        result = self.results.get(name)
        if result is None:
            return False
        return Path(result).exists() or (self.config.home / "checkpoints" / result / checkpoints.MANIFEST).is_file()

    def stage(self, name: str, *arguments: str) -> list[str]:
        """Command of a stage of this turn: with its preset, its seed, its home."""
        config = self.config
        common = ["--preset", config.preset, "--seed", str(config.seed), "--home", str(config.home)]
        return ["training", name, *common, *arguments]

    def log(self, name: str) -> Path:
        return self.config.home / "logs" / f"{name}.log"

    def run(self, steps: dict[str, Sequence[str]]) -> list[str]:
        """Run steps side by side, the first with its progress on the terminal; the result of each.

        A step's result is the last line of its standard output.
        """
        todo = {name: arguments for name, arguments in steps.items() if not self.done(name)}
        threads = processes.shared_cores(len(todo))
        with ExitStack() as stack:
            children = {}
            for place, (name, arguments) in enumerate(todo.items()):
                # One that runs beside another logs to a file: two progress bars garble each other.
                log = self.log(name) if place else None
                print_status(f"[bold]{name}[/]" + (f"  (beside it; progress in {log})" if log else ""))
                children[name] = processes.start(arguments, capture=True, log=log, environment=threads)
                stack.callback(processes.stop, children[name])
            for place, (name, child) in enumerate(children.items()):
                output = processes.finish(child, name, self.log(name) if place else None)
                self.results[name] = output.strip().splitlines()[-1]
                content = json.dumps({"preset": self.key, "steps": self.results}, indent=2) + "\n"
                write_atomically(self.file, content)
        return [self.results[name] for name in steps]


def demo(config: Config) -> int:
    """Train, serve, measure; then serve until Ctrl-C, or run the second turn, check and leave."""
    _check_port(config.port)
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
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print_status("stopping the service")
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
    home = ["--home", str(config.home)]
    for alias, step in ALIASES.items():
        _command("service", "promote", alias, results[step], "--no-wait", *home)
    _command("service", "import", "prompts", f"{results['world']}/prompts-collect.jsonl", *home)
    key = _command("service", "keys", "add", "demo", "--scopes", *SCOPES, "--days", "1", *home)
    service = Service(f"http://127.0.0.1:{config.port}", key.strip())
    served = _served(steps)
    log = config.home / "logs" / "service.log"
    child = processes.start(
        ["service", "serve", "--open", "--port", str(config.port), "--with-engines", *served, *home],
        log=log,
        environment={"ALIGNLOOP_COLLECT_POLICIES": json.dumps(COLLECTED)},
    )
    stack.callback(processes.stop, child)

    def check_alive() -> None:
        if child.poll() is not None:
            raise UserError(f"the service ended: see {log}")

    names = {checkpoint: checkpoint for checkpoint in served}
    names |= {alias: results[step] for alias, step in ALIASES.items()}
    try:
        wait_until_served(service, names, check_alive)
    except UserError as error:
        raise UserError(f"{error} (log: {log})") from None
    return service


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
        _show(["evals.report", str(out)])
        return out
    base, rankings = results["pretrain"], Path(results["sample"])
    _show(
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
    _show(
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


def _command(*arguments: str) -> str:
    """Run a short command and return its standard output."""
    return processes.finish(processes.start(arguments, capture=True), " ".join(arguments[:2]))


def _show(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, accepted: Collection[int] = (0,)
) -> None:
    """Run a command with its output on the terminal."""
    child = processes.start(arguments, environment=environment)
    processes.finish(child, " ".join(arguments[:2]), accepted=accepted)


def _check_port(port: int) -> None:
    """Refuse a port in use now, not after ten minutes of training."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(f"port {port} is in use: end what listens there, or give --port") from None


def main(arguments: Sequence[str]) -> int:
    """`python -m training demo`."""
    return demo(parse(Config, "demo", arguments))
