"""Two gateways behind nginx, one PostgreSQL, engines on machines of their own (network namespaces)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from service.administration import aliases as administration
from service.keys import add_key
from service.labelers import add_labeler
from service.store.database import Store
from service.store.models import Alias
from tests.service.conftest import empty_postgresql
from tests.support import namespaces, waiting
from tests.support.live_service import ROOT, free_port
from tests.support.namespaces import Namespace
from tests.support.programs import tool
from tests.support.stub_engines import copies
from training.artifacts.checkpoints import Checkpoint

wait_until = partial(waiting.wait_until, seconds=120)

pytestmark = pytest.mark.integration
ALIAS = "policy/production"
CHAT = "/v1/chat/completions"
FOLLOW_SECONDS = 1.0  # both gateways look at the store twice a second


@dataclass
class Site:
    """What an operator runs.

    Attributes:
        url: nginx's.
        key: of the scope admin.
        database: PostgreSQL's URL.
        gateways: port -> process.
        machines: checkpoint -> where its engine runs.
    """

    url: str
    key: str
    database: str
    store: Store
    folder: Path
    gateways: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    machines: dict[str, Namespace] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def start_gateway(self, port: int) -> None:
        self.gateways[port] = self.start("serve", "--port", str(port), name=f"serve-{port}")

    def start(self, *arguments: str, name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service", *arguments, "--home", str(self.folder)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "ALIGNLOOP_DATABASE": self.database},
            )

    def answers(self, url: str, *, tokens: int = 2) -> str | None:
        """The checkpoint that a chat gets to; None where there is no answer."""
        body = {"model": ALIAS, "messages": [{"role": "user", "content": "hello"}], "max_tokens": tokens}
        try:
            reply = httpx.post(url + CHAT, json=body, headers=self.headers, timeout=30, trust_env=False)
        except httpx.HTTPError:
            return None
        return reply.headers.get("x-alignloop-checkpoint") if reply.status_code == 200 else None

    def passed_on(self) -> list[tuple[str, str, str]]:
        """(request id, port, status) of each request in nginx's log, in order of their ends; the last gateway asked."""
        rows = [line.split() for line in (self.folder / "nginx.log").read_text().splitlines()]
        return [(row[-1], row[-5].rpartition(":")[2], row[1]) for row in rows]


def labeler(site: Site, name: str) -> str:
    """A new labeler's token."""
    with site.store.session() as session:
        return add_labeler(session, name)[1]


def is_there(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def nginx_configuration(folder: Path, port: int, gateways: list[int]) -> Path:
    """The shipped file with this test's addresses, in the smallest frame that nginx takes."""
    site = (ROOT / "deploy/nginx/alignloop.conf").read_text()
    addresses = {
        "127.0.0.1:8000": f"127.0.0.1:{port}", "127.0.0.1:8001": f"127.0.0.1:{gateways[0]}",
        "127.0.0.1:8002": f"127.0.0.1:{gateways[1]}", "/var/log/nginx/alignloop.log": f"{folder}/nginx.log",
    }  # fmt: skip
    for shipped, here in addresses.items():
        assert site.count(shipped) == 1
        site = site.replace(shipped, here)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log;\n"
        f"worker_processes 1; events {{ worker_connections 1024; }}\nhttp {{\n{places}{site}}}\n"
    )
    return file


