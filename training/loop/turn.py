"""One turn of the loop: rankings from the running service -> freeze -> reward model -> policy -> measure -> candidate.

The policy starts from the same SFT checkpoint every turn; what grows is the set of rankings. A turn that was stopped is
continued by the same command, with the rankings that it began with.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

from training.artifacts import checkpoints, comparisons, processes
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Comparison
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.loop import client, simulate
from training.loop.client import Service
from training.loop.unfinished import Unfinished
from training.runtime import runs
from training.runtime.configuration import parse

print_status = runs.CONSOLE.print
LABELERS = 12


@dataclass(frozen=True)
class Config:
    """One turn of the loop, from the rankings of the running service to a measured candidate."""

    # Fields declared NO_NUMBERS change nothing of what is trained: a turn that failed while it was measured continues
    # with other ones.

    url: str = field(default="http://127.0.0.1:8000", metadata=runs.NO_NUMBERS)
    """Address of the service."""
    key: str | None = field(default=None, metadata=runs.NO_NUMBERS)
    """Key with scopes admin and export; $ALIGNLOOP_KEY by default."""
    preset: str | None = None
    """Preset of the reward and ppo stages; left out, demo for a model of the miniature world, else none: the stages'
    own defaults."""
    sft: str = "sft"
    """Checkpoint that reward model and policy start from."""
    baseline: str = "policy/production"
    """Alias or checkpoint that the candidate is compared with."""
    earlier: str = "{home}/comparisons"
    """Folder of frozen comparisons to train on beside the service's; files NAME-validation.jsonl are kept out."""
    validation: tuple[str, ...] = ()
    """Held-out comparisons for the reward model; left out, the preset's, or some users' of the frozen ones."""
    demonstrations: tuple[str, ...] = ()
    """Demonstrations whose mean score becomes 0; left out, the preset's, or responses of the frozen comparisons."""
    ppo_prompts: tuple[str, ...] = ()
    """Prompts that the policy learns from; left out, the preset's, or those of the frozen comparisons."""
    pretraining_data: tuple[str, ...] = ()
    """Text for pretraining gradients, where the preset has a --ptx-coefficient; left out, the preset's."""
    labelers: Literal["people", "miniature"] = "people"
    """people: take the rankings that the service holds. miniature: simulated labelers rank prompts over HTTP first."""
    prompts: str = "{world}/prompts-collect.jsonl"
    """Prompts for simulated labelers, in the folder of their world."""
    limit: int = 420
    """How many of those prompts are ranked."""
    k: int = 4
    """Responses that a simulated labeler ranks at once."""
    suites: tuple[str, ...] = field(default=(), metadata=runs.NO_NUMBERS)
    """What to measure; left out, all that there is data for (see `python -m evals.run --help`)."""
    eval_data: tuple[str, ...] = field(default=(), metadata=runs.NO_NUMBERS)
    """Your own evaluation files, NAME=FILE, as `evals.run --data` takes them."""
    policy: Path | None = field(default=None, metadata=runs.NO_NUMBERS)
    """TOML file with the metrics that the gate requires, as `evals.run --policy` takes it."""
    temperature: float = field(default=0.8, metadata=runs.NO_NUMBERS)
    """Sampling temperature when policies are measured; 0 is greedy."""
    fresh: bool = field(default=False, metadata=runs.NO_NUMBERS)
    """Begin anew where the same command was stopped before, with all rankings that there are now."""
    control: bool = False
    """Also train reward model and policy on shuffled rankings: they must do worse."""
    seed: int = 0
    """Seed of the stages, of the simulated labelers and of the shuffle; names the world where the preset does not."""
    home: Path = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


def turn(config: Config) -> dict[str, Any]:
    """Run the turn. Returns its summary, which is also written to HOME/reports/turn-ID/turn.json."""
    with Unfinished(config.home, runs.settings_of(config, config.home)) as unfinished:
        if config.fresh:
            unfinished.forget()
        return _turn(config, unfinished)


