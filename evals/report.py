"""`python -m evals.report DIR`: the table and the page of a run, from its result files alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro
from rich.console import Console

from evals import figures, table
from evals.gate import pair
from evals.results import SCORES, Item, read_folder
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import write_atomically

PAGE, MARKDOWN, JSON = "index.html", "table.md", "table.json"
FLIPS_SHOWN = 3
FLIPPING = {
    "Truth: misconceptions": "truth.misconceptions.truthful_informative",
    "Truth: ordinary facts": "truth.facts.truthful_informative",
    "Toxicity: no manners requested": "toxicity.plain.toxic",
    "Honesty: unanswerable questions": "honesty.unanswerable.honest",
    "Honesty: incomplete requests": "honesty.incomplete.honest",
    "Skills": "tax.skills.accuracy",
    "Following the instruction": "preference.prompts.follows",
}
TRUTH = {
    "misconceptions: truthful and informative": "truth.misconceptions.truthful_informative",
    "misconceptions: MC2, raw text": "truth.misconceptions_choices.mc2",
    "facts: truthful and informative": "truth.facts.truthful_informative",
    "facts: wrongly abstained": "truth.facts.wrongly_abstained",
}
TOXICITY = {
    f"{mode}: {words}": f"toxicity.{mode}.{score}"
    for mode in ("plain", "respectful", "offensive")
    for words, score in (("toxic", "toxic"), ("finished, on topic", "finished_on_topic"))
}
HONESTY = {
    "unanswerable question: says so": "honesty.unanswerable.honest",
    "incomplete request: asks": "honesty.incomplete.honest",
    "harmful request: declines": "honesty.harmful.honest",
    "uses earlier turns": "honesty.earlier_turns.honest",
    "uses the system prompt": "honesty.system_prompt.honest",
}
SKILLS = {
    "skills, cloze": "tax.skills.accuracy",
    "facts, cloze": "tax.facts.accuracy",
    "misconceptions, cloze (almanac)": "tax.misconceptions.accuracy",
}
CAVEATS_OF_THE_WORLD = (
    "The miniature world is a testbed: a tiny model, generated text, simulated labelers, a preference that is known.",
    "The gain in truth is a shift of register that this world makes learnable: its text holds the truth in one "
    "register (the almanac) and the myth in others, and feedback teaches which register to answer in. It is not new "
    "knowledge.",
    "The mean reward comes from the reward model that PPO was trained against, so it overstates the gain; compare it "
    "with the true preference beside it.",
    "Win rates, truth and honesty are judged by the world's own rules, toxicity by a small model trained on generated "
    "comments.",
    "The base model is prompted with plain text, and once more with a few answered examples before it; the other "
    "models through their chat template.",
)
CAVEATS = (
    "Intervals are over items, for one training seed: they do not cover the spread over seeds.",
    "Each interval covers its true value with a probability of 95 %: of many rows, some will miss theirs.",
)


@dataclass(frozen=True)
class Config:
    """Rebuild the table and the page of a run."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder that `python -m evals.run` wrote."""


@dataclass(frozen=True)
class Flip:
    """An item that one of two systems gets right."""

    prompt: str
    before: str
    after: str


def build(folder: Path, console: Console) -> None:
    """Write table.md, table.json and index.html into the folder, and print the table."""
    run = read_folder(folder)
    described = json.loads((folder / "run.json").read_text())
    results_table = table.make(run, described.get("baselines", []))
    write_atomically(folder / MARKDOWN, table.as_markdown(results_table))
    write_atomically(folder / JSON, json.dumps(table.as_json(results_table), indent=1) + "\n")
    write_atomically(folder / PAGE, page(run, described, results_table, _gate(folder)))
    table.print_table(results_table, console)
    console.print(f"report: {folder / PAGE}", soft_wrap=True, highlight=False)


def page(run: table.Run, described: dict[str, Any], results_table: table.Table, gate: dict[str, Any]) -> str:
    """The page as HTML."""
    policies = figures.policies(run)
    baselines: list[str] = described.get("baselines", [])
    candidates: list[str] = described.get("candidates", []) or [
        r.system for r, _ in policies if r.system not in baselines
    ]
    baseline = baselines[-1] if baselines else ""
    captioned = [
        ("Who is preferred", figures.win_rates(policies, baselines),
         "Paired by prompt under the true preference; the dashed line marks no difference."),
        ("By use case" + (f", against {_label(run, baseline)}" if baseline else ""),
         figures.use_cases(policies, baseline, candidates), "Number of prompts in brackets."),
        ("Reward against tax", figures.pareto(policies),
         "Up is better; the tax grows to the right. Reward that rises without true utility is reward hacking."),
        ("Truth", figures.by_metric(policies, TRUTH, "% of questions"), "Of wrong abstention, less is better."),
        ("Toxicity by instruction", figures.by_metric(policies, TOXICITY, "% of answers to rude prompts"),
         "Silence is not politeness: a model that says nothing is never toxic, so the share of finished, on-topic "
         "answers stands beside the toxic share."),
        ("Honesty", figures.by_metric(policies, HONESTY, "% of items"), "Higher is better."),
        ("Skills", figures.by_metric(policies, SKILLS, "% right, over the whole vocabulary"),
         "Raw text without a chat template, the same for all systems."),
    ]  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = run[0][0]
    return environment.get_template("report.html").render(
        created=described.get("created", first.created)[:16].replace("T", " "),
        headlines=headlines(run, baselines, candidates),
        table=results_table,
        cell=table.text,
        reward_columns=[name for name, _ in table.REWARD_COLUMNS],
        figures=[(title, image, note) for title, image, note in captioned if image],
        flips=flips(run, baseline, candidates[-1] if candidates else ""),
        pair=(_label(run, baseline), _label(run, candidates[-1] if candidates else "")),
        gate=gate,
        labels={result.system: result.label for result, _ in run},
        colours=figures.colour_of(policies),
        results=[result for result, _ in run],
        first=first,
        missing=missing(run),
        caveats=(*(CAVEATS_OF_THE_WORLD if "world" in first.data else ()), *CAVEATS),
        command=_command(described),
        seconds=described.get("seconds"),
    )


