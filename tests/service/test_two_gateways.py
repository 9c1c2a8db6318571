"""Two gateways behind nginx, one PostgreSQL, engines on machines of their own (network namespaces)."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil
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
        nginx: its command.
    """

    url: str
    key: str
    database: str
    store: Store
    folder: Path
    gateways: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    machines: dict[str, Namespace] = field(default_factory=dict)
    nginx: list[str] = field(default_factory=list)

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

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the service."""
        words = [sys.executable, "-m", "service", *arguments, "--home", str(self.folder)]
        environment = {**os.environ, "ALIGNLOOP_DATABASE": self.database}
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    def send_to_all_but(self, port: int | None) -> None:
        """Have nginx send nothing to one of the gateways, or to none less."""
        file = Path(self.nginx[-1])
        text = file.read_text().replace(" down max_fails=", " max_fails=")
        file.write_text(text.replace(f":{port} max_fails=", f":{port} down max_fails="))
        master = psutil.Process(int((self.folder / "nginx.pid").read_text()))
        workers = set(master.children())
        subprocess.run([*self.nginx, "-s", "reload"], check=True, stderr=subprocess.DEVNULL)
        wait_until(lambda: set(master.children()) - workers, seconds=10)
        time.sleep(0.5)  # the new worker is there; the old one takes no more connections once it has been told

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
        running.nginx = [nginx, "-c", str(nginx_configuration(folder, port, ports))]
        checked = subprocess.run([*running.nginx, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        processes.append(subprocess.Popen(running.nginx, stderr=subprocess.DEVNULL))
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


def test_sessions_are_spread_over_both(site: Site) -> None:
    before, count = len(site.passed_on()), 200
    with httpx.Client(base_url=site.url, trust_env=False, timeout=30) as client:
        for _ in range(count):
            client.get("/api/session", headers={"Cookie": f"alignloop_session={secrets.token_urlsafe(32)}"})
    wait_until(lambda: len(site.passed_on()) >= before + count, seconds=5)
    taken = Counter(port for _, port, _ in site.passed_on()[before:])
    assert min(taken[str(port)] for port in site.gateways) >= count // 4, taken


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


@dataclass
class Outcome:
    """A stream: when it began and ended, and whether all of it came."""

    begun: float
    ended: float
    whole: bool


async def stream(client: httpx.AsyncClient, site: Site, name: str) -> Outcome:
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


def under_load(site: Site, work: Callable[[], None]) -> dict[str, Outcome]:
    """Streams of a second each through nginx, sixteen at a time, before, during and after `work`; by request id."""
    results: dict[str, Outcome] = {}

    async def load() -> None:
        ended = asyncio.Event()

        async def one_after_another(client: httpx.AsyncClient, worker: int) -> None:
            for number in itertools.count():
                if ended.is_set():
                    return
                name = f"{work.__name__}-{worker}-{number}"
                results[name] = await stream(client, site, name)

        # A connection of its own for each: one that is kept may be closed just as the next request is sent.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=30, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for worker in range(16):
                group.create_task(one_after_another(client, worker))
            await asyncio.sleep(2.5)
            await asyncio.to_thread(work)
            await asyncio.sleep(3)
            ended.set()

    asyncio.run(load())
    return results


def test_of_a_killed_gateway_only_its_own_requests_fail(site: Site) -> None:
    """kill -9 under load; then the gateway comes back."""
    killed, other = site.gateways
    began = ended = 0.0

    def kill() -> None:
        nonlocal began, ended
        began = time.monotonic()
        site.gateways[killed].send_signal(signal.SIGKILL)
        site.gateways[killed].wait(30)
        ended = time.monotonic()  # until now the kernel took connections for it

    before = len(site.passed_on())
    results = under_load(site, kill)
    wait_until(lambda: len(site.passed_on()) >= before + len(results), seconds=5)
    took = {name: port for name, port, _ in site.passed_on()[before:]}
    failed = {name for name, one in results.items() if not one.whole}
    under_way = {
        name for name, one in results.items() if one.begun <= ended and began <= one.ended and took[name] == str(killed)
    }
    print(f"{len(results)} answers, {len(failed)} of them cut off with their gateway")
    assert failed
    assert failed <= under_way
    assert sum(took[name] == str(other) for name in results) > 16

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


def test_a_rolling_restart_loses_nothing(site: Site) -> None:
    """Each gateway in turn leaves the proxy, ends, starts anew and is put back, as docs/how-to/operate.md says."""

    def restart() -> None:
        for port in list(site.gateways):
            site.send_to_all_but(port)
            site.gateways[port].terminate()
            assert site.gateways[port].wait(60) == 0
            site.start_gateway(port)
            wait_until(lambda url=f"http://127.0.0.1:{port}/health/ready": is_there(url))
            site.send_to_all_but(None)

    before = len(site.passed_on())
    results = under_load(site, restart)
    wait_until(lambda: len(site.passed_on()) >= before + len(results), seconds=5)
    assert [name for name, one in results.items() if not one.whole] == []
    assert {port for _, port, _ in site.passed_on()[before:]} == {str(port) for port in site.gateways}
    print(f"{len(results)} answers, all whole")


def test_a_key_is_replaced_and_the_old_one_revoked_at_both(site: Site) -> None:
    def command(*words: str) -> str:
        process = site.run("keys", *words)
        assert process.returncode == 0, process.stderr
        return process.stdout

    def statuses(key: str) -> list[int]:
        return [
            httpx.get(
                f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"}, trust_env=False
            ).status_code
            for port in site.gateways
        ]

    old, new = (command("add", name, "--scopes", "generate").split()[-1] for name in ("old", "new"))
    assert [statuses(key) for key in (old, new)] == [[200, 200], [200, 200]]
    command("revoke", next(line.split()[0] for line in command("list").splitlines() if "old" in line.split()))
    wait_until(lambda: statuses(old) == [401, 401], seconds=2)  # kept for a second
    assert statuses(new) == [200, 200]


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
