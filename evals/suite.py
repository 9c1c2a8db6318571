"""What a suite is: one file that declares its metrics in words and measures one model.

Table, gate, report and documents iterate over `evals.catalog.SUITES` and know no suite by name. A score that no metric
declares is an error, so a suite that forgets to declare one fails at once instead of measuring in silence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from evals.bench import Bench
    from evals.options import Config
    from evals.results import Item
    from evals.sources import Sources
    from evals.statistics import Estimate

EVERY_TASK = "*"


@dataclass(frozen=True)
class Metric:
    """A score of a task: what it means, which way is better, and how much of it a release may lose.

    Attributes:
        name: TASK.SCORE. TASK `*` stands for every task of the suite without a metric of its own for that score.
        words: its row in the table, and its name in figures; `{task}` stands for the task.
        better: which way is better; None for a figure that is only described.
        share: it lies in [0, 1] and is shown in per cent.
        margin: the drop that the gate must rule out, in the metric's own unit, set before any measurement; None: it is
            shown and not gated.
        required: the shipped policy of the gate requires it wherever its suite was measured.
        wins: two models are compared by the share of items on which one scores higher, ties half, instead of by the
            mean difference; the margin is then below a half.
        figure: title of the figure of the report that shows it; empty: in none.
        flips: the report shows items that only one of two models got right.
        slices: tags of items (`use_case`, `language`) by which the report splits it.
    """

    name: str
    words: str
    better: Literal["higher", "lower"] | None = "higher"
    share: bool = True
    margin: float | None = None
    required: bool = False
    wins: bool = False
    figure: str = ""
    flips: bool = False
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        task, dot, score = self.name.rpartition(".")
        if not dot or not task or not score or "." in task:
            raise ValueError(f"metric {self.name!r} is not of the form TASK.SCORE")
        if not self.words:
            raise ValueError(f"metric {self.name} has no words for people")
        if self.margin is not None and self.better is None:
            raise ValueError(f"metric {self.name} has a margin but no better direction")
        if self.required and self.margin is None:
            raise ValueError(f"metric {self.name} is required but has no margin")

    def of_task(self, task: str) -> Metric:
        """This metric for one task."""
        score = self.name.rpartition(".")[2]
        return replace(self, name=f"{task}.{score}", words=self.words.replace("{task}", task))


@dataclass(frozen=True)
class Measurement:
    """What a suite measured of one model.

    Attributes:
        items: one per question; a failed one has its reason in `missing`, and None as its scores.
        metrics: declarations beyond the suite's own, for tasks that bring their metrics along (lm-eval's).
        figures: TASK.SCORE -> estimate of a figure that is not a mean over items, such as corpus BLEU.
        data: name -> what was read: {"path", "sha256", "rows", "skipped"}.
        judges: name -> what judged, its `version` (a hash), its own accuracy, and whether it is `usable`.
        settings: what else must agree before two measurements are compared: sampling, prompts, protocol.
    """

    items: Sequence[Item]
    metrics: Sequence[Metric] = ()
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    judges: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """One kind of measurement.

    Attributes:
        name: as in `--suite`, and the first part of its metrics' names in results.
        title: section of the table.
        metrics: every score that it may write.
        needs: from the sources of a run to None when it can run on them, otherwise one line that says what is missing
            and how to give it.
        measure: one model, on everything that the sources hold for this suite.
        check: reads the sources before anything is asked, so that a file of another form is refused at once; returns
            name -> what was read. Raises `UserError`.
        reads: names of `--data` that it uses; one that no running suite uses is refused.
        parts: of a suite for several kinds of sources, each with what it reads.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    needs: Callable[[Sources], str | None]
    measure: Callable[[Bench], Awaitable[Measurement]]
    check: Callable[[Sources, Config], Mapping[str, object]] = lambda sources, options: {}
    reads: tuple[str, ...] = ()
    parts: tuple[Suite, ...] = ()

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError(f"suite {self.name} declares no metric")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"suite {self.name} declares a metric twice")


def metric_of(suite: str, metrics: Sequence[Metric], task: str, score: str) -> Metric:
    """The declaration of a score of a task: its own, or the one for every task.

    Raises:
        ValueError: nothing declares it, which is a fault of the suite.
    """
    by_name = {metric.name: metric for metric in metrics}
    declared = by_name.get(f"{task}.{score}") or by_name.get(f"{EVERY_TASK}.{score}")
    if declared is None:
        raise ValueError(f"suite {suite} writes the score {task}.{score}, which no metric of it declares")
    return declared.of_task(task)