def headlines(run: table.Run, baselines: Sequence[str], candidates: Sequence[str]) -> list[tuple[str, str, str]]:
    """(figure, label, interval) of the last candidate, for the top of the page."""
    of = {result.system: (result, items) for result, items in run}
    if not candidates or candidates[-1] not in of:
        return []
    result, items = of[candidates[-1]]
    lines = []
    for name in baselines:
        estimate = table.wins_against(items, of[name][1])
        if estimate is not None:
            lines.append(_headline(f"{result.label} preferred to {of[name][0].label}", estimate))
    for words, metric in (
        ("truthful and informative on misconceptions", "truth.misconceptions.truthful_informative"),
        ("toxic to rude users", "toxicity.plain.toxic"),
        ("cloze skills", "tax.skills.accuracy"),
    ):
        estimate = result.metrics.get(metric)
        if estimate is not None and estimate.value is not None:
            lines.append(_headline(f"{result.label}: {words}", estimate))
    return lines


def flips(run: table.Run, baseline: str, candidate: str) -> list[tuple[str, int, int, list[Flip], list[Flip]]]:
    """(title, number gained, number lost, some gained, some lost) between two systems."""
    of = {result.system: items for result, items in run}
    if baseline not in of or candidate not in of:
        return []
    rows = []
    for title, metric in FLIPPING.items():
        pairs, _ = pair(of[candidate], of[baseline], metric)
        score = metric.rsplit(".", 1)[1]
        good = 0.0 if SCORES[score].better == "lower" else 1.0
        gained = [(a, b) for a, b in pairs if a.scores[score] == good != b.scores[score]]
        lost = [(a, b) for a, b in pairs if b.scores[score] == good != a.scores[score]]
        if gained or lost:
            shown = [[_flip(a, b) for a, b in some[:FLIPS_SHOWN]] for some in (gained, lost)]
            rows.append((title, len(gained), len(lost), shown[0], shown[1]))
    return rows


def missing(run: table.Run) -> list[tuple[str, str, int]]:
    """(system, reason, number of items) of measurements that failed."""
    counted: dict[tuple[str, str], int] = {}
    for result, items in run:
        for item in items:
            if item.missing:
                key = (result.label, item.missing)
                counted[key] = counted.get(key, 0) + 1
    return [(label, reason, count) for (label, reason), count in sorted(counted.items())]


def _flip(after: Item, before: Item) -> Flip:
    prompt = after.prompt
    if not isinstance(prompt, str):
        prompt = "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    return Flip(prompt, _answer_text(before), _answer_text(after))


def _answer_text(item: Item) -> str:
    if item.response is None:
        return "right" if item.scores.get("accuracy") else "wrong"
    return item.response + ("" if item.finish_reason == "stop" else " …")


def _headline(words: str, estimate: Any) -> tuple[str, str, str]:
    value, low, high = (100 * x for x in estimate.numbers())
    return f"{value:.0f} %", words, f"95 % interval {low:.0f} to {high:.0f} %, n = {estimate.n}"


def _label(run: table.Run, system: str) -> str:
    return next((result.label for result, _ in run if result.system == system), "")


def _gate(folder: Path) -> dict[str, Any]:
    file = folder / "gate.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _command(described: dict[str, Any]) -> str:
    """The command that repeats this run."""
    parts = ["python -m evals.run"]
    for name in ("checkpoint", "baseline", "suite", "data", "comparisons"):
        values = described.get("config", {}).get(name) or []
        if values:
            parts.append(f"--{name} {' '.join(map(str, values))}")
    for name in ("reward", "world", "url", "temperature", "max_tokens", "seed"):
        value = described.get("config", {}).get(name)
        if value is not None:
            parts.append(f"--{name.replace('_', '-')} {value}")
    return " \\\n  ".join(parts)


def main(config: Config) -> None:
    if not config.folder.is_dir():
        raise UserError(f"{config.folder} is not a folder: give the folder that `python -m evals.run` wrote")
    build(config.folder, table.wide_console())


def command(arguments: Sequence[str] | None = None) -> None:
    """`python -m evals.report`."""
    main(tyro.cli(Config, args=arguments, prog="python -m evals.report", description=__doc__))


if __name__ == "__main__":
    sys.exit(run_command(command))
