"""The records of a mixture of sources, one after the other: counted, limited at random, cleaned on request.

Nothing but what a limit or hygiene needs is held in memory: with a limit, the records that it draws; with hygiene,
the prompts' texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.artifacts.comparisons import AFTER_REVEAL, is_blind
from training.artifacts.errors import UserError
from training.artifacts.files import check_hash
from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.layouts.grouping import demonstrated, judged
from training.artifacts.loading import Reading, Regroup, parse_mixture
from training.artifacts.rows import Skip, kind_of, open_source
from training.data import hygiene as rules
from training.data.usage import SourceUsage
from training.runtime.runs import rng_for


class DataKind(NamedTuple):
    """A kind of data.

    Attributes:
        role: its name in sentences and manifests.
        parse: makes a record of a row, or raises `Skip`.
        needs: the columns that it needs, for the error when no row has them.
        regroup: makes one row per record where records are spread over rows.
    """

    role: str
    parse: Callable[..., Any]
    needs: str
    regroup: Regroup | None = None


DEMONSTRATIONS = DataKind("demonstrations", demonstrations.parse, demonstrations.NEEDS, demonstrated)
COMPARISONS = DataKind("comparisons", comparisons.parse, comparisons.NEEDS, judged)
PROMPTS = DataKind("prompts", prompts.parse, prompts.NEEDS, demonstrated)
DOCUMENTS = DataKind("pretraining", pretraining.parse, pretraining.NEEDS)


@dataclass(frozen=True)
class Selection:
    """Which rows are used.

    Attributes:
        sources: files, folders or hub ids, as the user wrote them.
        limit: records at most, drawn at random.
        seed: of the draw.
        hygiene: leave out repeated prompts, those beyond 200 per user, and those with personal information.
        role: what the data is for, in sentences and manifests.
        weights: how often each source's rows are used per pass; see `mixed`.
        revealed: use comparisons too that were given after the names were shown.
    """

    sources: tuple[str, ...]
    role: str
    weights: tuple[float, ...]
    limit: int | None = None
    seed: int = 0
    hygiene: bool = False
    revealed: bool = False


def select(
    kind: DataKind,
    sources: str | Sequence[str],
    *,
    role: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    hygiene: bool = False,
    revealed: bool = False,
) -> Selection:
    """A selection of these sources, each with an optional weight (`SOURCE=WEIGHT`).

    Args:
        sources: a single one may be plain text.
        role: the kind's where it is left out.
        limit, seed, hygiene, revealed: see `Selection`.

    Raises:
        UserError: a source does not exist, or an option makes no sense.
    """
    names = (sources,) if isinstance(sources, str) else tuple(sources)
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: use at least 1, or leave it out")
    mixture = parse_mixture(names)
    opened: dict[Any, str] = {}
    for source, _ in mixture:
        other = opened.setdefault(open_source(source).key, source)
        if other != source:
            raise UserError(f"{source} is {other} by another path: name every source once, with its weight")
    paths, weights = zip(*mixture, strict=True)
    return Selection(paths, role or kind.role, weights, limit, seed, hygiene, revealed)


class Entry(NamedTuple):
    """A record and the number of its source."""

    source: int
    record: Any


def entries(selection: Selection, kind: DataKind, usages: Sequence[SourceUsage]) -> Iterator[Entry]:
    """The records to use, in the sources' order. What is left out is counted in `usages`, one per source.

    Raises:
        UserError: a source is missing, cannot be read, or has none of the columns that are needed.
    """
    stream = _all(selection, kind, usages)
    if kind is COMPARISONS:
        stream = stream if selection.revealed else _blind(stream, usages)
        stream = _without_corrected(stream, _corrected(selection), usages)
    if selection.hygiene:
        stream = _clean(stream, kind, _repeated(selection, kind), usages)
    return stream if selection.limit is None else _sampled(stream, selection, usages)


def fingerprint(source: str, kind: DataKind) -> tuple[str, list[Any]]:
    """What a source holds now: its sha256, and how its bytes are read.

    Raises:
        UserError: a file has other bytes than those whose hash is beside it.
    """
    opened = open_source(source, documents=kind is DOCUMENTS)
    for file in opened.files:
        check_hash(file)
    return opened.sha256(), [[kind_of(file) for file in opened.files], opened.split]


def _all(selection: Selection, kind: DataKind, usages: Sequence[SourceUsage]) -> Iterator[Entry]:
    for number, (source, usage) in enumerate(zip(selection.sources, usages, strict=True)):
        passed = Reading(source, kind.parse, needs=kind.needs, regroup=kind.regroup, documents=kind is DOCUMENTS)
        for record in passed:
            yield Entry(number, record)
        usage.rows = passed.rows
        usage.skipped.update(passed.skipped)
        usage.ignored.update(passed.ignored)


def _blind(stream: Iterator[Entry], usages: Sequence[SourceUsage]) -> Iterator[Entry]:
    for entry in stream:
        if is_blind(entry.record):
            yield entry
        else:
            usages[entry.source].skipped["given after the names were shown"] += 1


def _corrected(selection: Selection) -> set[str]:
    """Ids of the comparisons that a row of any source corrects. Most sources have no such rows: they are read once."""
    sources = [source for source in map(open_source, selection.sources) if source.mentions("supersedes")]
    rows = (row for source in sources for row in source.rows() if not isinstance(row, Skip) and row.get("supersedes"))
    return {str(row["supersedes"]) for row in rows if selection.revealed or not _after_reveal(row)}


def _after_reveal(row: Mapping[str, Any]) -> bool:
    meta = row.get("meta")
    return isinstance(meta, Mapping) and bool(meta.get(AFTER_REVEAL))


def _without_corrected(stream: Iterator[Entry], corrected: set[str], usages: Sequence[SourceUsage]) -> Iterator[Entry]:
    for entry in stream:
        if entry.record.id in corrected:
            usages[entry.source].skipped["a later row corrects it"] += 1
        else:
            yield entry


def _repeated(selection: Selection, kind: DataKind) -> set[int]:
    """Places of the records whose prompt repeats an earlier one. Comparisons of one prompt are not repetitions."""
    if kind not in (DEMONSTRATIONS, PROMPTS):
        return set()
    unread = [SourceUsage(source, "") for source in selection.sources]
    return rules.duplicates([rules.prompt_text(entry.record) for entry in _all(selection, kind, unread)])


def _clean(
    stream: Iterator[Entry], kind: DataKind, repeated: set[int], usages: Sequence[SourceUsage]
) -> Iterator[Entry]:
    per_user: Counter[str] = Counter()
    for place, entry in enumerate(stream):
        reason = _fault(entry.record, kind, place in repeated, per_user)
        if reason is None:
            yield entry
        else:
            usages[entry.source].skipped[reason] += 1


def _fault(record: Any, kind: DataKind, repeats: bool, per_user: Counter[str]) -> str | None:
    """Why hygiene leaves a record out (Ouyang et al. 2022, section 3.2), or None. Counts its user's records."""
    if repeats:
        return "the prompt repeats an earlier one"
    if record.user is not None and kind is not COMPARISONS:
        per_user[record.user] += 1
        if per_user[record.user] > rules.PROMPTS_PER_USER:
            return f"more than {rules.PROMPTS_PER_USER} prompts of one user"
    kinds = rules.personal_information("\n".join(rules.texts_of(record)))
    return f"it contains {kinds[0]}" if kinds else None


def _sampled(stream: Iterator[Entry], selection: Selection, usages: Sequence[SourceUsage]) -> Iterator[Entry]:
    """A random draw of `limit` entries in their order (Vitter 1985, algorithm R), so only they are held in memory."""
    assert selection.limit is not None
    rng = rng_for(selection.seed, "limit")
    reservoir: list[tuple[int, Entry]] = []
    for place, entry in enumerate(stream):
        if place < selection.limit:
            reservoir.append((place, entry))
            continue
        other = rng.randrange(place + 1)
        left = entry
        if other < selection.limit:
            left = reservoir[other][1]
            reservoir[other] = (place, entry)
        usages[left.source].skipped[f"beyond the limit of {selection.limit:,}"] += 1
    yield from (entry for _, entry in sorted(reservoir, key=lambda item: item[0]))