@pytest.fixture(scope="module")
def site(tiny_policy: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx = tool("nginx", "install the package `nginx-light`")
    if reason := namespaces.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    checkpoints = copies(tiny_policy, folder / "checkpoints", ["a", "b"])
    with ExitStack() as stack:
        database = stack.enter_context(empty_postgresql())
        store = Store(database)
        stack.callback(store.close)
        store.migrate()
        with store.session() as session:
            key = add_key(session, "tests", ["admin"])[1]
            administration.promote(session, folder / "checkpoints", ALIAS, "a", "tests")
        port, *ports = free_port(), free_port(), free_port()
        running = Site(f"http://127.0.0.1:{port}", key, database, store, folder)
        processes: list[subprocess.Popen[bytes]] = []

        def end() -> None:
            for process in [*processes, *running.gateways.values()]:
                process.terminate()
                process.wait(60)

        stack.callback(end)
        urls = []
        for checkpoint in checkpoints:
            machine = stack.enter_context(namespaces.namespace())
            running.machines[checkpoint.id] = machine
            command = [sys.executable, "-m", "tests.support.stub_server", str(checkpoint.path), machine.address, "8000"]
            processes.append(machine.start(command, cwd=ROOT))
            urls += ["--engine", f"{checkpoint.id}=http://{machine.address}:8000/0"]
        for machine in running.machines.values():
            wait_until(lambda url=f"http://{machine.address}:8000/0/health": is_there(url))
        processes.append(running.start("engines", *urls, name="engines"))
        for one in ports:
            running.start_gateway(one)
        command = [nginx, "-c", str(nginx_configuration(folder, port, ports))]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        wait_until(lambda: all(running.answers(f"http://127.0.0.1:{one}") == "a" for one in ports))
        wait_until(lambda: running.answers(running.url) == "a")
        yield running


def test_a_session_is_known_to_both_and_stays_at_one(site: Site) -> None:
    token = labeler(site, "Ada")
    with httpx.Client(base_url=site.url, trust_env=False, timeout=30) as browser:
        assert browser.post("/api/session", json={"token": token}).status_code == 200
        before = len(site.passed_on())
        assert [browser.get("/api/session").status_code for _ in range(10)] == [200] * 10
        wait_until(lambda: len(site.passed_on()) >= before + 10, seconds=5)
        assert len({port for _, port, _ in site.passed_on()[before:]}) == 1
        cookies = "; ".join(f"{one.name}={one.value}" for one in browser.cookies.jar)
        for port in site.gateways:
            headers = {"Cookie": cookies, "Host": httpx.URL(site.url).netloc.decode()}
            reply = httpx.get(f"http://127.0.0.1:{port}/api/session", headers=headers, trust_env=False)
            assert reply.status_code == 200, f"{reply.text} at {port}"


def test_both_follow_an_alias(site: Site) -> None:
    """However often it moves, and whichever gateway is told."""
    version = 1
    for told in site.gateways:
        for target in ("b", "a"):
            with site.store.session() as session:
                version = session.get_one(Alias, ALIAS).version
            reply = httpx.put(
                f"http://127.0.0.1:{told}/admin/aliases/{ALIAS}",
                json={"checkpoint": target, "version": version},
                headers=site.headers,
                trust_env=False,
            )
            assert reply.status_code == 200, reply.text
            served = moved = 0.0
            urls = [f"http://127.0.0.1:{port}" for port in site.gateways]
            deadline = time.monotonic() + 60
            while not moved:
                assert time.monotonic() < deadline
                asked = time.monotonic()
                with site.store.session() as session:
                    if not served and session.get_one(Alias, ALIAS).served == target:
                        served = asked
                moved = asked if {site.answers(url) for url in urls} == {target} else 0.0
                time.sleep(0.01)
            seconds = moved - served
            print(f"to {target}: {seconds:.2f} s after the store said so")
            assert seconds <= FOLLOW_SECONDS


def test_of_a_killed_gateway_only_its_own_requests_fail(site: Site) -> None:
    """Streams of a second each, sixteen at a time; kill -9 in the middle; then the gateway comes back."""
    killed, other = site.gateways
    moment = 0.0

    @dataclass
    class Outcome:
        begun: float
        ended: float
        whole: bool

    async def stream(client: httpx.AsyncClient, name: str) -> Outcome:
        body = {"model": ALIAS, "messages": [{"role": "user", "content": name}], "stream": True}
        begun, text = time.monotonic(), b""
        try:
            headers = site.headers | {"x-request-id": name}
            async with client.stream("POST", CHAT, json=body, headers=headers) as reply:
                async for piece in reply.aiter_bytes():
                    text += piece
                whole = reply.status_code == 200 and text.endswith(b"data: [DONE]\n\n")
        except httpx.HTTPError:
            whole = False
        return Outcome(begun, time.monotonic(), whole)

    async def load() -> dict[str, Outcome]:
        nonlocal moment
        results: dict[str, Outcome] = {}
        until = time.monotonic() + 6
        async with httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=30) as client:

            async def one_after_another(worker: int) -> None:
                number = 0
                while time.monotonic() < until:
                    name = f"{worker}-{number}"
                    results[name] = await stream(client, name)
                    number += 1

            async def kill() -> None:
                nonlocal moment
                await asyncio.sleep(2.5)
                moment = time.monotonic()
                site.gateways[killed].send_signal(signal.SIGKILL)

            await asyncio.gather(kill(), *map(one_after_another, range(16)))
        return results

    before = len(site.passed_on())
    results = asyncio.run(load())
    wait_until(lambda: len(site.passed_on()) >= before + len(results), seconds=5)
    took = {name: port for name, port, _ in site.passed_on()[before:]}
    failed = {name for name, one in results.items() if not one.whole}
    under_way = {
        name for name, one in results.items() if one.begun <= moment <= one.ended and took[name] == str(killed)
    }
    print(f"{len(results)} answers, {len(failed)} of them cut off with their gateway")
    assert failed == under_way
    assert failed
    assert sum(took[name] == str(other) for name in results) > 16

    site.gateways[killed].wait()
    for name in ("Bo", "Cy", "Di", "Ed"):  # some of them were at the gateway that is gone
        with httpx.Client(base_url=site.url, trust_env=False, timeout=30) as browser:
            assert browser.post("/api/session", json={"token": labeler(site, name)}).status_code == 200
            assert browser.get("/api/session").status_code == 200
    site.start_gateway(killed)
    wait_until(lambda: site.answers(f"http://127.0.0.1:{killed}") == "a")
    before = len(site.passed_on())

    def both() -> bool:
        assert site.answers(site.url) == "a"
        return {port for _, port, _ in site.passed_on()[before:]} == {str(killed), str(other)}

    wait_until(both, seconds=30)


def test_an_engine_that_cannot_be_reached_is_said_by_both_until_it_is_back(site: Site) -> None:
    """A pulled cable: packets are lost, no connection is refused."""
    machine = site.machines["a"]
    urls = [f"http://127.0.0.1:{port}" for port in site.gateways]

    def problems() -> list[int]:
        return [httpx.get(f"{url}/health/ready", timeout=60, trust_env=False).status_code for url in urls]

    machine.unplug()
    try:
        wait_until(lambda: problems() == [503, 503], seconds=60)
        began = time.monotonic()
        assert [site.answers(url) for url in urls] == [None, None]
        assert time.monotonic() - began < 20, "what is known to be away is refused at once"
    finally:
        machine.plug()
    wait_until(lambda: [site.answers(url) for url in urls] == ["a", "a"], seconds=90)
    assert problems() == [200, 200]
