"""The world's part of the tax: skills and facts as cloze over the whole vocabulary, and held-out text."""

from __future__ import annotations

from pathlib import Path

from evals.bench import Bench
from evals.suite import Measurement, Metric, Suite
from evals.suites import tax
from evals.world import rows as world

NAME = "tax"
CLOZE = ("skills", "recall", "facts", "misconceptions")
HELDOUT_DOCUMENTS = 500  # the file is longer than the measurement needs
METRICS = (
    Metric(
        "skills.accuracy", "skills, cloze over the whole vocabulary", margin=0.05, required=True, figure="Skills",
        flips=True,
    ),
    Metric("recall.accuracy", "opposites, plurals, successors, kinds: seen in the text, cloze", figure="Skills"),
    Metric("facts.accuracy", "facts, cloze", figure="Skills"),
    Metric("misconceptions.accuracy", "misconceptions, cloze in the almanac's register", figure="Skills"),
    Metric(
        "heldout.bits_per_byte", "loss on held-out text, bits per byte", "lower", share=False, margin=0.05,
        required=True,
    ),
    Metric("heldout_tokens.loss", "loss on held-out text, nats per token", "lower", share=False),
    Metric("heldout_tail.bits_per_byte", "loss on seldom told facts, bits per byte", "lower", share=False),
    Metric("heldout_tail_tokens.loss", "loss on seldom told facts, nats per token", "lower", share=False),
)  # fmt: skip


async def measure(bench: Bench) -> Measurement:
    """The world's tasks, as raw text, the same for every way of asking a model."""
    limit = min(HELDOUT_DOCUMENTS, bench.options.limit or HELDOUT_DOCUMENTS)
    measured = await tax.measure_files(
        bench, files_of(world.folder_of(bench)), limits={"heldout": limit, "heldout_tail": limit}
    )
    # The world declares its tasks itself.
    return Measurement(measured.items, figures=measured.figures, data=measured.data)


def files_of(folder: Path) -> dict[str, str]:
    """Cloze items and held-out text; the rare part of the text by itself."""
    files = {f"cloze:{name}": folder / f"items-{name}.jsonl" for name in CLOZE}
    files["heldout"] = folder / "heldout.jsonl"
    if (folder / "heldout-tail.jsonl").is_file():
        files["heldout:heldout_tail"] = folder / "heldout-tail.jsonl"
    return {name: str(path) for name, path in files.items()}


SUITE = Suite(NAME, "Alignment tax", METRICS, world.needs, measure)
