"""The table of a run, from its result files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from evals.gate import pair
from evals.results import SCORES, Item, Result
from evals.statistics import Estimate, win_rate

PREFERENCE = "preference.prompts.utility"
Run = Sequence[tuple[Result, list[Item]]]

# Section -> rows of (words, metric). Tasks of the tax that are not named here are added by `_tax_rows`.
ROWS: dict[str, tuple[tuple[str, str], ...]] = {
    "Preference (held-out prompts)": (
        ("follows the instruction", "preference.prompts.follows"),
        ("correct", "preference.prompts.correct"),
        ("true utility", PREFERENCE),
        ("mean reward (what PPO maximised)", "reward.prompts.reward"),
    ),
    "Truth": (
        ("misconceptions: truthful and informative", "truth.misconceptions.truthful_informative"),
        ("misconceptions: truthful", "truth.misconceptions.truthful"),
        ("misconceptions: informative", "truth.misconceptions.informative"),
        ("misconceptions: MC1, raw text", "truth.misconceptions_choices.mc1"),
        ("misconceptions: MC2, raw text", "truth.misconceptions_choices.mc2"),
        ("ordinary facts: truthful and informative", "truth.facts.truthful_informative"),
        ("ordinary facts: wrongly abstained", "truth.facts.wrongly_abstained"),
        ("TruthfulQA: answers truthful, by a small judge model", "truth.truthfulqa_generated.truthful"),
        ("TruthfulQA: MC1", "truth.truthfulqa_mc1.mc1"),
        ("TruthfulQA: MC2", "truth.truthfulqa_mc2.mc2"),
    ),
    "Toxicity (rude prompts)": (
        ("no manners requested: toxic", "toxicity.plain.toxic"),
        ("no manners requested: finished, on topic", "toxicity.plain.finished_on_topic"),
        ("asked to be respectful: toxic", "toxicity.respectful.toxic"),
        ("asked to be respectful: finished, on topic", "toxicity.respectful.finished_on_topic"),
        ("asked to be offensive: toxic", "toxicity.offensive.toxic"),
        ("asked to be offensive: finished, on topic", "toxicity.offensive.finished_on_topic"),
        ("no manners requested: judge model agrees with the world's rules", "toxicity.plain.judge_agrees"),
    ),
    "Honesty": (
        ("unanswerable question: says so", "honesty.unanswerable.honest"),
        ("incomplete request: asks", "honesty.incomplete.honest"),
        ("harmful request: declines", "honesty.harmful.honest"),
        ("uses earlier turns", "honesty.earlier_turns.honest"),
        ("uses the system prompt", "honesty.system_prompt.honest"),
    ),
    "Alignment tax": (
        ("skills, cloze over the whole vocabulary", "tax.skills.accuracy"),
        ("facts, cloze", "tax.facts.accuracy"),
        ("misconceptions, cloze in the almanac's register", "tax.misconceptions.accuracy"),
        ("loss on held-out text, nats per token", "tax.heldout_tokens.loss"),
        ("loss on held-out text, bits per byte", "tax.heldout.bits_per_byte"),
    ),
}
REWARD_COLUMNS = (
    ("accuracy", "agrees"),
    ("labelers agree", "labelers_agree"),
    ("length alone", "longer_wins"),
    ("best that the noise allows", "best_accuracy"),
    ("agrees with the true preference", "prefers_better"),
)


@dataclass(frozen=True)
class Row:
    """One row: an estimate for each system, None where it was not measured; `against` is set for win rates."""

    section: str
    words: str
    metric: str
    share: bool
    cells: tuple[Estimate | None, ...]
    against: str | None = None


@dataclass(frozen=True)
class Table:
    """The systems' labels and rows, the reward model's figures per group of labelers, and how texts were sampled."""

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    reward: tuple[tuple[str, tuple[Estimate | None, ...]], ...]
    sampling: str


def make(run: Run, baselines: Sequence[str]) -> Table:
    """Build the table. Win rates are paired by prompt, ties counting half."""
    policies = [(result, items) for result, items in run if result.ask != "score"]
    rows = [_win_row(policies, b, items) for b, items in policies if b.system in baselines]
    for section, lines in ROWS.items():
        added = _tax_rows([result for result, _ in policies]) if section == "Alignment tax" else ()
        rows += [_row(section, words, metric, policies) for words, metric in (*lines, *added)]
    measured = tuple(row for row in rows if any(cell is not None and cell.n for cell in row.cells))
    scorers = [result for result, _ in run if result.ask == "score"]
    return Table(tuple(r.label for r, _ in policies), measured, _reward_rows(scorers), _sampling(policies))


def as_json(table: Table) -> dict[str, object]:
    def cell(e: Estimate | None) -> dict[str, object] | None:
        return None if e is None else {"value": e.value, "low": e.low, "high": e.high, "n": e.n, "missing": e.missing}

    rows = [
        {
            "section": r.section,
            "row": r.words,
            "metric": r.metric,
            "against": r.against,
            **dict(zip(table.labels, map(cell, r.cells), strict=True)),
        }
        for r in table.rows
    ]
    names = [name for name, _ in REWARD_COLUMNS]
    reward = [{"labelers": group, **dict(zip(names, map(cell, cells), strict=True))} for group, cells in table.reward]
    return {"systems": list(table.labels), "rows": rows, "reward_model": reward, "sampling": table.sampling}


def as_markdown(table: Table) -> str:
    lines = ["| | " + " | ".join(table.labels) + " |", "|---|" + "---:|" * len(table.labels)]
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            lines.append(f"| **{section}** |" + " |" * len(table.labels))
        lines.append(f"| {row.words} | " + " | ".join(text(cell, row.share) for cell in row.cells) + " |")
    if table.reward:
        names = [name for name, _ in REWARD_COLUMNS]
        lines += ["", "| Reward model, on labelers | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        lines += [f"| {group} | " + " | ".join(text(c, True) for c in cells) + " |" for group, cells in table.reward]
    note = (
        "Shares are in %, with 95 % intervals over items in brackets, for this training seed. "
        "A system has no win rate against itself."
    )
    return "\n".join([*lines, "", f"{note} {table.sampling}", ""])


def wide_console() -> Console:
    """A console that is wide enough for tables where no terminal sets the width, as in a log."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_table(table: Table, console: Console) -> None:
    shown = RichTable(title="Results: % [95 % interval over items]", title_justify="left")
    shown.add_column("")
    for label in table.labels:
        shown.add_column(label, justify="right", no_wrap=True)
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            shown.add_section()
            shown.add_row(f"[bold]{section}[/]")
        shown.add_row(row.words, *(text(cell, row.share) for cell in row.cells))
    console.print(shown)
    if table.reward:
        shown = RichTable(title="Reward model: % [95 % interval over prompts]", title_justify="left")
        for column in ("labelers", *(name for name, _ in REWARD_COLUMNS)):
            shown.add_column(column, justify="right")
        for group, cells in table.reward:
            shown.add_row(group, *(text(cell, True) for cell in cells))
        console.print(shown)
    console.print(table.sampling, highlight=False)


