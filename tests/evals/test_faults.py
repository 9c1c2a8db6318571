"""What happens to a run when it is killed, or when the service fails in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import world_sample
from tests.support.live_service import ROOT, Running
from tests.support.proxy import Proxy, proxied
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of prompts for the reward suite."""
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"the fox has {n} cups"}) + "\n" for n in range(60)))
    return file


@pytest.fixture
def proxy(gateway: Running) -> Iterator[Proxy]:
    with proxied(gateway.url) as proxy:
        yield proxy


def command(proxy: Proxy, gateway: Running, home: Path, out: Path, *arguments: object) -> list[str]:
    return [
        sys.executable, "-m", "evals.run", "--url", proxy.url, "--key", gateway.add_key("eval"), "--home", str(home),
        "--out", str(out), "--max-tokens", "4", "--concurrency", "2", *map(str, arguments),
    ]  # fmt: skip


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)


def home_with(gateway: Running, folder: Path) -> Path:
    """A home of its own with the gateway's checkpoints: its answers are not those of other tests."""
    (folder / "checkpoints").symlink_to(gateway.home / "checkpoints")
    return folder


def test_a_killed_run_asks_nothing_twice_and_ends_alike(
    proxy: Proxy, gateway: Running, tiny_policy: Checkpoint, tiny_reward: Checkpoint, prompts: Path, tmp_path: Path
) -> None:
    measure = ("--checkpoint", tiny_policy.id, "--suite", "reward", "--reward", tiny_reward.id, "--data",
               f"prompts={prompts}", "--real")  # fmt: skip
    home = home_with(gateway, tmp_path)
    started = command(proxy, gateway, home, tmp_path / "out", *measure)
    with subprocess.Popen(started, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(proxy.answered) < 20:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    kept = sum(_rows(file) for file in (home / "cache" / "evals").glob("*.sqlite"))
    before = [_key(x) for x in proxy.answered]
    assert 18 <= kept <= len(before)
    proxy.answered.clear()
    done = run(started)
    assert done.returncode == 0, done.stderr
    # At most those in flight when it was killed are asked once more.
    again = [x for x in map(_key, proxy.answered) if x in before]
    assert len(again) <= len(before) - kept <= 2
    whole = tmp_path / "whole"
    done = run([*command(proxy, gateway, home, whole, *measure), "--no-cache"])
    assert done.returncode == 0, done.stderr
    name = f"{tiny_policy.id}.chat.items.jsonl"
    assert (whole / name).read_text() == (tmp_path / "out" / name).read_text()


def test_a_service_that_goes_away_leaves_missing_items_and_a_status(
    proxy: Proxy, gateway: Running, tiny_policy: Checkpoint, tiny_reward: Checkpoint, prompts: Path, tmp_path: Path
) -> None:
    home = home_with(gateway, tmp_path)
    gone = (404, {"error": {"message": "no model", "code": "model_not_found"}})
    proxy.fault = lambda path, body: gone if path == "/v1/chat/completions" and len(proxy.answered) >= 10 else None
    measure = ("--checkpoint", tiny_policy.id, "--suite", "reward", "--reward", tiny_reward.id, "--data",
               f"prompts={prompts}", "--real")  # fmt: skip
    arguments = command(proxy, gateway, home, tmp_path / "out", *measure)
    done = run(arguments)
    assert done.returncode == 3, done.stdout + done.stderr
    metric = _metric(tmp_path / "out", tiny_policy, "reward.prompts.reward")
    assert metric["n"] + metric["missing"] == 60
    assert metric["missing"] >= 40
    proxy.fault = lambda path, body: None
    done = run(arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _metric(tmp_path / "out", tiny_policy, "reward.prompts.reward")["missing"] == 0


@pytest.mark.parametrize(
    "fault",
    [
        (500, {"error": {"message": "broken"}}),
        (200, {"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}]}),
        (200, {"choices": []}),
    ],
)
def test_answers_that_never_come_are_missing_not_zero(
    proxy: Proxy, gateway: Running, tiny_policy: Checkpoint, tiny_reward: Checkpoint, prompts: Path, tmp_path: Path,
    fault: tuple[int, dict[str, Any]],
) -> None:  # fmt: skip
    home = home_with(gateway, tmp_path)
    proxy.fault = lambda path, body: fault if path == "/v1/chat/completions" else None
    done = run(
        command(
            proxy, gateway, home, tmp_path / "out", "--checkpoint", tiny_policy.id, "--suite", "reward", "--reward",
            tiny_reward.id, "--data", f"prompts={prompts}", "--real", "--limit", 4,
        )
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "none of 4 items" in done.stdout
    metric = _metric(tmp_path / "out", tiny_policy, "reward.prompts.reward")
    assert (metric["value"], metric["n"], metric["missing"]) == (None, 0, 4)


def test_rewards_that_fail_are_missing(
    proxy: Proxy, gateway: Running, tiny_policy: Checkpoint, tiny_reward: Checkpoint, prompts: Path, tmp_path: Path
) -> None:
    home = home_with(gateway, tmp_path)
    proxy.fault = lambda path, body: (422, {"error": {"message": "no"}}) if path == "/score" else None
    done = run(
        command(
            proxy, gateway, home, tmp_path / "out", "--checkpoint", tiny_policy.id, "--suite", "reward", "--reward",
            tiny_reward.id, "--data", f"prompts={prompts}", "--real", "--limit", 4,
        )
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert _metric(tmp_path / "out", tiny_policy, "reward.prompts.reward")["missing"] == 4


def test_a_run_starts_engines_of_its_own_and_ends_them(
    gateway: Running, tiny_policy: Checkpoint, tmp_path: Path
) -> None:
    """Without --url, and with nothing at the usual address."""
    import psutil

    home = home_with(gateway, tmp_path)
    world_sample.write(home)
    done = run(
        [
            sys.executable, "-m", "evals.run", "--home", str(home), "--out", str(tmp_path / "out"), "--checkpoint",
            tiny_policy.id, "--suite", "honesty", "--max-tokens", "4",
        ]
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert _metric(tmp_path / "out", tiny_policy, "honesty.harmful.honest")["missing"] == 0
    left = [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def _rows(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count


def _key(request: tuple[str, dict[str, Any]]) -> str:
    return json.dumps(request, sort_keys=True)


def _metric(out: Path, checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    metric: dict[str, Any] = json.loads((out / f"{checkpoint.id}.chat.json").read_text())["metrics"][key]
    return metric