def _turn(config: Config, unfinished: Unfinished) -> dict[str, Any]:
    service = Service(config.url.rstrip("/"), config.key or os.environ.get("ALIGNLOOP_KEY", ""))
    started = time.monotonic()
    measured = bool(config.eval_data) or _world(config) is not None
    if not measured:
        print_status(
            "nothing to measure with (no world, no --eval-data): the candidate will only be served, for people to rank"
        )

    # 1. Rankings, frozen together with all earlier ones; the control is the same with shuffled ranks.
    if "data" in unfinished:
        print_status(
            f"continues the turn of {unfinished['began']} with its {unfinished['comparisons']} comparisons; newer ones "
            "are for the next turn (--fresh begins anew with them)"
        )
    else:
        _collect(config, service, unfinished)
    data, baseline = unfinished.data(), str(unfinished["baseline"])

    # 2. A reward model, from the same SFT checkpoint every turn.
    start = unfinished["start"]
    rewards = _stage(config, unfinished, "reward", {
        name: ["--data", str(file), "--model", start, *_reward_options(config)] for name, file in data.items()
    })  # fmt: skip

    # 3. A policy, from the same SFT checkpoint too.
    policies = _stage(config, unfinished, "ppo", {
        name: ["--reward", reward, "--model", start, *_ppo_options(config, data["turn"])]
        for name, reward in rewards.items()
    })  # fmt: skip

    # 4. Serve and measure, on the questions that the baseline is asked.
    out = config.home / "reports" / f"turn-{policies['turn']}"
    try:
        _serve(service, policies.values())
        if measured:
            _measure(config, service, policies, baseline, out)
        rates = _win_rates(out, policies) if measured else {}

        # 5. The gate decides about the alias; production changes only when a person promotes the candidate.
        verdict = _verdict_of_gate(out, policies["turn"]) if measured else None
        if verdict != "FAIL":
            service.ask("PUT", "/admin/aliases/policy/candidate", json={"checkpoint": policies["turn"]})
    finally:
        _release(service, policies.values())
    summary = {
        "baseline": baseline,
        "rewards": rewards,
        "policies": policies,
        "comparisons": {"file": str(data["turn"]), "collected": unfinished["collected"]},
        "preferred_to_baseline": rates,
        "gate": verdict,
        "report": str(out / "index.html") if measured else None,
        "minutes": round((time.monotonic() - started) / 60, 2),
    }
    write_atomically(out / "turn.json", json.dumps(summary, indent=2) + "\n")
    print_status(f"[bold]{_verdict(rates)}[/]")
    print_status(f"[bold]gate: {_gate_sentence(verdict, policies['turn'])}[/]")
    print_status(f"{summary['minutes']} minutes; summary: {out / 'turn.json'}")
    return summary


def _verdict_of_gate(out: Path, candidate: str) -> str | None:
    """PASS, FAIL or INCONCLUSIVE of the candidate against the baseline; None where nothing was gated."""
    verdicts = json.loads((out / "summary.json").read_text())["verdicts"]
    return next((outcome for name, outcome in verdicts.items() if name.rpartition(".")[0] == candidate), None)


def _gate_sentence(verdict: str | None, candidate: str) -> str:
    if verdict == "FAIL":
        return f"FAIL, so policy/candidate stays as it was, and {candidate} is not served"
    after = "" if verdict == "PASS" else "; people should rank its answers before it is promoted"
    return f"{verdict or 'nothing to decide on'}, so policy/candidate is {candidate}{after}"


def _world(config: Config) -> Path | None:
    """The miniature world's folder, which holds the simulated labelers' prompts; None for a model of other data."""
    folder = Path(config.prompts).parent
    ours = config.labelers == "miniature" or _is_of_world(config)
    return folder if ours and (folder / "world.json").is_file() else None


def _resolve_alias(service: Service, name: str) -> str:
    """The checkpoint that answers for an alias now, not one still being promoted; a checkpoint's id stays as it is."""
    rows = {row["alias"]: row for row in service.ask("GET", "/admin/aliases")["data"]}
    return str(rows[name]["served"] or rows[name]["checkpoint"]) if name in rows else name


def _simulate(config: Config, service: Service) -> None:
    """Simulated labelers rank the world's collecting prompts over HTTP."""
    prompts = simulate.load_prompts(Path(config.prompts))
    labelers = simulate.load_labelers(Path(config.prompts).parent, "training")[:LABELERS]
    started = time.monotonic()
    counts = simulate.rank_prompts(service, prompts, labelers, config.limit, config.k, config.seed)
    print_status(
        f"{config.limit} prompts ranked (K = {config.k}) by {len(labelers)} simulated labelers over HTTP: "
        f"{counts['answered']} answers in {time.monotonic() - started:.0f} s; "
        f"passed over: {counts['identical']} with identical responses, {counts['foreign']} of other worlds"
    )


