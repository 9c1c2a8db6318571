"""The world's part of the tax: skills and facts as cloze over the whole vocabulary, and held-out text."""

from __future__ import annotations

from evals.bench import Bench
from evals.suite import Measurement, Metric, Suite
from evals.suites import tax
from evals.world import rows as world

NAME = "tax"
CLOZE = ("skills", "facts", "misconceptions")
HELDOUT_DOCUMENTS = 500  # the file is longer than the measurement needs
METRICS = (
    Metric("skills.accuracy", "skills, cloze over the whole vocabulary", margin=0.05, required=True, figure="Skills",
           flips=True),
    Metric("facts.accuracy", "facts, cloze", figure="Skills"),
    Metric("misconceptions.accuracy", "misconceptions, cloze in the almanac's register", figure="Skills"),
    Metric("heldout.loss", "loss on held-out text, nats per token", "lower", share=False, margin=0.1, required=True),
    Metric("heldout_bytes.bits_per_byte", "loss on held-out text, bits per byte", "lower", share=False),
)  # fmt: skip


async def measure(bench: Bench) -> Measurement:
    """The world's tasks, as raw text, the same for every way of asking a model."""
    folder = world.folder_of(bench)
    names = {f"cloze:{name}": f"items-{name}.jsonl" for name in CLOZE} | {"heldout": "heldout.jsonl"}
    files = {name: folder / file for name, file in names.items()}
    limits = {"heldout": HELDOUT_DOCUMENTS}
    items = await tax.measure(bench.client, bench.subject.checkpoint, files, limits)
    return Measurement(items, data=world.described(folder, list(names.values())))


SUITE = Suite(NAME, "Alignment tax", METRICS, world.needs, measure)
