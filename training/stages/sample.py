"""Sampling K responses per prompt, for people or the miniature world's labelers to rank."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from training.artifacts import comparisons
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of, write_atomically
from training.artifacts.layouts.prompts import PromptRecord
from training.artifacts.rendering import Renderer
from training.artifacts.text import text_fault
from training.data import lengths, reading
from training.data.reading import Selection
from training.data.usage import SourceUsage, Usage
from training.miniature import Labeler
from training.models import hardware, loading, templates
from training.rl import batches, rollouts
from training.runtime import runs
from training.runtime.configuration import parse
from training.stages import limits

AT_ONCE = 96  # prompts sampled, and kept, together


@dataclass(frozen=True)
class Config:
    """Sample K responses to each prompt and write them as JSONL; with --labelers, rank them too."""

    prompts: tuple[str, ...]
    """Prompts: files, folders or hub ids (ID[:configuration][@split])."""
    model: str = "sft"
    """Who answers: checkpoint id, stage (its newest), folder or hub id."""
    k_min: int = 4
    """Fewest responses per prompt. 4 (Ouyang et al. 2022, section 3.5)."""
    k_max: int = 9
    """Most responses per prompt; K is drawn evenly for each. 9 (Ouyang et al. 2022, section 3.5)."""
    temperature: float = 1.0
    """Sampling temperature."""
    context: int | None = None
    """Greatest number of tokens of prompt and response together; left out, the model's own, at most 2,048
    (Ouyang et al. 2022, appendix C)."""
    max_prompt_tokens: int = lengths.PROMPT
    """Longer prompts are left out, never cut. 1k (Ouyang et al. 2022, appendix C)."""
    max_tokens: int | None = None
    """Greatest length of a response in tokens; left out, the checkpoint's default, at most 1,024
    (Ouyang et al. 2022, appendix C)."""
    hygiene: bool = False
    """Leave out repeated prompts, those beyond 200 per user, and those with personal information."""
    limit: int | None = None
    """Use this many prompts at most, drawn at random."""
    labelers: Literal["miniature"] | None = None
    """Have the miniature world's simulated labelers rank the responses, and freeze the rankings."""
    world: str = ""
    """Folder of the miniature world, where its labelers are."""
    name: str = "default"
    """Responses are written to HOME/samples/NAME.jsonl, rankings to HOME/comparisons/NAME.jsonl and, for prompts
    of the validation split, ranked by both groups of labelers, to NAME-validation.jsonl beside it."""
    seed: int = 0
    """Seed of K, sampling, the order shown and the labelers' noise."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


class Prompt(NamedTuple):
    """A prompt and its token ids, which end with the header of the answer to come."""

    record: PromptRecord
    ids: list[int]


def sample(config: Config) -> Path:
    """Sample, and rank if `labelers` says so. Returns the last file written.

    Responses are kept part by part: a run that was stopped or killed continues with the next part, and ends in the same
    file.
    """
    check(config)
    labelers = _labelers(Path(config.world)) if config.labelers else None
    hardware.set_threads()
    selection = reading.select(
        reading.PROMPTS, config.prompts, limit=config.limit, seed=config.seed, hygiene=config.hygiene
    )
    source = loading.load(config.model, config.home)
    renderer = templates.renderer_for(source)
    renderer.require_end()
    context = limits.context_of(source.model, config.context)
    max_tokens = limits.response_length(source, context, config.max_tokens)
    prompts, usage = load_prompts(
        selection, renderer, limits.prompt_length(context, max_tokens, config.max_prompt_tokens)
    )
    limits.report(usage)
    responses = respond(source, renderer, prompts, max_tokens, config, [part.sha256 for part in usage.sources])
    rows = [
        asdict(prompt.record) | {"responses": [asdict(r) for r in its_responses]}
        for prompt, its_responses in zip(prompts, responses, strict=True)
    ]
    path = config.home / "samples" / f"{config.name}.jsonl"
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    cut = sum(response.finish_reason == "length" for its_responses in responses for response in its_responses)
    runs.CONSOLE.print(f"{len(rows):,} prompts with responses: {path}", soft_wrap=True)
    if cut:
        runs.CONSOLE.print(
            f"{cut:,} responses were cut off after {max_tokens} tokens (finish_reason `length`): "
            "reward models leave them out",
            soft_wrap=True,
        )
    return path if labelers is None else _rank(rows, [prompt.record for prompt in prompts], labelers, config)


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    limits.check_name(config.name)
    if not 2 <= config.k_min <= config.k_max:
        raise UserError(f"--k-min {config.k_min} and --k-max {config.k_max}: a ranking needs 2 <= k-min <= k-max")
    if config.labelers and not config.world:
        raise UserError("--labelers miniature needs --world, the folder that `python -m training world` wrote")


def load_prompts(selection: Selection, renderer: Renderer, longest: int) -> tuple[list[Prompt], Usage]:
    """Prompts of at most `longest` tokens, with what was left out."""
    sources = [SourceUsage(path, reading.fingerprint(path, reading.PROMPTS)[0]) for path in selection.sources]
    entries = list(reading.entries(selection, reading.PROMPTS, sources))
    prompts = []
    for entry, row in zip(
        entries, renderer.prompts([e.record.messages for e in entries], longest=longest), strict=True
    ):
        if isinstance(row, Refusal):
            sources[entry.source].skipped[sentence(row)] += 1
        else:
            prompts.append(Prompt(entry.record, row.ids))
    return prompts, Usage(selection.role, tuple(sources), len(prompts))


def respond(
    source: loading.Source,
    renderer: Renderer,
    prompts: Sequence[Prompt],
    max_tokens: int,
    config: Config,
    hashes: Sequence[str],
) -> list[list[Response]]:
    """K responses to each prompt, in the prompts' order."""
    rng = runs.rng_for(config.seed, "k")
    ks = [rng.randint(config.k_min, config.k_max) for _ in prompts]
    by_k = sorted(range(len(prompts)), key=lambda i: (ks[i], len(prompts[i].ids)))
    parts = [part for _, same_k in groupby(by_k, key=lambda i: ks[i]) for part in batches.chunks(list(same_k), AT_ONCE)]
    responses: list[list[Response]] = [[] for _ in prompts]
    with runs.Run(config.home, "sample", config, [source.key, *hashes]) as run:
        for number in run.steps(len(parts), "sampling"):
            part, file = parts[number], run.folder / f"part-{number:05d}.json"
            if not file.is_file():
                sampled = sample_part(source, renderer, prompts, part, ks[part[0]], max_tokens, config)
                write_atomically(file, json.dumps([[asdict(r) for r in its_responses] for its_responses in sampled]))
            for place, its_responses in zip(part, json.loads(file.read_text()), strict=True):
                responses[place] = [Response(**response) for response in its_responses]
    return responses