def text(estimate: Estimate | None, share: bool) -> str:
    """`58 [48, 68]` for a share in per cent, `1.03 [1.01, 1.05]` otherwise; `!3` is added when three are missing."""
    if estimate is None:
        return ""
    missing = f" !{estimate.missing}" if estimate.missing else ""
    if estimate.value is None:
        return f"missing{missing}"
    value, low, high = estimate.numbers()
    if share:
        return f"{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]{missing}"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]{missing}"


def _sampling(policies: Run) -> str:
    """How the answers were generated, in a sentence; empty without any policy."""
    kinds = {(r.sampling["temperature"], r.sampling["max_tokens"], r.seed) for r, _ in policies}
    settings = [
        (f"at temperature {t:g}, each with a seed of its own (run {seed})" if t else "greedily")
        + f", with at most {tokens} tokens"
        for t, tokens, seed in sorted(kinds)
    ]
    return f"Answers were generated {'; '.join(settings)}." if settings else ""


def _win_row(policies: Run, baseline: Result, against: list[Item]) -> Row:
    cells = tuple(None if r.system == baseline.system else wins_against(items, against) for r, items in policies)
    return Row(
        "Preference (held-out prompts)", f"preferred to {baseline.label}", "win_rate", True, cells, baseline.system
    )


def wins_against(candidate: Sequence[Item], baseline: Sequence[Item], use_case: str | None = None) -> Estimate | None:
    """Win rate under the true preference on common prompts, of one use case or all; None without any."""
    pairs, unpaired = pair(candidate, baseline, PREFERENCE)
    pairs = [(a, b) for a, b in pairs if use_case is None or a.tags.get("use_case") == use_case]
    if not pairs:
        return None
    rate = win_rate([a.scores["utility"] or 0.0 for a, _ in pairs], [b.scores["utility"] or 0.0 for _, b in pairs])
    return Estimate(rate.value, rate.low, rate.high, rate.n, 0 if use_case else unpaired)


def _tax_rows(run: Sequence[Result]) -> tuple[tuple[str, str], ...]:
    """The user's own multiple-choice tasks: each accuracy that was measured."""
    named = {metric for lines in ROWS.values() for _, metric in lines}
    metrics = sorted({m for result in run for m in result.metrics if m.startswith("tax.") and m not in named})
    return tuple((f"{m.split('.')[1]}: {SCORES[m.split('.')[2]].label}", m) for m in metrics)


def _row(section: str, words: str, metric: str, policies: Run) -> Row:
    cells = tuple(result.metrics.get(metric) for result, _ in policies)
    return Row(section, words, metric, SCORES[metric.rsplit(".", 1)[1]].share, cells)


def _reward_rows(run: Sequence[Result]) -> tuple[tuple[str, tuple[Estimate | None, ...]], ...]:
    rows = []
    for result in run:
        groups = sorted({m.split(".")[1] for m in result.metrics if m.startswith("reward.labelers_")})
        for group in groups:
            cells = tuple(result.metrics.get(f"reward.{group}.{score}") for _, score in REWARD_COLUMNS)
            rows.append((group.removeprefix("labelers_"), cells))
    return tuple(rows)
