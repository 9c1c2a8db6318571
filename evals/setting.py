"""What a run of the evaluation measures: its options, and everything that can be checked before the first request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from evals.client import Sampling
from evals.judges import toxicity as toxicity_judge
from evals.judges import truth as truth_judge
from evals.results import prompt_hash
from evals.suites import truth
from evals.tasks.build import spec_of
from evals.tasks.files import read_task, split_name
from training.artifacts.comparisons import Comparison
from training.artifacts.errors import UserError
from training.artifacts.layouts import comparisons
from training.artifacts.rows import open_source

Suite = Literal["tax", "truth", "honesty", "toxicity", "preference", "reward"]
ALL: tuple[Suite, ...] = ("tax", "truth", "honesty", "toxicity", "preference", "reward")


@dataclass(frozen=True)
class Config:
    """Evaluate checkpoints that a service serves, against baselines, paired by item."""

    checkpoint: tuple[str, ...]
    """Candidates: immutable ids, or a stage for its newest. `ID:chat`, `ID:plain` or `ID:few-shot` says how to ask."""
    baseline: tuple[str, ...] = ()
    """What to compare with, in the same form. The gate compares each candidate with the last one named."""
    suite: tuple[Suite, ...] = ()
    """What to measure; by default everything that the world, the data and the reward model allow."""
    data: tuple[str, ...] = ()
    """Further files as NAME=FILE: hellaswag, winogrande, truthfulqa, heldout, cloze:NAME, or any multiple choice."""
    reward: str | None = None
    """Reward model: immutable id or stage. Gives mean rewards, and its accuracy on --comparisons."""
    comparisons: tuple[Path, ...] = ()
    """Frozen comparisons (JSONL) that the reward model was not trained on; those of training prompts are left out."""
    url: str = "http://127.0.0.1:8000"
    """Root of the service."""
    key: str | None = None
    """Bearer key of scope `eval`; $ALIGNLOOP_KEY by default, none for an open loopback service."""
    through_filters: bool = False
    """The key is a user's, so that filters are in the way: measures the product, not the model. Stated in results."""
    home: Path = Path("runs")
    """Folder of everything that commands make."""
    world: Path | None = None
    """Folder of the miniature world; the newest in HOME/world by default."""
    out: Path | None = None
    """Folder for results; HOME/reports/DATE-TIME by default."""
    temperature: float = 0.0
    """Temperature of generated answers: 0 is greedy, and the same every time."""
    max_tokens: int = 64
    """Longest answer in tokens."""
    seed: int = 0
    """Seed of the run. Above temperature 0 each answer gets its own from it, the same for every system (seeds.py)."""
    concurrency: int = 48
    """Requests in flight at once."""
    gate: bool = True
    """Test candidates against the last baseline; exit status 1 when one fails."""


@dataclass(frozen=True)
class Setting:
    """What is shared by all systems of a run."""

    config: Config
    out: Path
    world: Path | None
    suites: tuple[Suite, ...]
    files: Mapping[str, Path]
    truthfulqa: Path | None
    data: Mapping[str, Any]
    judge: Any
    truth_judge: Any
    comparisons: Sequence[Comparison]

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.config.temperature, self.config.max_tokens)


