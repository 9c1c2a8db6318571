"""A real service for tests: `python -m service serve` and its engines, in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from service import aliases as service_aliases
from service.engines.client import tls
from service.keys import add_key
from service.store.database import Store

ROOT = Path(__file__).parents[2]
READY_SECONDS = 600


@dataclass
class Running:
    """A running service.

    Attributes:
        url: its address.
        key: a key with the scope admin, which implies all others.
        home: its --home folder: service.db, checkpoints, logs.
        process: `python -m service serve`.
        log: file with its output.
    """

    url: str
    key: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        """Headers that send the admin key."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def store(self) -> Store:
        """The service's database."""
        return Store(f"sqlite:///{self.home / 'service.db'}")

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client that sends the admin key, or another."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def add_key(self, *scopes: str) -> str:
        """Add an API key with these scopes and return it."""
        with self.store.session() as session:
            return add_key(session, "test", scopes)[1]

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until /health/ready is 200."""
        self.wait_for(
            lambda: httpx.get(f"{self.url}/health/ready", timeout=30, trust_env=False, verify=tls()).status_code == 200,
            seconds,
        )

    def wait_live(self) -> None:
        """Until it answers, whether its engines do or not."""
        self.wait_for(
            lambda: httpx.get(f"{self.url}/health/live", timeout=30, trust_env=False, verify=tls()).status_code == 200
        )

    def wait_for(self, condition: Callable[[], object], seconds: float = READY_SECONDS) -> None:
        """Poll until `condition()` is true. Fails with the service's log when the service ends or is too slow."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except httpx.HTTPError:
                pass
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{'ended' if ended else 'too slow'}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.3)

    def descendants(self) -> list[psutil.Process]:
        """Every process that the service started, engines included."""
        processes: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return processes


def free_port() -> int:
    """A TCP port that no process listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_service(
    home: Path,
    arguments: Sequence[str] = ("--with-engines",),
    aliases: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    module: str = "service",
) -> Iterator[Running]:
    """Start `python -m service serve` on a free port; afterwards end it, and every process that it left behind.

    Args:
        home: the service's --home folder.
        arguments: further arguments of `serve`.
        aliases: alias -> checkpoint id, promoted before the start.
        environment: added to this process's environment.
        module: what `python -m` runs in the service's place.
    """
    store = Store(f"sqlite:///{home / 'service.db'}")
    store.migrate()
    with store.session() as session:
        key = add_key(session, "tests", ["admin"])[1]
        for alias, checkpoint in (aliases or {}).items():
            service_aliases.promote(session, alias, checkpoint, "tests")
    store.close()
    port = free_port()
    log = home / f"serve-{port}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", "--home", str(home), "--port", str(port), *arguments],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    running = Running(f"http://127.0.0.1:{port}", key, home, process, log)
    try:
        yield running
    finally:
        children = running.descendants() if process.poll() is None else []
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        for child in children:
            if child.is_running():
                child.kill()
