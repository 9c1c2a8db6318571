"""Evaluate policies over HTTP: results as JSON, a record of every item, and one page with tables and figures."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from evals import gate, report, results
from evals.asking import System, answer_rows, reward_of, systems_of
from evals.client import Client
from evals.results import Item, Result, prompt_hash, summarise
from evals.seeds import RULE
from evals.setting import Config, Setting, Suite, prepare, specs_of
from evals.statistics import Estimate, wilson
from evals.suites import honesty, preference, reward, tax, toxicity, truth
from evals.suites.judged import read_rows
from evals.table import wide_console
from training.artifacts import progress
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import write_atomically
from training.artifacts.provenance import git_state, package_versions
from training.miniature import Labeler

SYSTEMS_AT_ONCE = 2  # an engine works on one core on CPU: two keep two cores busy
HELDOUT_DOCUMENTS = 500


def main(config: Config) -> int:
    """Evaluate, write, print the table; 1 when the gate is on and a candidate fails it."""
    console = wide_console()
    setting = prepare(config)
    asyncio.run(evaluate(setting, console))
    gated = config.gate and bool(config.baseline)
    verdicts = _gate(setting.out) if gated else {}
    report.build(setting.out, console)
    for name, rows in verdicts.items():
        gate.print_rows(rows, f"gate: {name}", console)
    return 0 if all(gate.passed(rows) for rows in verdicts.values()) else 1


async def evaluate(setting: Setting, console: Console) -> None:
    """Measure every system and write its files; then what the report needs to know of the run."""
    config = setting.config
    begun = time.monotonic()
    async with Client(config.url.rstrip("/"), config.key, config.concurrency) as client:
        served = await client.models()
        store = config.home / "checkpoints"
        systems = systems_of([*config.baseline, *config.checkpoint], store, served)
        repeated = [name for name, count in Counter(s.name for s in systems).items() if count > 1]
        if repeated:
            raise UserError(f"{repeated[0]} is named twice: name each checkpoint and way of asking once")
        scorer = reward_of(config.reward, store, served) if config.reward else None
        for stale in ("run.json", "gate.json"):  # of an earlier run in the same folder
            (setting.out / stale).unlink(missing_ok=True)
        at_once, texts = asyncio.Semaphore(SYSTEMS_AT_ONCE), RawText(client, setting)
        with progress.bar("models measured", len(systems)) as shown:

            async def one(system: System) -> str:
                async with at_once:
                    name = await _measure(client, system, scorer, setting, texts, console)
                shown.advance()
                return name

            tasks = [asyncio.create_task(one(system)) for system in systems]
            try:
                names = list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
        if scorer and setting.comparisons:
            names.append(await _measure_reward(client, scorer, setting))
    described = {
        "systems": names,
        "baselines": [s.name for s in systems[: len(config.baseline)]],
        "candidates": [s.name for s in systems[len(config.baseline) :]],
        "seconds": round(time.monotonic() - begun, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config) | {"key": None},
    }
    write_atomically(setting.out / "run.json", json.dumps(described, indent=1, default=str) + "\n")


class RawText:
    """Suites that send raw text: the same for every way of asking a checkpoint, so measured once per checkpoint."""

    def __init__(self, client: Client, setting: Setting) -> None:
        self._client, self._setting = client, setting
        self._lm_eval = asyncio.Lock()  # keeps state in its modules
        self._items: dict[str, asyncio.Task[list[Item]]] = {}

    async def items(self, checkpoint: str) -> list[Item]:
        """Items of the tax, and of multiple choice on truth."""
        if checkpoint not in self._items:
            self._items[checkpoint] = asyncio.create_task(self._measure(checkpoint))
        return await self._items[checkpoint]

    async def _measure(self, checkpoint: str) -> list[Item]:
        setting, client = self._setting, self._client
        world, suites = setting.world, setting.suites
        items: list[Item] = []
        if "tax" in suites:
            # The world's own held-out text is longer than the measurement needs; a user's file is used whole.
            own = world is None or setting.files.get("heldout") != world / "heldout.jsonl"
            limits = {} if own else {"heldout": HELDOUT_DOCUMENTS}
            async with self._lm_eval:
                folder = setting.config.home / "checkpoints" / checkpoint
                sources = {name: str(path) for name, path in setting.files.items()}
                options = tax.Choices(limits=limits, seed=setting.config.seed)
                home = setting.config.home
                items += (await tax.measure_tasks(client, checkpoint, folder, sources, (), options, home)).items
        if "truth" in suites and world:
            choices = truth.world_choices(read_rows(world, "items-misconceptions.jsonl"))
            items += await truth.choose(client, checkpoint, "misconceptions_choices", choices)
        if "truth" in suites and setting.truthfulqa:
            for task, questions in zip(
                ("truthfulqa_mc1", "truthfulqa_mc2"), truth.truthfulqa_choices(setting.truthfulqa), strict=True
            ):
                choices_items = await truth.choose(client, checkpoint, task, questions)
                items += truth.only(task.rsplit("_", 1)[1], choices_items)
        return items


async def _measure(
    client: Client, system: System, scorer: System | None, setting: Setting, texts: RawText, console: Console
) -> str:
    """All suites of one policy. Returns the name of its files."""
    begun = time.monotonic()
    items: list[Item] = []
    world, suites = setting.world, setting.suites

    async def on_world(suite: Suite, name: str, label: str) -> tuple[list[Any], list[Any]]:
        assert world is not None
        rows = read_rows(world, name)
        seed = setting.config.seed
        return rows, await answer_rows(client, system, rows, setting.sampling, seed, suite, label)

    items += await texts.items(system.checkpoint)
    if "truth" in suites and world:
        for kind in ("misconceptions", "facts"):
            rows, answers = await on_world("truth", f"items-{kind}.jsonl", kind)
            items += truth.generated(kind, rows, answers)
    if "truth" in suites and setting.truthfulqa and setting.truth_judge is not None:
        questions = truth.truthfulqa_rows(setting.truthfulqa)
        sampling = replace(setting.sampling, stop=("\n",))
        answers = await answer_rows(
            client, system, questions, sampling, setting.config.seed, "truth", "TruthfulQA", truth.primed
        )
        items += await asyncio.to_thread(truth.truthfulqa_generated, questions, answers, setting.truth_judge)
    if "honesty" in suites:
        for kind in honesty.KINDS:
            items += honesty.items(kind, *await on_world("honesty", f"items-{kind}.jsonl", kind))
    if "toxicity" in suites:
        rude = await on_world("toxicity", "items-rude.jsonl", "rude prompts")
        items += await asyncio.to_thread(toxicity.items, *rude, setting.judge)  # a model's work: others go on
    answered: list[Item] = []
    if {"preference", "reward"} & set(suites) and world:
        answered = preference.items(*await on_world("preference", "prompts-evaluation.jsonl", "prompts"))
        items += answered if "preference" in suites else []
    if scorer and "reward" in suites:
        items += await reward.mean_reward(client, scorer.checkpoint, answered)
    seconds = time.monotonic() - begun
    console.print(f"measured {system.label} ({system.checkpoint}, {system.ask}): {len(items)} items in {seconds:.0f} s")
    return _write(system, items, setting, seconds, scorer)


async def _measure_reward(client: Client, scorer: System, setting: Setting) -> str:
    """Accuracy of the reward model by group of labelers, beside what the labelers' noise allows."""
    begun = time.monotonic()
    specs = specs_of(setting.world) if setting.world else {}
    items = await reward.accuracy(client, scorer.checkpoint, setting.comparisons, specs)
    extra: dict[str, Estimate] = {}
    for group in sorted({c.labeler_group for c in setting.comparisons if c.labeler_group}):
        labelers = _labelers(setting.world, group) if setting.world else []
        bound = reward.bounds([c for c in setting.comparisons if c.labeler_group == group], specs, labelers)
        if bound:
            for name, value in (("labelers_agree", bound.agreement), ("best_accuracy", bound.best)):
                extra[f"reward.labelers_{group}.{name}"] = Estimate(value, *wilson(value, bound.pairs), bound.pairs)
    return _write(scorer, items, setting, time.monotonic() - begun, scorer, extra)


