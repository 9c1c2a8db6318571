"""The first turn of the loop on the miniature world, from nothing to a served, measured policy.

Every step is a command that works by itself; this file only runs them in order, remembers what each made, and
ends what it started. A second run takes up where the first ended.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from training.artifacts import checkpoints
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.loop import checks
from training.loop.client import Service
from training.runtime import processes, runs
from training.runtime.configuration import parse, preset_file

SAY = runs.CONSOLE.print
SERVED = ("ppo-ptx", "reward", "sft", "ppo", "pretrain")
ALIASES = {"policy/production": "ppo-ptx", "policy/baseline": "sft", "reward/production": "reward"}
COLLECTED = ("policy/production", "policy/candidate", "policy/baseline")
SCOPES = ("generate", "score", "eval", "export", "admin")
TEMPERATURE = "0.8"  # sampled, as people would meet the models; a model this small rambles at 1
READY_SECONDS = 600.0  # five engines that share two cores take a minute and a half
RANKED, LABELERS = 420, 10  # prompts and simulated labelers of the second turn: at least as many labelers


@dataclass(frozen=True)
class Config:
    """Run the first turn of the loop on the miniature world, then serve it."""

    preset: str = "demo"
    """Preset of every stage: demo, or a TOML file of your own with the same tables."""
    home: Path = Path("runs")
    """Where everything is written."""
    port: int = 8000
    """Port of the service."""
    check: bool = False
    """Also run the second turn, check the service over HTTP, end everything and exit."""


class Steps:
    """What each step made, kept in a file, so that a second run skips what is done.

    A step counts as done while its result is there: a checkpoint of the store, or a file or folder.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        preset = preset_file(config.preset)
        self.file = config.home / f"demo-{preset.stem}.json"
        self.key = hashlib.sha256(preset.read_bytes()).hexdigest()
        kept = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.results: dict[str, str] = kept["steps"] if kept.get("preset") == self.key else {}
        self.seconds: dict[str, float] = {}

    def done(self, name: str) -> bool:
        result = self.results.get(name)
        if result is None:
            return False
        return Path(result).exists() or (self.config.home / "checkpoints" / result / checkpoints.MANIFEST).is_file()

    def start(self, name: str, arguments: Sequence[str], beside: bool) -> subprocess.Popen[str]:
        """Start a step. One that runs beside another logs to a file: two progress bars garble each other."""
        log = self.log(name) if beside else None
        threads = {"OMP_NUM_THREADS": "1"} if beside else None
        return processes.start(arguments, capture=True, log=log, environment=threads)

    def log(self, name: str) -> Path:
        return self.config.home / "logs" / f"{name}.log"

    def run(self, steps: dict[str, Sequence[str]]) -> list[str]:
        """Run steps side by side, the first with its progress on the terminal; the result of each.

        A step's result is the last line of its standard output.
        """
        todo = {name: arguments for name, arguments in steps.items() if not self.done(name)}
        started = time.monotonic()
        with ExitStack() as stack:
            children = {}
            for place, (name, arguments) in enumerate(todo.items()):
                SAY(f"[bold]{name}[/]" + (f"  (beside it; progress in {self.log(name)})" if place else ""))
                children[name] = self.start(name, arguments, beside=len(todo) > 1 and place > 0)
                stack.callback(processes.stop, children[name])
            for place, (name, child) in enumerate(children.items()):
                output = processes.finish(child, name, self.log(name) if place else None)
                self.results[name] = output.strip().splitlines()[-1]
                self.seconds[name] = time.monotonic() - started
                content = json.dumps({"preset": self.key, "steps": self.results}, indent=2) + "\n"
                write_atomically(self.file, content)
        return [self.results[name] for name in steps]


def demo(config: Config) -> int:
    """Train, serve, measure; then serve until Ctrl-C, or run the second turn, check and leave."""
    _check_port(config.port)
    started = time.monotonic()
    steps = Steps(config)
    _train(steps)
    SAY(f"trained: {(time.monotonic() - started) / 60:.1f} minutes")
    with ExitStack() as stack:
        service = _serve(steps, stack)
        SAY(f"served: {(time.monotonic() - started) / 60:.1f} minutes")
        report = _measure(steps, service)
        SAY(f"first turn done in {(time.monotonic() - started) / 60:.1f} minutes")
        if config.check:
            second = time.monotonic()
            _second_turn(config, service)
            SAY(f"second turn done in {(time.monotonic() - second) / 60:.1f} minutes")
            checks.run(service, RANKED, LABELERS)
            return 0
        _welcome(config, service, report)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            SAY("stopping the service")
    return 0


