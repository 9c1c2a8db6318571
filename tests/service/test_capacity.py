"""The capacity model: its arithmetic by hand, and its predictions against a real gateway under a scaled-down load."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import psutil
import pytest

from service import capacity
from service.capacity import Costs, Load, Machines, mean_wait, plan
from tests.support.live_service import ROOT

COSTS = Costs(
    request=2e-3, token=50e-6, vote=20e-3, request_bytes=100, token_bytes=200, vote_bytes=1000, vote_bytes_sqlite=900,
    transactions=5, variation=1,
)  # fmt: skip


@pytest.mark.unit
def test_a_plan_by_hand() -> None:
    load = Load(
        requests=100,
        tokens=40,
        labelers=600,
        task_seconds=60,
        responses=2,
        labeling_hours=1000,
        letters=500,
        ahead=2,
        at_once=8,
    )
    machines = Machines(engine_tokens=1000, answer_seconds=2, engine_requests=256, utilisation=0.5)
    need = plan(load, machines, COSTS)
    # 100 * (2 ms + 40 * 50 us) + 10 votes/s * 20 ms = 0.4 + 0.2 cores; half of a core each: two.
    assert need.for_cpu == 2
    # 10 tasks/s of 2 s are 20 at a time; a gateway samples 8, half of that on average: 20 / 4.
    assert need.for_sampling == 5
    assert need.for_keeping == 1  # 1,200 tasks, 2,000 in each
    assert need.gateways == 5
    assert need.busy == pytest.approx(0.12)  # 0.6 cores over five
    assert plan(dataclasses.replace(load, ahead=0), machines, COSTS).gateways == 2
    # (100 + 10 * 2) answers/s of 40 tokens are 4,800; engines of 1,000, half used: 9.6.
    assert need.engines == 10
    assert need.in_flight == 240
    assert need.connections == 75
    assert need.transactions == 10 * 5 + 5 * capacity.IDLE_TRANSACTIONS
    assert need.bits == 8 * 100 * (100 + 40 * 200)
    # 10 votes/s for 1,000 hours are 36 million, of 1,000 + 2 * 500 bytes.
    assert need.bytes_per_year == pytest.approx(72e9)
    assert need.bytes_per_year_sqlite == pytest.approx(68.4e9)


@pytest.mark.unit
def test_the_wait_is_that_of_a_queue_with_one_server() -> None:
    # One kind of work of 2 ms, exponential: M/M/1, whose mean wait at half load is its service time.
    load = Load(requests=250, tokens=1e-9, labelers=0)
    costs = dataclasses.replace(COSTS, token=0.0)
    assert mean_wait(load.work(costs), load, costs) == pytest.approx(2e-3, rel=1e-6)
    # Of constant service times (M/D/1) it is half of that.
    assert mean_wait(0.5, load, dataclasses.replace(costs, variation=0)) == pytest.approx(1e-3, rel=1e-6)
    assert mean_wait(1.0, load, costs) == float("inf")


@pytest.mark.unit
def test_more_load_never_needs_less() -> None:
    steady = ("busy", "wait")  # shares, which fall when there is one gateway more
    one = plan(Load(), Machines(), COSTS)
    for name in ("requests", "tokens", "labelers", "responses", "letters", "labeling_hours"):
        more = plan(dataclasses.replace(Load(), **{name: 10 * getattr(Load(), name)}), Machines(), COSTS)
        less = [key for key, value in vars(one).items() if key not in steady and vars(more)[key] < value]
        assert less == [], name


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "service", "capacity", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.unit
def test_the_document_shows_what_the_command_prints() -> None:
    page = (ROOT / "docs/capacity.md").read_text()
    match = re.search(r"```\npython -m service capacity ([^\n]+)\n```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert match is not None
    words, shown = match.groups()
    assert command(*words.split()).stdout == shown


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--requests", "-1"], "--requests must be from 0 to 1e+09, not -1"),
        (["--task-seconds", "0"], "--task-seconds must be from 1e-09 to 1e+09, not 0"),
        (["--tokens", "nan"], "--tokens must be from 1e-09 to 1e+09, not nan"),
        (["--labelers", "inf"], "--labelers must be from 0 to 1e+09, not inf"),
        (["--requests", "1e308"], "--requests must be from 0 to 1e+09, not 1e+308"),
        (["--utilisation", "1e-320"], "--utilisation must be from 1e-09 to 1e+09"),
        (["--at-once", "0.5"], "--at-once must be from 1 to 1000, not 0.5"),
        (["--ahead", "1.5"], "--ahead is a whole number, not 1.5"),
        (["--utilisation", "1"], "--utilisation is a share below 1, such as 0.6, not 1"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.unit
def test_every_option_is_explained() -> None:
    fields = dataclasses.fields(Load) + dataclasses.fields(Machines)
    assert all(field.metadata["about"] for field in fields)


@pytest.mark.slow
def test_a_twentieth_of_the_load_goes_as_predicted() -> None:
    """Measured and predicted on this machine: the model holds, whatever the machine."""
    from tests.benchmarks.capacity import check, costs, missed

    busy = psutil.cpu_percent(interval=3)
    if busy > 25:
        pytest.skip(f"other work takes {busy:.0f} % of this machine: seconds of answers would be those of its queue")
    results = check(costs(15), 25)
    assert missed(results) == [], results
