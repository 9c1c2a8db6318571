"""Debian's Prometheus over a running service, with the rules of `deploy/monitoring`."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.support.live_service import ROOT, free_port
from tests.support.programs import tool

PACKAGE = "install the package `prometheus`"
FOLDER = ROOT / "deploy/monitoring"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/alignloop.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its HTTP API. Fails where it is an error."""
        reply = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30, trust_env=False)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def values(self, query: str) -> list[float]:
        """Values of a query now, without NaN, as a quantile of nothing is."""
        result = self.ask("query", query=query)["result"]
        return [value for row in result if not math.isnan(value := float(row["value"][1]))]

    def without_data(self, queries: Mapping[str, str], traffic: Callable[[], object], seconds: float) -> dict[str, str]:
        """Those of the queries that have no data in the end: `traffic` runs before each question, and until `seconds`
        are over or all have data."""
        end = time.monotonic() + seconds
        missing = dict(queries)
        while missing and time.monotonic() < end:
            traffic()
            time.sleep(2.5)  # two scrapes at least
            missing = {name: query for name, query in missing.items() if not self.values(query)}
        return missing


@contextmanager
def scraping(service: str, home: Path) -> Iterator[Prometheus]:
    """Run it with the files of `deploy/monitoring` until the block ends; the address and the pace alone are changed.

    Args:
        service: URL of the service.
        home: empty folder for its data.
    """
    program = tool("prometheus", PACKAGE)
    config = (FOLDER / "prometheus.yml").read_text()
    for old, new in (("gateway:8000", urlsplit(service).netloc), ("_interval: 15s", "_interval: 1s")):
        assert old in config
        config = config.replace(old, new)
    home.mkdir(parents=True, exist_ok=True)
    (home / "prometheus.yml").write_text(config)
    shutil.copy(FOLDER / "alerts.yml", home)
    port = free_port()
    options = ["--config.file", home / "prometheus.yml", "--storage.tsdb.path", home / "data"]
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *map(str, options), "--web.listen-address", f"127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        for _ in range(300):
            assert process.poll() is None, (home / "prometheus.log").read_text()
            try:
                if httpx.get(f"{running.url}/-/ready", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(30)