def _train(steps: Steps) -> None:
    """Every stage of the first turn. Those that need nothing of each other run side by side."""
    home = str(steps.config.home)
    stage = ["--preset", steps.config.preset, "--home", home]
    ppo = ["training", "ppo", *stage]
    steps.run({"world": ["training", "world", *stage]})
    steps.run({"tokenizer": ["training", "tokenizer", *stage]})
    steps.run({"pretrain": ["training", "pretrain", *stage]})
    steps.run({"sft": ["training", "sft", *stage]})
    steps.run({"sample": ["training", "sample", *stage]})
    steps.run({"reward": ["training", "reward", *stage]})
    steps.run({"ppo-ptx": ppo, "ppo": [*ppo, "--ptx-coefficient", "0"]})


def _serve(steps: Steps, stack: ExitStack) -> Service:
    """Start gateway and engines, and wait until every checkpoint of the turn is served."""
    config, made = steps.config, steps.results
    home = ["--home", str(config.home)]
    for alias, step in ALIASES.items():
        _command("service", "promote", alias, made[step], "--no-wait", *home)
    _command("service", "import", "prompts", f"{made['world']}/prompts-collect.jsonl", *home)
    key = _command("service", "keys", "add", "demo", "--scopes", *SCOPES, "--days", "1", *home)
    service = Service(f"http://127.0.0.1:{config.port}", key.strip())
    served = [made[step] for step in SERVED]
    log = config.home / "logs" / "service.log"
    child = processes.start(
        ["service", "serve", "--open", "--port", str(config.port), "--with-engines", *served, *home],
        log=log,
        environment={"ALIGNLOOP_COLLECT_POLICIES": json.dumps(COLLECTED)},
    )
    stack.callback(processes.stop, child)
    deadline = time.monotonic() + READY_SECONDS
    with runs.CONSOLE.status("starting the engines") as status:
        while missing := set(served) - _ready(service):
            if child.poll() is not None:
                raise UserError(f"the service ended: see {log}")
            if time.monotonic() > deadline:
                raise UserError(f"{', '.join(sorted(missing))} not served yet ({_trouble(service)}): see {log}")
            status.update(f"starting the engines: {len(served) - len(missing)} of {len(served)} are ready")
            time.sleep(1)
    return service


def _measure(steps: Steps, service: Service) -> Path:
    """The first turn's table, figures and report; printed again when they are there already."""
    made, home = steps.results, steps.config.home
    out = home / "reports" / f"demo-{made['ppo-ptx']}"
    if (out / "table.json").is_file():
        _show(["evals.report", str(out)])
        return out
    base, reward = made["pretrain"], made["reward"]
    rankings = Path(made["sample"])
    _show(
        [
            "evals.run", "--url", service.url, "--home", str(home), "--out", str(out), "--no-gate",
            "--temperature", TEMPERATURE, "--baseline", base, f"{base}:few-shot", made["sft"],
            "--checkpoint", made["ppo"], made["ppo-ptx"],
            "--reward", reward, "--comparisons", str(rankings.with_stem(f"{rankings.stem}-validation")),
        ]
    )  # fmt: skip
    return out


def _second_turn(config: Config, service: Service) -> None:
    """The loop's next turn on rankings of simulated labelers, with its control."""
    _show(
        [
            "training", "loop", "--url", service.url, "--preset", config.preset, "--home", str(config.home),
            "--labelers", "miniature", "--limit", str(RANKED), "--control", "--temperature", TEMPERATURE,
            "--suites", "preference",
        ],
        {"ALIGNLOOP_KEY": service.key},
    )  # fmt: skip


def _welcome(config: Config, service: Service, report: Path) -> None:
    where = f"--url {service.url} --home {config.home} --preset {config.preset}"
    SAY(
        f"""
  ask it       {service.url}/playground
  compare      {service.url}/compare      (blind, by keyboard)
  results      {service.url}/results
  report       {report / "index.html"}
  OpenAI API   {service.url}/v1           models policy/production, policy/baseline
  key          {service.key}   (for /admin and /api/export, valid for a day)

  next turn    ALIGNLOOP_KEY={service.key} .venv/bin/python -m training loop --labelers miniature {where}
  Ctrl-C ends the service and its engines.
""",
        highlight=False,
        soft_wrap=True,  # a command that is broken over lines cannot be copied
    )


def _trouble(service: Service) -> str:
    """What the first engine that failed says of itself."""
    rows = service.ask("GET", "/admin/engines")["data"]
    return next((str(row["detail"]) for row in rows if row["state"] == "failed"), "the machine is too slow")


def _ready(service: Service) -> set[str]:
    """Checkpoints that the service serves now; none while it starts."""
    try:
        return {model["id"] for model in service.ask("GET", "/v1/models")["data"]}
    except UserError:
        return set()


def _command(*arguments: str) -> str:
    """Run a short command and return its standard output."""
    return processes.finish(processes.start(arguments, capture=True), " ".join(arguments[:2]))


def _show(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command with its output on the terminal."""
    processes.finish(processes.start(arguments, environment=environment), " ".join(arguments[:2]))


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
