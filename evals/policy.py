"""Which metrics the gate decides on, and the drop that each may not exceed.

The shipped policy takes every metric that a measured suite declares as required, with the margin of its declaration. A
file adds metrics or sets other margins, and names those to ignore; it cannot leave one out in silence:

    ignore = ["tax.wikitext.*"]

    [margins]
    "tax.hellaswag.acc_norm" = 0.02
    "truth.*" = 0.03
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evals.decision import Rule
from evals.measured import Measured
from training.artifacts.errors import UserError


class PolicyError(UserError):
    """A policy that does not fit what is measured: a mistake to mend, whatever was measured."""


@dataclass(frozen=True)
class Policy:
    """Margins beyond the declared ones.

    Attributes:
        margins: metric ("suite.task.score") or pattern (`*`, `?`) -> margin; exact names come before patterns, and of
            several patterns the first holds.
        ignore: metrics or patterns that are not decided on.
        name: for people.
    """

    margins: Mapping[str, float] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    name: str = "shipped"


@dataclass(frozen=True)
class Ungated:
    """A measured metric that the gate does not decide on; `blocks` if it must get a rule before the gate passes."""

    metric: str
    reason: str
    blocks: bool


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        UserError: it is missing, not TOML, or says something that is not a policy.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give a policy file, or leave --policy out") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    for key in content.keys() - {"margins", "ignore"}:
        raise UserError(f"{path}: {key!r} is not a key of a policy: use [margins] and ignore")
    margins, ignore = content.get("margins", {}), content.get("ignore", [])
    if not isinstance(margins, dict) or not isinstance(ignore, list) or not all(isinstance(i, str) for i in ignore):
        raise UserError(f"{path}: [margins] is a table of metric = margin, and ignore a list of metrics")
    for metric, margin in margins.items():
        if isinstance(margin, dict):
            raise UserError(f'{path}: put the name of the metric in quotes: "{metric}.{_first_path(margin)}" = 0.02')
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < math.inf:
            raise UserError(f"{path}: the margin of {metric} is {margin!r}: give a number from 0")
    return Policy({metric: float(margin) for metric, margin in margins.items()}, tuple(ignore), str(path))


def rules_of(policy: Policy, candidate: Measured, baseline: Measured) -> tuple[list[Rule], list[Ungated]]:
    """The rules of a comparison, and the measured metrics without one.

    Raises:
        PolicyError: the policy names what neither side measured or what cannot be compared, or a margin allows any
            drop.
        UserError: the two sides declare a metric differently.
    """
    sides = (candidate, baseline)
    unusable = {**baseline.unusable, **candidate.unusable}
    measured = {key for side in sides for key in _measured(side)} | unusable.keys()
    suites = candidate.suites | baseline.suites
    declared = {
        m: f
        for m, f in _declarations(sides).items()
        if m in measured or (m.split(".")[0] in suites and f.get("required"))
    }
    _check_names(policy, measured, declared, unusable)
    rules, ungated = [], []
    for metric in sorted(measured | declared.keys()):
        fields, own = declared.get(metric, {}), margin_of(policy, metric)
        usable = metric not in unusable and fields.get("better") is not None
        margin = fields.get("margin") if own is None and fields.get("required") else own
        if any(fnmatchcase(metric, pattern) for pattern in policy.ignore):
            ungated.append(Ungated(metric, "ignored by the policy", blocks=False))
        elif usable and margin is not None:
            rules.append(rule_of(metric, fields, margin))
        else:
            demanded = bool(fields.get("required")) or not fields or any(s.rule_for_all for s in sides)
            ungated.append(Ungated(metric, unusable.get(metric) or _why(fields), blocks=demanded))
    return rules, ungated


def _measured(side: Measured) -> set[str]:
    return {f"{item.suite}.{item.task}.{score}" for item in side.items for score in item.scores}


def _declarations(sides: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """The declaration of each metric. Of two margins the smaller holds; what one side requires is required."""
    merged: dict[str, dict[str, Any]] = {}
    for side in sides:
        for metric, fields in side.declared.items():
            other = merged.setdefault(metric, dict(fields))
            for name in ("better", "wins"):
                if other.get(name) != fields.get(name):
                    raise UserError(
                        f"{metric}: the two results declare {name} differently ({other.get(name)} and "
                        f"{fields.get(name)}): measure both with the same version"
                    )
            margins = [f["margin"] for f in (other, fields) if f.get("margin") is not None]
            share = bool(other.get("share", True) and fields.get("share", True))
            # The margin of a share says nothing of a value that one side has outside [0, 1].
            same = bool(other.get("share", True)) == bool(fields.get("share", True))
            other |= {
                "share": share,
                "required": bool(other.get("required") or fields.get("required")),
                "margin": min(margins) if margins and same else None,
            }
    return merged


def _check_names(
    policy: Policy, measured: Iterable[str], declared: Mapping[str, Mapping[str, Any]], unusable: Mapping[str, str]
) -> None:
    names = sorted(set(measured))
    for pattern in (*policy.margins, *policy.ignore):
        hits = [name for name in {*names, *declared} if fnmatchcase(name, pattern)]
        if not hits:
            near = get_close_matches(pattern, names, 3, 0.4) or names[:3]
            raise PolicyError(f"{policy.name}: neither side measured {pattern}; the nearest are {', '.join(near)}")
        if pattern in policy.margins and pattern in hits and (pattern in unusable or not _directed(declared, pattern)):
            raise PolicyError(
                f"{policy.name}: {pattern} cannot be gated: {unusable.get(pattern) or 'it has no direction'}"
            )


def _directed(declared: Mapping[str, Mapping[str, Any]], metric: str) -> bool:
    return declared.get(metric, {}).get("better") is not None


def margin_of(policy: Policy, metric: str) -> float | None:
    """The margin that a policy gives a metric, by its name or else by the first pattern that fits."""
    if metric in policy.margins:
        return policy.margins[metric]
    return next((margin for pattern, margin in policy.margins.items() if fnmatchcase(metric, pattern)), None)


def rule_of(metric: str, fields: Mapping[str, Any], margin: float) -> Rule:
    """The rule of a metric by the fields of its declaration. Raises `PolicyError` for a margin that allows any drop."""
    share, wins = bool(fields.get("share", True)), bool(fields.get("wins"))
    limit = 0.5 if wins else 1.0
    if (share or wins) and margin >= limit:
        raise PolicyError(f"{metric}: a margin of {margin:g} allows any drop: give one below {limit:g}")
    return Rule(metric, str(fields.get("words") or metric), margin, fields["better"], share, wins)


def _why(fields: Mapping[str, Any]) -> str:
    if not fields:
        return "nothing declares what it means"
    if fields.get("better") is None:
        return "it has no direction"
    return "it has no margin"


def _first_path(table: Mapping[str, Any]) -> str:
    """The dotted name that an unquoted key of TOML became."""
    key, value = next(iter(table.items()), ("...", 0))
    return f"{key}.{_first_path(value)}" if isinstance(value, dict) else key
