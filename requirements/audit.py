"""What the locked packages bring along: vulnerabilities, licences, a bill of materials; and secrets in the tree.

`make audit` runs it in an environment of its own (audit.txt); audit.toml decides. Exit status 1: something is refused.
What could not be checked is said as a WARNING, never passed over.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, LicenseWithExceptionSymbol, get_spdx_licensing

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
PROBED = 3  # packages asked of an advisory source before all are
SOURCE_SECONDS = 300
LICENSING = get_spdx_licensing()


@dataclass
class Outcome:
    """What one check says: lines for people, refusals, and what could not be checked."""

    said: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def vulnerabilities(options: argparse.Namespace, policy: dict[str, Any]) -> Outcome:
    """Ask PyPI's advisories, else OSV's, about every locked package. A source that knows none of the first packages is
    not reachable: an index that is a mirror answers without advisories."""
    outcome = Outcome()
    locks = [Path(lock) for lock in options.lock] or sorted((ROOT / "requirements").glob("*.txt"))
    packages = {lock.name: lock.read_text().split() for lock in locks}
    if not options.lock:  # what install.sh installs itself
        script = (ROOT / "requirements/install.sh").read_text()
        packages["install.sh"] = sorted(set(re.findall(r"\b(?:torch|uv)==[\d.]+", script)))
    sources = [["osv", "--osv-url", options.osv_url]] if options.osv_url else [["pypi"], ["osv"]]
    source = next((one for one in sources if _answers(one, next(iter(packages.values()))[:PROBED])), None)
    if source is None:
        outcome.unchecked.append("vulnerabilities not checked: no advisory source reachable")
        return outcome
    asked = 0
    for name, lines in packages.items():
        rows = _advisories(source, lines)
        if rows is None:
            outcome.unchecked.append(f"vulnerabilities of {name} not checked: the advisory source stopped answering")
            continue
        silent = sorted(row["name"] for row in rows if "skip_reason" in row)
        if silent:
            outcome.unchecked.append(f"vulnerabilities of {name} not checked of: {', '.join(silent)}")
        asked += len(rows) - len(silent)
        outcome.refused += [
            f"{row['name']} {row['version']} has {found['id']} "
            f"(mended in {', '.join(found['fix_versions']) or 'no version'})"
            for row in rows
            for found in row.get("vulns", ())
            if not {found["id"], *found.get("aliases", ())} & policy["vulnerabilities"].keys()
        ]
    outcome.said.append(f"{asked} locked packages asked of {source[0]}")
    return outcome


def _answers(source: list[str], lines: list[str]) -> bool:
    return any("skip_reason" not in row for row in _advisories(source, lines) or ())


def _advisories(source: list[str], lines: list[str]) -> list[dict[str, Any]] | None:
    """pip-audit's rows; None where the source does not answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines))
        file.flush()
        command = [str(TOOLS / "pip-audit"), "--requirement", file.name, "--no-deps", "--disable-pip", "--format=json"]
        try:
            done = subprocess.run(
                [*command, "--vulnerability-service", *source], capture_output=True, text=True, timeout=SOURCE_SECONDS
            )
            rows: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return None
    return rows


def licences(options: argparse.Namespace, policy: dict[str, Any]) -> Outcome:
    """Every installed package, of AlignLoop and of these tools, has a licence that the policy allows."""
    outcome, rules = Outcome(), policy["licences"]
    installed: dict[str, str] = {}
    for python in (options.python, sys.executable):
        command = [TOOLS / "pip-licenses", "--python", python, "--from=all", "--format=json", "--with-system"]
        for row in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout):
            installed[normal(row["Name"])] = licence_of(row, rules)
    for name, licence in sorted(installed.items()):
        if (reason := refusal(name, licence, rules)) is not None:
            outcome.refused.append(reason)
    options.folder.joinpath("licences.json").write_text(json.dumps(installed, indent=1, sort_keys=True) + "\n")
    outcome.said.append(f"licences of {len(installed)} packages in {options.folder}/licences.json")
    locked = {
        normal(line.split("==")[0])
        for lock in (ROOT / "requirements").glob("*.txt")
        for line in lock.read_text().split()
    }
    if absent := sorted(name for name in locked - installed.keys() if _exception(name, rules) is None):
        outcome.unchecked.append(
            f"licences not checked of packages that are locked but not installed here: {', '.join(absent)}"
        )
    return outcome


def licence_of(row: dict[str, str], rules: dict[str, Any]) -> str:
    """The licence of one of pip-licenses' rows as an SPDX expression, else the first line of what the package says."""
    said = row["License-Metadata"].strip().splitlines()[0].strip() if row["License-Metadata"].strip() else ""
    texts = [row.get("License-Expression", "UNKNOWN"), said, *[row["License-Classifier"]]]
    names = rules["names"]
    for text in texts:
        parts = [names.get(part.strip().lower(), part.strip()) for part in text.split(";")]
        expression = " AND ".join(parts)  # of several classifiers all must be allowed
        if text not in ("", "UNKNOWN") and _parsed(expression) is not None:
            return expression
    return said if said not in ("", "UNKNOWN") else ""


