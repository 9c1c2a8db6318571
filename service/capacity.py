"""How many gateways, engines and bytes a load needs: arithmetic over what `tests.benchmarks.capacity` measures.

A gateway is one process on one core. Requests that come at random and are divided at random make each a queue with one
server and service times of any kind (M/G/1); the mean wait in it is by Pollaczek and Khinchine, the number of requests
at engines by Little's law (both in Kleinrock, Queueing Systems, volume 1, 1975, chapters 2 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from training.artifacts.errors import UserError

YEAR_SECONDS = 365 * 24 * 3600.0
IDLE_TRANSACTIONS = 4.1  # of each gateway per second: it looks for changes of tables and tasks
LIMIT = 1e9  # of every number, and one by it for what is divided by
POOL = 15  # most connections of one gateway to PostgreSQL: SQLAlchemy's pool of 5 and 10 more


def number(default: float, about: str) -> float:
    """A field, with what it is for --help."""
    value: float = field(default=default, metadata={"about": about})
    return value


@dataclass(frozen=True)
class Costs:
    """What one core of a gateway and the database take, as measured (docs/capacity.md names machine and commit).

    Attributes:
        request: CPU seconds of a gateway for a request, without its tokens.
        token: CPU seconds of a gateway for one token of a stream.
        vote: CPU seconds of a gateway over PostgreSQL for a task: sampled ahead, given, answered.
        request_bytes: that a stream sends to its client beside its tokens.
        token_bytes: that one token of a stream takes.
        vote_bytes: of a vote in PostgreSQL with indexes, without the texts of its responses.
        vote_bytes_sqlite: the same in SQLite.
        transactions: of PostgreSQL for a vote.
        variation: squared coefficient of variation of a request's CPU time.
    """

    request: float = 1.65e-3
    token: float = 50e-6
    vote: float = 36e-3
    request_bytes: float = 14.0
    token_bytes: float = 170.0
    vote_bytes: float = 1494.0
    vote_bytes_sqlite: float = 1375.0
    transactions: float = 17.4
    variation: float = 1.0


@dataclass(frozen=True)
class Load:
    """What is asked of a service."""

    requests: float = number(100.0, "streamed answers per second at the busiest time")
    tokens: float = number(128.0, "of an answer")
    labelers: float = number(100.0, "who rank at the same time")
    task_seconds: float = number(60.0, "from one task of a labeler to the next")
    responses: float = number(2.0, "that a task compares")
    labeling_hours: float = number(1500.0, "in a year, in which all these labelers are at work")
    letters: float = number(600.0, "bytes of one response")
    ahead: float = number(2.0, "ALIGNLOOP_COLLECT_AHEAD: tasks sampled ahead for each labeler")
    at_once: float = number(8.0, "ALIGNLOOP_COLLECT_AT_ONCE: tasks that one gateway samples ahead at the same time")

    @property
    def votes(self) -> float:
        """Per second."""
        return self.labelers / self.task_seconds

    @property
    def token_rate(self) -> float:
        """Tokens per second that engines write, for answers and for tasks."""
        return (self.requests + self.votes * self.responses) * self.tokens

    def work(self, costs: Costs) -> float:
        """Cores that gateways keep busy."""
        return self.requests * (costs.request + self.tokens * costs.token) + self.votes * costs.vote


@dataclass(frozen=True)
class Machines:
    """What is bought, and how full it may be."""

    engine_tokens: float = number(
        2500.0, "tokens per second of one engine with full batches, of your model on your device"
    )
    answer_seconds: float = number(4.0, "that one answer takes in such a batch")
    engine_requests: float = number(256.0, "ALIGNLOOP_MAX_CONCURRENT: requests of one engine at the same time")
    utilisation: float = number(0.6, "greatest share of a gateway's core, and of an engine, at the busiest time")


@dataclass(frozen=True)
class Plan:
    """What a load needs.

    Attributes:
        gateways: processes, one core each: the greatest of the next three, and at least two.
        for_cpu: gateways for their CPU time.
        for_sampling: for sampling ahead as many tasks per second as are answered.
        for_keeping: for keeping each labeler's tasks ready.
        busy: share of each gateway's core at the busiest time.
        wait: mean seconds that a piece of work waits in a gateway for its core.
        engines: of the policies together.
        in_flight: requests at engines at the same time.
        connections: to PostgreSQL, at most.
        transactions: of the database per second.
        bits: per second, from gateways to clients; engines send gateways as many.
        bytes_per_year: of PostgreSQL.
        bytes_per_year_sqlite: of SQLite.
    """

    gateways: int
    for_cpu: int
    for_sampling: int
    for_keeping: int
    busy: float
    wait: float
    engines: int
    in_flight: float
    connections: int
    transactions: float
    bits: float
    bytes_per_year: float
    bytes_per_year_sqlite: float


def refuse_nonsense(load: Load, machines: Machines) -> None:
    """Raise `UserError` for a number that no service can have."""
    settings = {"at_once": (1, 1000), "ahead": (0, 50), "engine_requests": (1, LIMIT)}  # whole, as service/settings.py
    for name, value in {**vars(load), **vars(machines)}.items():
        may_be_zero = name in ("requests", "labelers", "ahead", "letters", "labeling_hours")
        option = f"--{name.replace('_', '-')}"
        least, most = settings.get(name, (0 if may_be_zero else 1 / LIMIT, LIMIT))
        if not least <= value <= most or (0 < value < 1 / LIMIT):
            raise UserError(f"{option} must be from {least:g} to {most:g}, not {value:g}")
        if name in settings and value != int(value):
            raise UserError(f"{option} is a whole number, not {value:g}")
    if machines.utilisation >= 1:
        raise UserError(f"--utilisation is a share below 1, such as 0.6, not {machines.utilisation:g}")


def plan(load: Load, machines: Machines, costs: Costs) -> Plan:
    """The smallest numbers that keep every part below the limit of utilisation."""
    # Imported here: --help must not load a web server.
    from service.preferences.ahead import MOST_KEPT

    work = load.work(costs)
    for_cpu = ceil(work / machines.utilisation)
    sampled = load.votes if load.ahead else 0.0  # tasks per second
    for_sampling = ceil(sampled * machines.answer_seconds / (load.at_once * machines.utilisation))
    for_keeping = ceil(load.labelers * load.ahead / MOST_KEPT)
    gateways = max(2, for_cpu, for_sampling, for_keeping)
    in_flight = (load.requests + load.votes * load.responses) * machines.answer_seconds
    engines = max(
        ceil(load.token_rate / (machines.engine_tokens * machines.utilisation)),
        ceil(in_flight / (machines.engine_requests * machines.utilisation)),
    )
    votes = load.votes * 3600 * load.labeling_hours
    text = load.responses * load.letters
    return Plan(
        gateways=gateways, for_cpu=for_cpu, for_sampling=for_sampling, for_keeping=for_keeping,
        busy=work / gateways, wait=mean_wait(work / gateways, load, costs), engines=engines, in_flight=in_flight,
        connections=gateways * POOL, transactions=load.votes * costs.transactions + gateways * IDLE_TRANSACTIONS,
        bits=8 * load.requests * (costs.request_bytes + load.tokens * costs.token_bytes),
        bytes_per_year=votes * (costs.vote_bytes + text),
        bytes_per_year_sqlite=votes * (costs.vote_bytes_sqlite + text),
    )  # fmt: skip


def mean_wait(busy: float, load: Load, costs: Costs) -> float:
    """Mean wait for the core, by Pollaczek and Khinchine: rho / (1 - rho) * (1 + C^2) / 2 * S.

    The pieces that wait are parts of requests, a token or a request's start, so S is the mean over these.
    """
    if busy >= 1:
        return float("inf")
    pieces = load.requests * (1 + load.tokens) + load.votes
    mean = load.work(costs) / pieces if pieces else 0.0
    return busy / (1 - busy) * (1 + costs.variation) / 2 * mean
