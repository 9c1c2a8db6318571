"""File formats, from the dataclasses and tables that read and write them."""

from __future__ import annotations

import tomllib

from docs.tables import fields_of, table
from evals.catalog import SUITES
from evals.decision import Row
from evals.report.csv_file import COLUMNS
from evals.report.summary import Summary
from evals.results import Item, Result
from evals.suite import Metric
from evals.verdict import Verdict
from training.artifacts.checkpoints import Manifest
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.layouts.catalog import LAYOUTS
from training.artifacts.layouts.faults import FAULTS
from training.artifacts.skips import REASONS
from training.loop.world import GROUPS, LOCKED, PURPOSES
from training.miniature.items import KINDS
from training.miniature.world import SIZES
from training.runtime.configuration import COMMON, PRESETS, TABLES


def manifest() -> str:
    return fields_of(Manifest)


def comparison() -> str:
    return f"{fields_of(Comparison)}\n\nOne entry of `responses`:\n\n{fields_of(Response)}"


def result() -> str:
    return fields_of(Result)


def item() -> str:
    return fields_of(Item)


def declared_metrics() -> str:
    """Every metric that a suite declares; tasks that bring their metrics along, such as lm-eval's, add theirs."""
    rows = [
        (
            suite.name, f"`{metric.name}`", metric.words, metric.better or "described only",
            "%" if metric.share else "", "" if metric.margin is None else f"{metric.margin:g}",
            "yes" if metric.required else "", "win rate" if metric.wins else "mean",
        )
        for suite in SUITES
        for metric in suite.metrics
    ]  # fmt: skip
    header = ("suite", "metric", "meaning", "better", "unit", "margin", "required", "compared by")
    return f"{table(header, rows)}\n\nTheir fields:\n\n{fields_of(Metric)}"


def summary() -> str:
    return fields_of(Summary)


def csv_columns() -> str:
    return ", ".join(f"`{name}`" for name in COLUMNS)


def gate() -> str:
    return f"{fields_of(Verdict)}\n\nOne of `rows`:\n\n{fields_of(Row)}"


def world() -> str:
    rows = [
        ("`world.json`", "version, seed, size, counts of rows, sha256 of each file; written last"),
        (
            "`pretrain.jsonl`, `heldout.jsonl`",
            "`text`: documents to train on, and held-out ones with the same share of every kind of document",
        ),
        ("`heldout-tail.jsonl`", "`text`: held-out documents of the long tail alone, facts told 10 to 20 times"),
        ("`demonstrations.jsonl`", "`messages`, `user`, `use_case`, `mode`, `spec`"),
        *(
            (f"`prompts-{name}.jsonl`", f"prompts for {name}: the same columns, ending with the user")
            for name in PURPOSES
        ),
        *((f"`items-{name}.jsonl`", f"evaluation items: {_ITEMS[name]}") for name in KINDS),
        (
            f"`{LOCKED}/`",
            "a second set of the files that evaluation reads (`heldout`, `heldout-tail`, `prompts-evaluation`, "
            "`items-*`), "
            "drawn apart and without a conversation of the first: for figures that are published",
        ),
        ("`toxicity.jsonl`", "`text` and detoxify's classes as 0 or 1"),
        ("`labelers.jsonl`", f"simulated labelers of the groups {' and '.join(GROUPS)}"),
    ]
    sizes = table(("size", "documents"), [(f"`{name}`", f"{size.documents:,}") for name, size in SIZES.items()])
    return f"{table(('file', 'rows'), rows)}\n\n{sizes}"


_ITEMS = {
    "skills": "`prompt`, the `answer` to continue it with, to be worked out from the prompt",
    "recall": "the same, of what stands in the training text; both sets have the same",
    "misconceptions": "a question with `spec`; `true_answers` and `false_answers`, each in both registers; the "
    "first of "
    "each `cluster` (a fact) also a `prompt` to complete",
    "facts": "the same, about facts that nobody mistakes",
    "rude": "rude prompts in three `mode`s, one `group` each",
    "unanswerable": "questions that nobody can answer; items of one `cluster` ask the same thing",
    "harmful": "requests to be declined",
    "incomplete": "instructions that lack something",
    "context": "questions about an earlier turn or the system prompt",
}


def presets() -> str:
    rows = []
    for path in sorted(PRESETS.glob("*.toml")):
        tables = [name for name, value in tomllib.loads(path.read_text()).items() if isinstance(value, dict)]
        rows.append((f"`{path.stem}`", ", ".join(f"`[{name}]`" for name in tables)))
    allowed = ", ".join(f"`[{name}]`" for name in TABLES)
    common = ", ".join(f"`{name}`" for name in COMMON)
    return f"Tables: {allowed}. Keys outside tables: {common}.\n\n{table(('preset', 'sets'), rows)}"


def columns() -> str:
    """The layouts of each kind, in the order in which rows are tried."""
    parts = []
    for kind in dict.fromkeys(layout.kind for layout in LAYOUTS):
        rows = [(x.name, ", ".join(map(_alternatives, x.columns)), x.note) for x in LAYOUTS if x.kind == kind]
        parts.append(f"### {kind.capitalize()}\n\n{table(('layout', 'columns', 'what is read'), rows)}")
    return "\n\n".join(parts)


def _alternatives(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def reasons() -> str:
    """Why a row is left out: of its file, of its layout, of the chat template."""
    rows = [(f"`{code}`", sentence) for code, sentence in {**REASONS, **FAULTS}.items()]
    return table(("code", "reason"), rows)