def refusal(name: str, licence: str, rules: dict[str, Any]) -> str | None:
    """Why a package's licence is not accepted, or None."""
    exception = _exception(name, rules)
    if exception is not None and exception.get("says", licence) == licence:
        return None
    if exception is not None:
        return f"{name} was accepted with the licence {exception['says']!r}, and now says {licence!r}"
    parsed = _parsed(licence)
    if parsed is None:
        return f"{name}: licence {licence!r} is not known: review it, and add its name or an exception to audit.toml"
    return None if _allowed(parsed, set(rules["allowed"])) else f"{name}: licence {licence} is not allowed"


def _exception(name: str, rules: dict[str, Any]) -> dict[str, str] | None:
    return next((one for one in rules["exceptions"] if fnmatch.fnmatch(name, one["package"])), None)


def _parsed(text: str) -> Any:
    """An SPDX expression, or None where a part of it is not a known id."""
    try:
        return LICENSING.parse(text, validate=True) if text else None
    except ExpressionError:
        return None


def _allowed(parsed: Any, allowed: set[str]) -> bool:
    if isinstance(parsed, LICENSING.OR):
        return any(_allowed(one, allowed) for one in parsed.args)
    if isinstance(parsed, LICENSING.AND):
        return all(_allowed(one, allowed) for one in parsed.args)
    # An SPDX exception (`WITH`) only ever adds permissions.
    return (parsed.license_symbol if isinstance(parsed, LicenseWithExceptionSymbol) else parsed).key in allowed


def bill(options: argparse.Namespace, policy: dict[str, Any]) -> Outcome:
    """CycloneDX files of what is installed, and of the GPU's lock file. The tool checks them against the schema."""
    outcome = Outcome()
    pyproject = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--of", "JSON"]
    wanted = {"installed": ["environment", options.python], "gpu": ["requirements", ROOT / "requirements/gpu.txt"]}
    for name, source in wanted.items():
        file = options.folder / f"{name}.cdx.json"
        command = [TOOLS / "cyclonedx-py", *source, *pyproject, "--validate", "-o", file]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            outcome.refused.append(f"no valid bill of materials of {name}: {done.stderr.strip()[-500:]}")
        else:
            outcome.said.append(f"{len(json.loads(file.read_text())['components'])} components in {file}")
    return outcome


def secrets(options: argparse.Namespace, policy: dict[str, Any]) -> Outcome:
    """Nothing in files of the version control looks like a secret, but what was reviewed."""
    outcome = Outcome()
    done = subprocess.run(
        [TOOLS / "detect-secrets", "scan"], cwd=options.root, check=True, capture_output=True, text=True
    )
    results = json.loads(done.stdout)["results"]
    seen = {(file, row["hashed_secret"][:8]): row for file, rows in results.items() for row in rows}
    reviewed = {(one["file"], one["sha1"]) for one in policy["secrets"]}
    outcome.refused += [
        f"{file}, line {row['line_number']}: {row['type']} (sha1 {digest}): replace it, or review it in audit.toml"
        for (file, digest), row in sorted(seen.items())
        if (file, digest) not in reviewed
    ]
    if options.root == ROOT:
        outcome.refused += [
            f"{file}: audit.toml reviews {digest}, which is gone" for file, digest in reviewed - seen.keys()
        ]
    outcome.said.append(f"{len(seen)} strings that look like secrets, {len(reviewed & seen.keys())} of them reviewed")
    return outcome


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


CHECKS = {one.__name__: one for one in (bill, secrets, vulnerabilities, licences)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(CHECKS)}; default: all")
    parser.add_argument("--root", type=Path, default=ROOT, help="work tree that is searched for secrets")
    parser.add_argument("--python", default=ROOT / ".venv/bin/python", help="environment whose packages are listed")
    parser.add_argument("--folder", type=Path, default=ROOT / ".audit", help="where lists are written")
    parser.add_argument("--lock", action="append", default=[], help="lock file asked about instead of ours")
    parser.add_argument("--osv-url", help="query address of an OSV server, instead of the public sources")
    options = parser.parse_args()
    if unknown := set(options.checks) - CHECKS.keys():
        parser.error(f"unknown check {', '.join(sorted(unknown))}: give {', '.join(CHECKS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    policy = tomllib.loads((ROOT / "requirements/audit.toml").read_text())
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(CHECKS[name], options, policy) for name in options.checks or CHECKS}
        outcomes = {name: one.result() for name, one in running.items()}
    for name, outcome in outcomes.items():
        for line in outcome.said:
            print(f"{name}: {line}")
        for line in outcome.unchecked:
            print(f"{name}: WARNING: {line}")
        for line in outcome.refused:
            print(f"{name}: REFUSED: {line}")
    return int(any(outcome.refused for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
