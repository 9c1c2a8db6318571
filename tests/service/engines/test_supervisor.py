"""Engines live and die with their supervisor; promotions move requests without a gap. Real processes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.engines import environment, planning, process
from service.settings import Settings
from tests.support.live_service import ROOT, Running, running_service
from tests.support.tiny_models import publish_tiny
from training.artifacts.checkpoints import Checkpoint, load
from training.artifacts.errors import UserError

integration = pytest.mark.integration


def gone(processes: list[psutil.Process], seconds: float = 20) -> bool:
    """Whether all of them end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.fixture
def served_policy(tiny_policy: Checkpoint, tmp_path: Path) -> Iterator[Running]:
    """A service of its own, with one engine, for tests that break it."""
    shutil.copytree(tiny_policy.path, tmp_path / "checkpoints" / tiny_policy.id)
    with running_service(tmp_path, aliases={"policy/production": tiny_policy.id}) as running:
        yield running


@integration
def test_sigkill_of_the_supervisor_leaves_no_engine(served_policy: Running) -> None:
    served_policy.wait_ready()
    engines = served_policy.descendants()
    assert any("--served-model-name" in p.cmdline() for p in engines)
    assert len(engines) >= 3, "guard, API server and engine core"
    served_policy.process.kill()
    assert gone(engines)


@integration
def test_sigkill_while_an_engine_starts_leaves_none(served_policy: Running) -> None:
    served_policy.wait_for(lambda: len(served_policy.descendants()) >= 2)
    engines = served_policy.descendants()
    served_policy.process.kill()
    assert gone(engines)


@integration
def test_sigterm_ends_everything_with_status_0(served_policy: Running) -> None:
    served_policy.wait_for(lambda: len(served_policy.descendants()) >= 2)
    engines = served_policy.descendants()
    served_policy.process.terminate()
    assert served_policy.process.wait(60) == 0
    assert gone(engines)
    with served_policy.client() as client, pytest.raises(httpx.ConnectError):
        client.get("/health/live")


@integration
def test_promotion_and_rollback_of_a_running_service(
    gateway: Running, tiny_store: Path, tiny_policy: Checkpoint
) -> None:
    """Asked for over HTTP, an engine starts; the alias moves when it is ready; requests never fail meanwhile."""
    other = publish_tiny(tiny_store, seed=7)
    body = {"model": "policy/production", "prompt": "the water", "max_tokens": 1}
    with gateway.client() as client:

        def answers() -> str:
            reply = client.post("/v1/completions", json=body)
            assert reply.status_code == 200, reply.text
            return str(reply.json()["model"])

        version = next(a for a in client.get("/admin/aliases").json()["data"] if a["alias"] == "policy/production")[
            "version"
        ]
        put = client.put("/admin/aliases/policy/production", json={"checkpoint": other.id, "version": version})
        assert put.status_code == 200, put.text
        again = client.put("/admin/aliases/policy/production", json={"checkpoint": other.id, "version": version})
        assert again.status_code == 409
        assert answers() == tiny_policy.id, "the one before answers until the new one is ready"
        gateway.wait_for(lambda: answers() == other.id)
        # Nothing names the first engine any more: it is drained and ends.
        gateway.wait_for(lambda: [e["checkpoint"] for e in engines(client)].count(tiny_policy.id) == 0)
        gone_model = {**body, "model": tiny_policy.id}
        gateway.wait_for(lambda: client.post("/v1/completions", json=gone_model).status_code == 404, 5)

        # The way back is the same: what answers goes on until the other engine is ready.
        back = client.post("/admin/aliases/policy/production/rollback")
        assert back.json()["checkpoint"] == tiny_policy.id
        assert answers() == other.id
        gateway.wait_for(lambda: answers() == tiny_policy.id)
        gateway.wait_for(lambda: state_of(client, other.id) is None)
        assert answers() == tiny_policy.id


@integration
def test_a_damaged_checkpoint_is_not_promoted(gateway: Running, tiny_store: Path, tiny_policy: Checkpoint) -> None:
    """Its weights are not those of the manifest: the alias stays where it was."""
    other = publish_tiny(tiny_store, seed=8)
    shutil.copy(tiny_policy.path / "model.safetensors", other.path / "model.safetensors")
    command = [sys.executable, "-m", "service", "promote", "policy/production", other.id, "--home", str(gateway.home)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 2
    assert "is not the file that was published" in " ".join(ended.stderr.split())
    with gateway.client() as client:
        aliases = {row["alias"]: row for row in client.get("/admin/aliases").json()["data"]}
        assert aliases["policy/production"]["checkpoint"] == tiny_policy.id
        gateway.wait_for(lambda: state_of(client, other.id) is None)
    shutil.rmtree(other.path)


@integration
def test_an_engine_elsewhere_is_checked_and_served(gateway: Running, tiny_policy: Checkpoint, tmp_path: Path) -> None:
    """A second service that owns no engine uses the first one's by URL, and leaves it running."""
    (tmp_path / "checkpoints").symlink_to(tiny_policy.path.parent)
    with gateway.client() as client:
        url = next(e["url"] for e in engines(client) if e["checkpoint"] == tiny_policy.id)
    arguments = ("--with-engines", "--engine", f"{tiny_policy.id}={url}")
    with running_service(tmp_path, arguments, aliases={"policy/production": tiny_policy.id}) as second:
        second.wait_ready()
        assert second.descendants() == []
        with second.client() as client:
            body = {"model": "policy/production", "prompt": "the", "max_tokens": 1}
            assert client.post("/v1/completions", json=body).json()["model"] == tiny_policy.id
    with gateway.client() as client:
        assert client.post("/v1/completions", json=body).status_code == 200


@integration
def test_a_start_that_fails_names_the_cause(tiny_policy: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / tiny_policy.id
    shutil.copytree(tiny_policy.path, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    settings = Settings(logs=tmp_path / "logs")
    (plan,) = planning.plans_for([load(folder)], settings, on_cpu=environment.on_cpu())
    engine = process.start(folder, "policy", settings, plan)
    try:
        with pytest.raises(UserError, match="NoSuchModel"):
            engine.wait(300)
    finally:
        engine.stop()


@integration
def test_a_taken_port_is_one_line_and_status_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "service", "serve", "--home", str(tmp_path), "--port", port]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr == f"error: port {port} is in use: stop what listens there, or give another --port\n"


def engines(client: httpx.Client) -> list[dict[str, str]]:
    data: list[dict[str, str]] = client.get("/admin/engines").json()["data"]
    return data


def state_of(client: httpx.Client, checkpoint: str) -> str | None:
    return next((e["state"] for e in engines(client) if e["checkpoint"] == checkpoint), None)
