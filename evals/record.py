"""What was measured of a model, and its files: the result with everything that made it, and the items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals import results
from evals.catalog import SUITES
from evals.generation import Sampling
from evals.options import Config
from evals.results import Item, Result, declare, prompt_hash, summarise
from evals.seeds import RULE
from evals.sources import Sources
from evals.subjects import Subject
from evals.suite import Measurement, Metric
from training.artifacts.provenance import git_state, package_versions


@dataclass(frozen=True)
class Record:
    """All that was measured of one model.

    Attributes:
        measured: name of the suite -> its measurement.
        seconds: wall time; requests: sent, and answers that were known already.
    """

    subject: Subject
    options: Config
    sampling: Sampling
    reward: Subject | None
    measured: Mapping[str, Measurement]
    seconds: float
    requests: Mapping[str, int]

    @property
    def metrics(self) -> dict[str, tuple[Metric, ...]]:
        """Suite -> its declarations, those that its tasks brought along first."""
        return {s.name: (*self.measured[s.name].metrics, *s.metrics) for s in SUITES if s.name in self.measured}

    @property
    def items(self) -> list[Item]:
        """Items of all suites."""
        return [item for measurement in self.measured.values() for item in measurement.items]


def write(record: Record, out: Path, url: str, sources: Sources, contamination: Mapping[str, Any] | None) -> None:
    """Write the result file and the items of one model.

    Args:
        contamination: what stands in its training data, None where that was not looked for.
    """
    config, subject, measured, items = record.options, record.subject, record.measured, record.items
    declared = declare(items, record.metrics)
    figures = {f"{name}.{key}": value for name, m in measured.items() for key, value in m.figures.items()}
    file = f"{subject.name}.items.jsonl"
    digest = results.write_items(items, out / file)
    commit, dirty = git_state()
    data = dict(sources.data) | {key: value for m in measured.values() for key, value in m.data.items()}
    result = Result(
        system=subject.name,
        label=subject.label,
        checkpoint=subject.checkpoint,
        ask=subject.ask,
        url=url,
        through_filters=config.through_filters,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        sampling=asdict(record.sampling) | ({"seed": RULE} if config.temperature > 0 else {}),
        suites=list(measured),
        data=data | ({"contamination": contamination} if contamination else {}),
        judges={key: value for m in measured.values() for key, value in m.judges.items()},
        prompts_sha256=prompt_hash("".join(item.prompt_hash for item in items)),
        items_file=file,
        items_sha256=digest,
        metrics=summarise(items, declared) | figures,
        declared={key: asdict(metric) for key, metric in declared.items()},
        comparable={name: _comparable(m, config) for name, m in measured.items()},
        options=_options(config),
        manifest=_manifest(subject),
        reward=record.reward.checkpoint if record.reward else None,
        packages=package_versions(),
        git_commit=commit,
        git_dirty=dirty,
        seconds=round(record.seconds, 1),
        requests=record.requests,
    )
    results.write_result(result, out)


def _options(config: Config) -> dict[str, Any]:
    """The options of the run, and which of them were not left at their default."""
    defaults = {f.name: f.default for f in fields(Config)}
    values = {name: value for name, value in asdict(config).items() if name not in ("key", "list", "dry_run")}
    return values | {"passed": [name for name in values if getattr(config, name) != defaults[name]]}


def _comparable(measurement: Measurement, config: Config) -> dict[str, Any]:
    """What must agree before another model's measurement of this suite is compared with this one."""
    return {
        "data": {name: row.get("sha256") for name, row in measurement.data.items()},
        "judges": {name: _version(judge) for name, judge in measurement.judges.items()},
        "settings": dict(measurement.settings),
        "through_filters": config.through_filters,
        "limit": config.limit,
    }


def _version(judge: Any) -> Any:
    return judge.get("version") if isinstance(judge, dict) else judge


def _manifest(subject: Subject) -> dict[str, Any]:
    manifest = subject.manifest
    if manifest is None:
        return {}
    return {
        "stage": manifest.stage,
        "parents": list(manifest.parents),
        "seed": manifest.seed,
        "tokenizer_hash": manifest.tokenizer_hash,
        "weights": dict(manifest.weights),
        "created": manifest.created,
    }