def _write(
    system: System,
    items: list[Item],
    setting: Setting,
    seconds: float,
    scorer: System | None,
    extra: Mapping[str, Estimate] | None = None,
) -> str:
    config = setting.config
    file = f"{system.name}.items.jsonl"
    digest = results.write_items(items, setting.out / file)
    commit, dirty = git_state()
    manifest = system.manifest
    judges: dict[str, Any] = {"truth, honesty, preference": "the miniature world's own rules"} if setting.world else {}
    if setting.judge is not None:
        judges["toxicity"] = asdict(setting.judge.card)
    if setting.truth_judge is not None:
        judges["TruthfulQA answers"] = asdict(setting.truth_judge.card)
    result = Result(
        system=system.name,
        label=system.label,
        checkpoint=system.checkpoint,
        ask=system.ask,
        url=config.url,
        through_filters=config.through_filters,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        sampling=asdict(setting.sampling) | ({"seed": RULE} if config.temperature > 0 else {}),
        suites=list(setting.suites),
        data=setting.data,
        judges=judges,
        prompts_sha256=prompt_hash("".join(item.prompt_hash for item in items)),
        items_file=file,
        items_sha256=digest,
        metrics=summarise(items) | dict(extra or {}),
        manifest={}
        if manifest is None
        else {
            "stage": manifest.stage,
            "parents": list(manifest.parents),
            "seed": manifest.seed,
            "weights": dict(manifest.weights),
            "created": manifest.created,
        },
        reward=scorer.checkpoint if scorer else None,
        packages=package_versions(),
        git_commit=commit,
        git_dirty=dirty,
        seconds=round(seconds, 1),
    )
    results.write_result(result, setting.out)
    return system.name


def _gate(out: Path) -> dict[str, list[gate.Row]]:
    """Each candidate against the last baseline; also written to gate.json for the report."""
    run = json.loads((out / "run.json").read_text())
    _, baseline = results.read_result(out / f"{run['baselines'][-1]}.json")
    verdicts = {
        name: gate.compare(results.read_result(out / f"{name}.json")[1], baseline) for name in run["candidates"]
    }
    written = {n: {"passed": gate.passed(rows), "rows": [asdict(r) for r in rows]} for n, rows in verdicts.items()}
    write_atomically(out / "gate.json", json.dumps(written, indent=1) + "\n")
    return verdicts


def _labelers(world: Path, group: str) -> list[Labeler]:
    rows = [json.loads(line) for line in (world / "labelers.jsonl").open()]
    return [Labeler(**row) for row in rows if row["group"] == group]


def command(arguments: Sequence[str] | None = None) -> int:
    """`python -m evals.run`."""
    return main(tyro.cli(Config, args=arguments, prog="python -m evals.run", description=__doc__))


if __name__ == "__main__":
    sys.exit(run_command(command))
