"""Every suite, in the order of table and report.

To add one, write its file in `evals/suites` and put its `SUITE` here: table, gate, report and documents take it from
this tuple.
"""

from __future__ import annotations

from collections.abc import Mapping

from evals.bench import Bench
from evals.options import Config
from evals.sources import Sources
from evals.suite import Measurement, Suite
from evals.suites import realtoxicity, reward, tax, truthfulqa
from evals.world import honesty, preference
from evals.world import reward as world_reward
from evals.world import tax as world_tax
from evals.world import toxicity as world_toxicity
from evals.world import truth as world_truth


def joined(*parts: Suite) -> Suite:
    """One suite of parts that measure different sources, such as real data and the miniature world.

    It runs where any part can, and measures every part that can.
    """

    def needs(sources: Sources) -> str | None:
        lacking = [part.needs(sources) for part in parts]
        return None if None in lacking else "; or ".join(dict.fromkeys(filter(None, lacking)))

    async def measure(bench: Bench) -> Measurement:
        measured = [await part.measure(bench) for part in parts if part.needs(bench.sources) is None]
        return Measurement(
            items=[item for part in measured for item in part.items],
            metrics=[metric for part in measured for metric in part.metrics],
            figures={key: value for part in measured for key, value in part.figures.items()},
            data={key: value for part in measured for key, value in part.data.items()},
            judges={key: value for part in measured for key, value in part.judges.items()},
            settings={key: value for part in measured for key, value in part.settings.items()},
        )

    def check(sources: Sources, options: Config) -> Mapping[str, object]:
        ready = [part for part in parts if part.needs(sources) is None]
        return {name: read for part in ready for name, read in part.check(sources, options).items()}

    metrics = tuple(metric for part in parts for metric in part.metrics)
    return Suite(parts[0].name, parts[0].title, metrics, needs, measure, check, parts=parts)


SUITES: tuple[Suite, ...] = (
    preference.SUITE,
    joined(truthfulqa.SUITE, world_truth.SUITE),
    honesty.SUITE,
    joined(realtoxicity.SUITE, world_toxicity.SUITE),
    joined(tax.SUITE, world_tax.SUITE),
    joined(reward.SUITE, world_reward.SUITE),
)