def sample_part(
    source: loading.Source,
    renderer: Renderer,
    prompts: Sequence[Prompt],
    part: Sequence[int],
    k: int,
    max_tokens: int,
    config: Config,
) -> list[list[Response]]:
    """K responses to each prompt of a part: those of prompts with these numbers."""
    seed = runs.derive_seed(config.seed, "sample", part[0])
    shape = {"temperature": config.temperature, "top_p": 1.0, "max_tokens": max_tokens, "seed": config.seed}
    sampling = rollouts.Sampling(config.temperature, max_tokens, renderer.stop_ids, seed)
    sampled = rollouts.generate(source.model, [prompts[i].ids for i in part], k, sampling)
    responses = [
        Response(renderer.answer(ids), source.key, shape, "stop" if finished else "length")
        for ids, finished in zip(sampled.ids, sampled.finished, strict=True)
    ]
    return [responses[start : start + k] for start in range(0, len(responses), k)]


def _rank(
    rows: Sequence[dict[str, Any]],
    records: Sequence[PromptRecord],
    labelers: dict[str, list[Labeler]],
    config: Config,
) -> Path:
    """Rank every row by a labeler of the training group; rows of validation users by one of each group."""
    folder = config.home / "comparisons"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    rankings: dict[str, list[Comparison]] = {"train": [], "validation": []}
    tied = unstorable = 0
    for row, record in zip(rows, records, strict=True):
        if text_fault(row["responses"]):  # a model that is hardly trained writes null characters, too
            unstorable += 1
            continue
        split = "validation" if record.split == "validation" else "train"
        for group in ("training", "heldout") if split == "validation" else ("training",):
            comparison = _comparison(row, record, labelers[group], config.seed, created)
            if len(set(comparison.ranks or ())) > 1:
                rankings[split].append(comparison)
            else:
                tied += 1
    if unstorable:
        runs.CONSOLE.print(f"{unstorable:,} prompts were not ranked: a response has characters that cannot be stored")
    if not rankings["train"]:
        raise UserError(f"no ranking is left, {tied} were ties: use more prompts, or a higher temperature")
    for split, of_split in rankings.items():
        path = folder / f"{config.name}{'' if split == 'train' else '-validation'}.jsonl"
        if of_split:
            sha256, count = comparisons.freeze(of_split, path)
            runs.CONSOLE.print(f"{count:,} rankings: {path} (sha256 {sha256[:12]})")
    runs.CONSOLE.print(f"{tied} rankings were left out: all responses tied")
    return folder / f"{config.name}.jsonl"


def _comparison(
    row: dict[str, Any], record: PromptRecord, labelers: Sequence[Labeler], seed: int, created: str
) -> Comparison:
    """One ranking by one labeler, who sees the responses in a random order."""
    group = labelers[0].group
    rng = random.Random(f"{seed}/{record.id}/{group}")
    labeler = rng.choice(list(labelers))
    responses = tuple(Response(**r) for r in row["responses"])
    shown = rng.sample(range(len(responses)), len(responses))
    ranks = labeler.rank({"spec": record.spec}, [responses[i].text for i in shown], rng)
    rank_of = dict(zip(shown, ranks, strict=True))
    return Comparison(
        id=f"{record.id}-{labeler.id}",
        messages=tuple({"role": m["role"], "content": m["content"]} for m in record.messages),
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
    labelers = [Labeler(**json.loads(line)) for line in lines_of(file)]
    return {group: [labeler for labeler in labelers if labeler.group == group] for group in ("training", "heldout")}


def main(arguments: Sequence[str]) -> int:
    """`python -m training sample`."""
    print(sample(parse(Config, "sample", arguments)))
    return 0