def prepare(config: Config) -> Setting:
    """Check everything that can be checked before the first request.

    Raises:
        UserError: a suite without its data, a missing file, or no usable row.
    """
    if not config.checkpoint:
        raise UserError("nothing to evaluate: name at least one --checkpoint")
    world = config.world or _newest_world(config.home)
    if world and not (world / "world.json").is_file():
        raise UserError(f"{world} is not a miniature world: run `python -m training world`, or leave --world out")
    own = _named_files(config.data)
    suites = config.suite or tuple(s for s in ALL if _possible(s, config, world, own))
    for suite in suites:
        if not _possible(suite, config, world, own):
            raise UserError(f"suite {suite} lacks its data: {_lacks(suite)}")
    if not suites:
        raise UserError("there is nothing to measure: run `python -m training world`, or give --data NAME=FILE")
    truthfulqa = own.pop("truthfulqa", None)
    files = own if "tax" in suites else {}
    if world and "tax" in suites and not own:
        files = {f"cloze:{name}": world / f"items-{name}.jsonl" for name in ("skills", "facts", "misconceptions")}
        files["heldout"] = world / "heldout.jsonl"
    data = {name: _describe(name, path, config.home) for name, path in files.items()}
    if world:
        data["world"] = json.loads((world / "world.json").read_text()) | {"path": str(world)}
    if truthfulqa:
        questions = truth.truthfulqa(truthfulqa)  # a file of another form is refused now, not after an hour
        data["truthfulqa"] = questions.summary() | {"rows": len(questions.records)}
    read: list[Comparison] = []
    specs = specs_of(world) if world and config.comparisons else {}
    for path in config.comparisons if "reward" in suites else ():
        loaded = comparisons.load(str(path))
        rows, skipped = loaded.records, loaded.skipped
        held_out = [row for row in rows if specs.get(prompt_hash(list(row.messages)), {}).get("split") != "train"]
        if len(held_out) < len(rows):
            skipped["its prompt is for training"] = len(rows) - len(held_out)
        data[f"comparisons:{path.name}"] = {
            "path": str(path), "sha256": loaded.sha256, "rows": len(held_out), "skipped": dict(skipped)
        }  # fmt: skip
        read += held_out
    out = config.out or config.home / "reports" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    judge = _toxicity_judge(config.home, world) if "toxicity" in suites and world else None
    judge_of_truth = _truth_judge(config.home) if "truth" in suites and truthfulqa else None
    return Setting(config, out, world, suites, files, truthfulqa, data, judge, judge_of_truth, read)


def _possible(suite: Suite, config: Config, world: Path | None, own: Mapping[str, Path]) -> bool:
    if suite == "tax":
        return bool(world or set(own) - {"truthfulqa"})
    if suite == "truth":
        return bool(world or "truthfulqa" in own)
    if suite == "reward":
        return bool(config.reward and (world or config.comparisons))
    return world is not None


def _lacks(suite: Suite) -> str:
    world = "run `python -m training world` or give --world"
    if suite == "tax":
        return f"{world}, or give --data such as hellaswag=FILE"
    if suite == "truth":
        return f"{world}, or give --data truthfulqa=FILE"
    return "give --reward, and a world or --comparisons" if suite == "reward" else world


def _named_files(entries: Sequence[str]) -> dict[str, Path]:
    """Sources by name. Raises `UserError` for one that cannot be opened, and for two that results would name alike."""
    files: dict[str, Path] = {}
    tasks: set[str] = set()
    for entry in entries:
        name, separator, path = entry.partition("=")
        task = name.rpartition(":")[2]
        if not separator or not task or not path:
            raise UserError(f"--data {entry!r} is not of the form NAME=FILE, such as hellaswag=hellaswag.jsonl")
        if task in tasks:
            raise UserError(f"--data names {task} twice: give every file a name of its own")
        open_source(path)
        tasks.add(task)
        files[name] = Path(path)
    return files


def _describe(name: str, path: Path, home: Path) -> dict[str, Any]:
    kind, task = split_name(name)
    return dict(read_task(spec_of(task, kind, str(path), home).kind, str(path)).summary)


def _newest_world(home: Path) -> Path | None:
    manifests = sorted((home / "world").glob("[!.]*/world.json"), key=lambda p: p.stat().st_mtime)
    return manifests[-1].parent if manifests else None


def _toxicity_judge(home: Path, world: Path) -> Any:
    """The judge trained on this world's comments; trained now if it was not yet."""
    from evals.judges.classifier import Judge

    data = world / "toxicity.jsonl"
    folder = toxicity_judge.judge_folder(home, data)
    if not (folder / "judge.json").is_file():
        toxicity_judge.main(toxicity_judge.Config(data=data, home=home))
    return Judge(folder)


def _truth_judge(home: Path) -> Any:
    """The judge of TruthfulQA answers where one was trained; without it only multiple choice is scored."""
    from evals.judges.classifier import Judge

    folder = truth_judge.judge_folder(home)
    return Judge(folder) if (folder / "judge.json").is_file() else None


def specs_of(world: Path) -> dict[str, Any]:
    """Prompts of the world by the hash of their messages."""
    rows = [json.loads(line) for path in sorted(world.glob("prompts-*.jsonl")) for line in path.open()]
    return {prompt_hash(row["messages"]): row for row in rows}
