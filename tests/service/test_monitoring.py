"""The dashboard and the alerts name what the service exports, and Prometheus itself accepts them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from starlette.routing import Route

from service import metrics
from service.app import ROUTERS
from tests.support.programs import tool
from tests.support.prometheus import DASHBOARD, FOLDER, PACKAGE, PANELS, RULES

OWN = re.compile(r"alignloop_\w+")


def queries() -> Iterator[tuple[str, str]]:
    """(name of the panel or alert, query) of both."""
    yield from PANELS
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def exported() -> dict[str, set[str]]:
    """Labels of every sample that the service can export, by its name."""
    named: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        for family in collector.describe() if hasattr(collector, "describe") else []:
            if not family.name.startswith("alignloop_"):
                continue
            labels = set(getattr(collector, "_labelnames", ()))
            names = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            named |= {family.name + end: labels | ({"le"} if end == "_bucket" else set()) for end in names}
    return named


@pytest.mark.unit
@pytest.mark.parametrize(("name", "query"), list(queries()), ids=[name for name, _ in queries()])
def test_every_query_names_metrics_and_labels_that_are_exported(name: str, query: str) -> None:
    known = exported()
    assert metrics.seconds is not None
    assert set(OWN.findall(query)) <= known.keys(), name
    for metric, selector in re.findall(r"(alignloop_\w+)\{([^}]*\}?[^}]*)\}", query):
        labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
        assert labels <= known[metric] | {"instance", "job"}, name


@pytest.mark.unit
def test_routes_of_the_queries_are_routes_of_the_service() -> None:
    routes = {route.path for router in ROUTERS for route in router.routes if isinstance(route, Route)}
    for name, query in queries():
        for operator, value in re.findall(r'route(=~|=)"([^"]+)"', query):
            pattern = value if operator == "=~" else re.escape(value)
            assert any(re.fullmatch(pattern, route) for route in routes), name


@pytest.mark.unit
def test_every_alert_has_a_test_and_a_runbook() -> None:
    runbooks = (FOLDER / "runbooks.md").read_text()
    tests = (FOLDER / "alerts.test.yml").read_text()
    for rule in RULES:
        assert f"\n## {rule['alert']}\n" in runbooks
        assert rule["annotations"]["runbook"] == f"runbooks.md#{rule['alert'].lower()}"
        assert f"alertname: {rule['alert']}\n" in tests
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.unit
def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.fixture(scope="module")
def promtool() -> str:
    return tool("promtool", PACKAGE)


@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")],
    ids=lambda command: " ".join(command),
)
def test_prometheus_accepts_its_files_and_the_alerts_fire_where_they_should(
    promtool: str, command: tuple[str, ...]
) -> None:
    done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
