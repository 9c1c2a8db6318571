"""Where the figures come from: command, data, judges, what failed, what it cost."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evals.report.contents import Contents
from evals.results import Item, count_asked
from evals.usable import is_unusable

USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
SECRETS = ("key",)


@dataclass(frozen=True)
class Failure:
    """Items of one suite that could not be measured for one reason."""

    label: str
    suite: str
    reason: str
    count: int
    of: int


@dataclass(frozen=True)
class Judge:
    """What judged: `facts` are its version, accuracy and whatever else it tells of itself."""

    name: str
    facts: str
    usable: bool


@dataclass(frozen=True)
class Source:
    """What was read: a file with its hash, rows, and rows left out by reason."""

    name: str
    path: str
    rows: str
    skipped: str
    sha256: str


def command(options: Mapping[str, Any]) -> str:
    """The command that measures again, quoted for a shell: the options that were not left at their default."""
    lines = ["python -m evals.run"]
    for name in options.get("passed") or ():
        if name in options and name not in SECRETS:
            words = _words(name.replace("_", "-"), options[name])
            if words:
                lines.append(shlex.join(words))
    return " \\\n  ".join(lines)


def _words(option: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{option}", *(without_password(str(each)) for each in values)] if values else []


def without_password(text: str) -> str:
    """An address without a user and password in it."""
    return USERINFO.sub("", text)


def failures(contents: Contents) -> list[Failure]:
    """Missing measurements by model, suite and reason."""
    rows = []
    for result, items in contents.run:
        by_reason: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            if item.missing:
                by_reason[item.suite, item.missing].append(item)
        counts = {key: count_asked(failed) for key, failed in by_reason.items()}
        rows += [
            Failure(result.label, suite, reason, count, count_asked(item for item in items if item.suite == suite))
            for (suite, reason), count in sorted(counts.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0]))
        ]
    return rows


def judges(contents: Contents) -> list[Judge]:
    """Every judge of every model, each version once."""
    described = (pair for result, _ in contents.run for pair in result.judges.items() if pair[1] is not None)
    rows = [Judge(name, _facts(judge, ("usable", "scores")), not is_unusable(judge)) for name, judge in described]
    return list(dict.fromkeys(rows))


def sources(contents: Contents) -> list[Source]:
    """Every file that any model was measured on; one that differs between models is named twice."""
    rows = []
    for result, _ in contents.run:
        for name, source in result.data.items():
            if name == "contamination" or not isinstance(source, Mapping):
                continue
            version = f" (version {source['version']})" if source.get("version") is not None else ""
            skipped = source.get("skipped") or {}
            rows.append(
                Source(
                    name=f"{name}{version}",
                    path=str(source.get("path") or ""),
                    rows=f"{source['rows']:,}" if isinstance(source.get("rows"), int) else "",
                    skipped="; ".join(f"{count} × {reason}" for reason, count in skipped.items()),
                    sha256=str(source.get("sha256") or ""),
                )
            )
    return list(dict.fromkeys(rows))


def contamination(contents: Contents) -> list[tuple[str, str, str, str]]:
    """(model, items checked, items in its training data, anything else) where it was looked for."""
    rows = []
    for result, _ in contents.run:
        counts = result.data.get("contamination")
        if isinstance(counts, Mapping):
            rest = _facts(counts, ("checked", "found"))
            rows.append((result.label, str(counts.get("checked", "")), str(counts.get("found", "")), rest))
    return rows


def _facts(value: Any, left_out: Iterable[str] = ()) -> str:
    """A mapping of numbers and words on one line; anything nested follows in brackets."""
    if not isinstance(value, Mapping):
        return without_password(_fact(value))
    facts = ((name.replace("_", " "), fact) for name, fact in value.items() if name not in left_out)
    return "; ".join(f"{name}: {_nested(fact)}" for name, fact in facts if fact is not None and fact != {})


def _nested(value: Any) -> str:
    return f"({_facts(value)})" if isinstance(value, Mapping) else without_password(_fact(value))


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value):
        return value[:12]
    return str(value)
