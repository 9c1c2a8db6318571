"""Sampling K responses a prompt, for people or the miniature world's labelers to rank."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from training.artifacts import comparisons, progress
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.artifacts.layouts import prompts
from training.artifacts.layouts.prompts import PromptRecord
from training.data.rendering import plain, usable_rows
from training.miniature import Labeler
from training.models import forward, hardware, loading, templates
from training.rl import batches, rollouts
from training.runtime import runs
from training.runtime.configuration import parse

AT_ONCE = 96  # prompts sampled together


@dataclass(frozen=True)
class Config:
    """Sample K responses to each prompt and write them as JSONL; with --labelers, rank them too."""

    prompts: str
    """Prompts: a file, a folder or a hub id."""
    model: str = "sft"
    """Who answers: checkpoint id, stage (its newest), folder or hub id."""
    k_min: int = 4
    """Fewest responses a prompt."""
    k_max: int = 9
    """Most responses a prompt; K is drawn evenly for each."""
    temperature: float = 1.0
    """Sampling temperature."""
    max_tokens: int | None = None
    """Greatest length of a response; the checkpoint's default if left out."""
    limit: int | None = None
    """Use this many prompts at most."""
    labelers: Literal["miniature"] | None = None
    """Have the miniature world's simulated labelers rank the responses, and freeze the rankings."""
    world: str = ""
    """Folder of the miniature world, where its labelers are."""
    name: str = "default"
    """Responses are written to HOME/samples/NAME.jsonl, rankings to HOME/comparisons/NAME.jsonl and, for prompts
    of the validation split, ranked by both groups of labelers, to NAME-validation.jsonl beside it."""
    seed: int = 0
    """Seed of K, sampling, the order shown and the labelers' noise."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def sample(config: Config) -> Path:
    """Sample, and rank where asked. Returns the last file written."""
    if not 2 <= config.k_min <= config.k_max:
        raise UserError(f"--k-min {config.k_min} and --k-max {config.k_max}: a ranking needs 2 <= k-min <= k-max")
    if config.labelers and not config.world:
        raise UserError("--labelers miniature needs --world, the folder that `python -m training world` wrote")
    labelers = _labelers(Path(runs.at_home(config.home, config.world))) if config.labelers else None
    hardware.set_threads()
    data = prompts.load(runs.at_home(config.home, config.prompts), limit=config.limit)
    source = loading.load(config.model, config.home)
    max_tokens = config.max_tokens or default_length(source)
    skipped: Counter[str] = Counter()
    pairs = render_prompts(source, data.records, max_tokens, skipped)
    rows = _respond(source, pairs, max_tokens, config)
    path = config.home / "samples" / f"{config.name}.jsonl"
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    runs.CONSOLE.print(
        f"{len(rows):,} prompts with responses: {path}; skipped: {dict(data.skipped + skipped) or 'none'}"
    )
    if labelers is None:
        return path
    return _rank(rows, [record for record, _ in pairs], labelers, config)


def default_length(source: loading.Source) -> int:
    """Greatest length of a response by the checkpoint's manifest, or a quarter of the model's context."""
    default = source.checkpoint.manifest.generation.get("max_tokens") if source.checkpoint else None
    return int(default or forward.context_of(source.model) // 4)


def render_prompts(
    source: loading.Source, records: Sequence[PromptRecord], max_tokens: int, skipped: Counter[str]
) -> list[tuple[PromptRecord, list[int]]]:
    """Each prompt with its token ids; those that cannot be used are counted in `skipped`.

    Raises:
        UserError: no prompt leaves room for a response, or the tokenizer has no chat template.
    """
    room = forward.context_of(source.model) - max_tokens
    renderer = templates.renderer_for(source)
    rows = usable_rows(renderer, [plain(r.messages) for r in records], room, skipped, generation=True)
    pairs = [(record, row) for record, row in zip(records, rows, strict=True) if row is not None]
    if not pairs:
        raise UserError(f"no prompt leaves room for {max_tokens} tokens in the context: lower --max-tokens")
    return pairs


def _respond(
    source: loading.Source, pairs: Sequence[tuple[PromptRecord, list[int]]], max_tokens: int, config: Config
) -> list[dict[str, Any]]:
    """One row a prompt with its K responses."""
    shape = {"temperature": config.temperature, "top_p": 1.0, "max_tokens": max_tokens, "seed": config.seed}
    chance = runs.rng_for(config.seed, "k")
    ks = [chance.randint(config.k_min, config.k_max) for _ in pairs]
    by_k = sorted(range(len(pairs)), key=lambda i: (ks[i], len(pairs[i][1])))
    parts = [part for _, same_k in groupby(by_k, key=lambda i: ks[i]) for part in batches.chunks(list(same_k), AT_ONCE)]
    responses: list[list[Response]] = [[] for _ in pairs]
    renderer = templates.renderer_for(source)
    for part in progress.track(parts, "sampling"):
        k = ks[part[0]]
        seed = runs.derive_seed(config.seed, "sample", part[0])
        sampling = rollouts.Sampling(config.temperature, max_tokens, renderer.stop_ids, seed, rows=k * AT_ONCE)
        drawn = rollouts.generate(source.model, [pairs[i][1] for i in part], k, sampling)
        texts = [renderer.answer(ids) for ids in drawn.ids]
        for place, (text, finished) in enumerate(zip(texts, drawn.finished, strict=True)):
            response = Response(text, source.key, shape, "stop" if finished else "length")
            responses[part[place // k]].append(response)
    return [asdict(pair[0]) | {"responses": [asdict(r) for r in rs]} for pair, rs in zip(pairs, responses, strict=True)]


def _rank(
    rows: Sequence[dict[str, Any]],
    records: Sequence[PromptRecord],
    labelers: dict[str, list[Labeler]],
    config: Config,
) -> Path:
    """Rank every row by a labeler of the training group; rows of validation users by one of each group."""
    folder = config.home / "comparisons"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    made: dict[str, list[Comparison]] = {"train": [], "validation": []}
    tied = 0
    for row, record in zip(rows, records, strict=True):
        split = "validation" if record.split == "validation" else "train"
        for group in ("training", "heldout") if split == "validation" else ("training",):
            comparison = _comparison(row, record, labelers[group], config.seed, created)
            if len(set(comparison.ranks or ())) > 1:
                made[split].append(comparison)
            else:
                tied += 1
    if not made["train"]:
        raise UserError(f"all {tied} rankings were ties: use more prompts, or a higher temperature")
    for split, found in made.items():
        path = folder / f"{config.name}{'' if split == 'train' else '-validation'}.jsonl"
        if found:
            sha256, count = comparisons.freeze(found, path)
            runs.CONSOLE.print(f"{count:,} rankings: {path} (sha256 {sha256[:12]})")
    runs.CONSOLE.print(f"{tied} rankings were left out: all responses tied")
    return folder / f"{config.name}.jsonl"


def _comparison(
    row: dict[str, Any], record: PromptRecord, labelers: Sequence[Labeler], seed: int, created: str
) -> Comparison:
    """One ranking by one labeler, who sees the responses in a random order."""
    group = labelers[0].group
    chance = random.Random(f"{seed}/{record.id}/{group}")
    labeler = chance.choice(list(labelers))
    responses = tuple(Response(**r) for r in row["responses"])
    shown = chance.sample(range(len(responses)), len(responses))
    seen = labeler.rank({"spec": record.spec}, [responses[i].text for i in shown], chance)
    rank_of = dict(zip(shown, seen, strict=True))
    return Comparison(
        id=f"{record.id}-{labeler.id}",
        messages=tuple(plain(record.messages)),
        responses=responses,
        ranks=tuple(rank_of[i] for i in range(len(responses))),
        shown=tuple(shown),
        labeler=labeler.id,
        labeler_group=group,
        guideline="miniature",
        user=record.user,
        prompt_id=record.id,
        created=created,
        meta={"use_case": record.use_case, "mode": record.mode},
    )


def _labelers(world: Path) -> dict[str, list[Labeler]]:
    """The world's labelers by group."""
    file = world / "labelers.jsonl"
    if not file.is_file():
        raise UserError(f"{file} does not exist: run `python -m training world` first, and name its folder by --world")
    found = [Labeler(**json.loads(line)) for line in file.read_text().splitlines()]
    return {group: [x for x in found if x.group == group] for group in ("training", "heldout")}


def main(arguments: Sequence[str]) -> int:
    """`python -m training sample`."""
    print(sample(parse(Config, "sample", arguments)))
    return 0