def _of_this_world(config: Config, collected: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons without those on prompts of another world, whose facts would contradict this one's."""
    world = _world(config)
    if world is None:
        return list(collected)
    others = tuple(f"{folder.name}-" for folder in world.parent.iterdir() if folder != world)  # ids start with a name
    rows = [c for c in collected if not (c.prompt_id or "").startswith(others)]
    if len(rows) < len(collected):
        print_status(f"left out: {len(collected) - len(rows)} comparisons on prompts of other worlds")
    return rows


def _collect(config: Config, service: Service, unfinished: Unfinished) -> None:
    """Begin a turn: get the rankings and freeze them, and remember what the turn starts from."""
    baseline = _resolve_alias(service, config.baseline)
    start = _start(config)
    if config.labelers == "miniature":
        _simulate(config, service)
    collected = _of_this_world(config, client.export(service))
    data, count = _freeze(config, collected)
    unfinished.remember_data(data)
    began = datetime.now(UTC).isoformat(timespec="minutes")
    unfinished.remember(baseline=baseline, start=start, began=began, comparisons=count, collected=len(collected))


def _freeze(config: Config, collected: Sequence[Comparison]) -> tuple[dict[str, Path], int]:
    """Write all rankings as one frozen file and, for the control, the same with shuffled ranks; and their number."""
    if not collected:
        raise UserError("the service holds no comparison yet: rank some answers on /compare or /rank first")
    files = sorted(file for file in Path(config.earlier).glob("*.jsonl") if not file.stem.endswith("-validation"))
    rows = {c.id: c for file in files for c in comparisons.read(file)[0]}
    before = len(rows)
    rows |= {c.id: c for c in collected}
    key = hashlib.sha256("\n".join(map(comparisons.to_json, sorted(rows.values(), key=lambda c: c.id))).encode())
    folder = config.home / "turns" / key.hexdigest()[:12]
    frozen = folder / "comparisons.jsonl"
    digest, count = comparisons.freeze(rows.values(), frozen)
    print_status(f"frozen: {count} comparisons, {len(rows) - before} of them new, sha256 {digest[:12]}: {frozen}")
    if not config.control:
        return {"turn": frozen}, count
    control = folder / f"shuffled-{config.seed}.jsonl"
    comparisons.freeze(simulate.shuffled(list(rows.values()), config.seed), control)
    return {"turn": frozen, "control": control}, count


def _reward_options(config: Config) -> list[str]:
    """Options of the reward stage that are not the preset's."""
    return [*_option("validation", config.validation), *_option("demonstrations", config.demonstrations)]


def _ppo_options(config: Config, frozen: Path) -> list[str]:
    """Options of the ppo stage that are not the preset's; without a preset the prompts are those of the rankings."""
    prompts = config.ppo_prompts or (() if _preset(config) else (str(frozen),))
    return [*_option("prompts", prompts), *_option("pretraining-data", config.pretraining_data)]


def _option(name: str, values: Sequence[str]) -> list[str]:
    return [f"--{name}", *values] if values else []


def _preset(config: Config) -> str | None:
    """The preset of the stages: the one that was named, or demo for a model that was trained on a miniature world."""
    if config.preset is not None:
        return config.preset
    return "demo" if _is_of_world(config) else None


def _is_of_world(config: Config) -> bool:
    """Whether the model that the turn starts from was trained on a miniature world of this home."""
    start = _published(config)
    worlds = (config.home / "world").resolve()
    data = start.manifest.data.values() if start else ()
    return any(worlds in Path(str(part.get("path"))).resolve().parents for part in data)


def _start(config: Config) -> str:
    """The id of the checkpoint that the turn starts from, so that a newer one of its stage changes nothing later; the
    name as it is of a model that was not published here."""
    start = _published(config)
    return start.id if start else config.sft


def _published(config: Config) -> Checkpoint | None:
    with suppress(UserError):
        return checkpoints.resolve(config.sft, config.home / "checkpoints")
    return None


def _stage(
    config: Config, unfinished: Unfinished, stage: str, runs_of_stage: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Run a stage once per name, side by side, where that was not done before the turn was stopped; the ids of the
    checkpoints. Only the first run shows its progress."""
    done = unfinished.checkpoints_of(stage)
    for name, checkpoint in done.items():
        print_status(f"{stage} ({name}): {checkpoint}, from before the turn was stopped")
    todo = {name: arguments for name, arguments in runs_of_stage.items() if name not in done}
    children: dict[str, Popen[str]] = {}
    logs: dict[str, Path | None] = {}
    preset = _preset(config)
    common = [stage, *(["--preset", preset] if preset else []), "--seed", str(config.seed), "--home", str(config.home)]
    threads = processes.shared_cores(len(todo))
    try:
        for name, arguments in todo.items():
            logs[name] = config.home / "logs" / f"turn-{stage}-{name}.log" if children else None
            children[name] = processes.start(
                ["training", *common, *arguments], capture=True, log=logs[name], environment=threads
            )
        for name, child in children.items():
            output = processes.finish(child, f"{stage} ({name})", logs[name])
            unfinished.add_checkpoint(stage, name, output.strip().splitlines()[-1])
        results = unfinished.checkpoints_of(stage)
        return {name: results[name] for name in runs_of_stage}
    finally:
        for child in children.values():
            processes.stop(child)


def _serve(service: Service, checkpoints: Collection[str]) -> None:
    """Have the service start an engine for each checkpoint, and wait until all are ready."""
    for checkpoint in checkpoints:
        service.ask("POST", "/admin/engines", json={"checkpoint": checkpoint})
    client.wait_until_served(service, {checkpoint: checkpoint for checkpoint in checkpoints})


def _release(service: Service, checkpoints: Collection[str]) -> None:
    """Withdraw the requests for their engines, which would run forever; the alias keeps the candidate's."""
    for checkpoint in checkpoints:
        with suppress(UserError):  # never requested, or the service is gone: the first error is the one to show
            service.ask("DELETE", f"/admin/engines/{checkpoint}")


def _measure(config: Config, service: Service, policies: Mapping[str, str], baseline: str, out: Path) -> None:
    """Evaluate the new policies beside the baseline; the report goes to `out`."""
    suites = ["--suite", *config.suites] if config.suites else []
    data = ["--data", *config.eval_data] if config.eval_data else []
    world = _world(config)
    child = processes.start(
        [
            "evals.run", "--url", service.url, "--home", str(config.home), "--out", str(out),
            "--baseline", baseline, "--checkpoint", *policies.values(), *suites, *data,
            "--temperature", str(config.temperature), "--seed", str(config.seed),
            *(["--world", str(world)] if world else ["--real"]),
            *(["--policy", str(config.policy)] if config.policy else []),
        ],
        environment={"ALIGNLOOP_KEY": service.key, **processes.ONE_THREAD},
    )  # fmt: skip
    try:
        processes.finish(child, "the evaluation", accepted=processes.DECIDED)
    finally:
        processes.stop(child)


def _win_rates(out: Path, policies: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Each policy's win rate over the baseline under the first preference that was measured, with its interval.

    Empty if no preference was measured.
    """
    summary = json.loads((out / "summary.json").read_text())
    wins = {summary["models"][system]["checkpoint"]: against for system, against in summary["wins"].items()}
    rates: dict[str, dict[str, float]] = {}
    for name, checkpoint in policies.items():
        for rate in [rate for metrics in wins.get(checkpoint, {}).values() for rate in metrics.values()][:1]:
            figures = {key: rate[key] for key in ("value", "low", "high", "n")}
            if None not in figures.values():  # no common item was measured
                rates[name] = figures
    return rates


def _verdict(rates: Mapping[str, Mapping[str, float]]) -> str:
    """One sentence: improved, worse, or undecided, with the interval; and the control where there is one."""
    if "turn" not in rates:
        return "candidate against baseline: no preference was measured"
    turn = rates["turn"]
    word = "improved" if turn["low"] > 0.5 else "worse" if turn["high"] < 0.5 else "no clear change"
    sentence = f"candidate against baseline: {word}, preferred {_share(turn)}"
    if "control" in rates:
        sentence += f"; control on shuffled rankings preferred {_share(rates['control'])}"
    return sentence


def _share(rate: Mapping[str, float]) -> str:
    return f"{100 * rate['value']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}] of {rate['n']:.0f} prompts"


def main(arguments: Sequence[str]) -> int:
    """`python -m training loop`."""
    print(json.dumps(turn(parse(Config, "loop", arguments))))
    return 0
