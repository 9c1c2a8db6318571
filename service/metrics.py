"""Prometheus metrics of the gateway."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
LABELS = ("route", "model")
MOST_TOKENS = 10**8  # of one answer: more is nothing that an engine counted, and a counter never forgets it

requests = Counter("alignloop_requests_total", "Requests by status", (*LABELS, "status"))
seconds = Histogram(
    "alignloop_request_seconds", "Time from the request to the end of its answer", LABELS, buckets=BUCKETS
)
tokens = Counter(
    "alignloop_tokens_total", "Tokens of prompts and of completions, as engines report them", ("model", "kind")
)
running = Gauge("alignloop_running_requests", "Requests at an engine now", ("model",))
identical = Counter(
    "alignloop_identical_responses_total", "Prompts passed over in collecting: all their responses were identical"
)


class Replaced(Collector):
    """A gauge whose values are replaced as a whole: a scrape never sees a half of them."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...]) -> None:
        self._name, self._about = name, about
        self._labelnames = labels  # as prometheus_client's own metrics have it
        self.values: Mapping[tuple[str, ...], float] = {}

    def describe(self) -> list[Metric]:
        return [GaugeMetricFamily(self._name, self._about, labels=self._labelnames)]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._about, labels=self._labelnames)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        yield family


engines = Replaced("alignloop_engines", "Engines by state", ("model", "state"))
figures = Replaced(
    "alignloop_training_figure",
    "Figures in the manifests of checkpoints that serve aliases, such as accuracy/heldout and published/kl",
    ("model", "stage", "figure"),
)
table_age = Gauge("alignloop_table_age_seconds", "Seconds since the gateway last read the table of engines")
REGISTRY.register(engines)
REGISTRY.register(figures)


def observe(route: str, model: str, status: int, duration: float) -> None:
    """Count one finished request. `model` is a served checkpoint, or empty: never free text of a caller."""
    requests.labels(route, model, str(status)).inc()
    seconds.labels(route, model).observe(duration)


def count_tokens(model: str, usage: dict[str, object] | None) -> None:
    """Add an answer's `usage`."""
    for kind in ("prompt", "completion"):
        number = (usage or {}).get(f"{kind}_tokens")
        if isinstance(number, int) and 0 < number <= MOST_TOKENS:  # an engine elsewhere may tell anything
            tokens.labels(model, kind).inc(number)


def show_engines(states: Iterable[tuple[str, ...]]) -> None:
    """Replace the engines' gauges by (checkpoint, state) pairs."""
    engines.values = Count(states)


def show_figures(values: Mapping[tuple[str, ...], float]) -> None:
    """Replace the figures by these, by checkpoint, stage and name."""
    figures.values = values


def text() -> bytes:
    """Everything in Prometheus' text format."""
    return generate_latest(REGISTRY)
