"""The demo and the next turn of the loop from end to end, on settings too small to learn anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.live_service import ROOT, free_port
from tests.support.prometheus import PANELS, scraping
from tests.support.signals import take_ctrl_c

pytestmark = pytest.mark.slow  # seven engines start: too long for every run of the tests
PRESET = """
[world]
size = "demo"
[tokenizer]
name = "{world_name}"
data = "{world}/pretrain.jsonl"
kind = "words"
vocab_size = 4096
[pretrain]
tokenizer = "{home}/tokenizer/{world_name}"
data = "{world}/pretrain.jsonl"
validation = "{world}/heldout.jsonl"
layout = "documents"
hidden_size = 64
layers = 1
heads = 2
feed_forward = 128
context = 256
initial_std = 0.05
tokens = 200_000
batch_tokens = 2048
learning_rate = 5e-3
[sft]
data = "{world}/demonstrations.jsonl"
epochs = 1
learning_rate = 2e-3
[sample]
prompts = "{world}/prompts-reward.jsonl"
labelers = "miniature"
world = "{world}"
name = "{world_name}/first"
limit = 200
k_max = 4
max_tokens = 12
[reward]
data = "{home}/comparisons/{world_name}/first.jsonl"
validation = "{home}/comparisons/{world_name}/first-validation.jsonl"
demonstrations = "{world}/demonstrations.jsonl"
learning_rate = 1e-3
batch = 16
[ppo]
prompts = "{world}/prompts-ppo.jsonl"
iterations = 2
batch = 64
minibatch = 32
learning_rate = 1e-4
max_tokens = 12
ptx_coefficient = 0.3
pretraining_data = "{world}/pretrain.jsonl"
[loop]
earlier = "{home}/comparisons/{world_name}"
"""


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for(text: str, log: Path, process: subprocess.Popen[str], seconds: float = 800) -> str:
    deadline = time.monotonic() + seconds
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    return log.read_text()


def start_demo(arguments: list[str], port: int, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "training", "demo", *arguments, "--port", str(port)],
            cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, text=True, preexec_fn=take_ctrl_c,
        )  # fmt: skip


def use(url: str, key: str) -> None:
    """What the loop does not: an answer, a refusal, a score, and a labeler who skips."""
    headers = {"Authorization": f"Bearer {key}"}
    hello = [{"role": "user", "content": "Hello"}]
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        for model, status in (("policy/production", 200), ("none", 404)):
            assert client.post("/v1/chat/completions", json={"model": model, "messages": hello}).status_code == status
        body = {"model": "reward/production", "messages": hello, "responses": ["hot", "cold"]}
        client.post("/score", json=body).raise_for_status()
        token = client.post("/admin/labelers", json={"name": f"skips {time.time()}"}).json()["token"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as labeler:
        labeler.headers["X-CSRF-Token"] = labeler.post("/api/session", json={"token": token}).json()["csrf"]
        task = labeler.post("/api/tasks/next", json={"kind": "compare"}).raise_for_status().json()["task"]
        labeler.post(f"/api/tasks/{task['id']}/skip", json={"token": task["token"]}).raise_for_status()


def end(demo: subprocess.Popen[str]) -> None:
    """Ctrl-C ends the demo and everything that it started."""
    family = descendants(demo)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(90) == 0
    assert not psutil.wait_procs(family, timeout=20)[1]


def test_the_first_turn_is_served_the_second_is_measured_and_ctrl_c_ends_all(tmp_path: Path) -> None:
    preset, log, home, port = tmp_path / "tiny.toml", tmp_path / "demo.log", tmp_path / "home", free_port()
    preset.write_text(PRESET)
    common = ["--preset", str(preset), "--seed", "7", "--home", str(home)]
    demo = start_demo(common, port, log)
    try:
        said = wait_for("Ctrl-C ends the service", log, demo)
        (report,) = (home / "reports").glob("demo-*")
        table = json.loads((report / "table.json").read_text())
        assert table["labels"] == ["base", "base few-shot", "sft", "ppo", "ppo-ptx", "reward"]
        agreements = {row["metric"] for row in table["rows"] if row["metric"].endswith(".agrees")}
        assert agreements == {"reward.labelers_training.agrees", "reward.labelers_heldout.agrees"}
        measured = [cell for row in table["rows"] for cell in row["cells"] if cell]
        assert all(cell["missing"] == 0 for cell in measured)
        verdicts = json.loads((report / "summary.json").read_text())["verdicts"]
        assert len(verdicts) == 2
        assert all(outcome in said for outcome in verdicts.values())

        key = said.split("key          ")[1].split()[0]
        url = f"http://127.0.0.1:{port}"
        with scraping(url, tmp_path / "prometheus") as prometheus:
            loop = subprocess.run(
                [sys.executable, "-m", "training", "loop", *common, "--url", url, "--labelers", "miniature",
                 "--limit", "16"],
                cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "ALIGNLOOP_KEY": key},
            )  # fmt: skip
            queries = {f"{title}: {query}": query for title, query in PANELS}
            assert prometheus.without_data(queries, lambda: use(url, key), 60) == {}
        assert loop.returncode == 0, loop.stdout + loop.stderr
        turn = json.loads(loop.stdout.strip().splitlines()[-1])
        aliases = httpx.get(f"{url}/admin/aliases", headers={"Authorization": f"Bearer {key}"}, trust_env=False).json()
        assert turn["gate"] in ("PASS", "FAIL", "INCONCLUSIVE")
        candidate = aliases["aliases"].get("policy/candidate")
        assert candidate == (None if turn["gate"] == "FAIL" else turn["policies"]["turn"])
        assert aliases["aliases"]["policy/production"] == turn["baseline"]

        end(demo)

        # A second start trains and measures nothing, and serves what the aliases name, the second turn's candidate too.
        demo = start_demo(common, port, log)
        said = wait_for("Ctrl-C ends the service", log, demo)
        assert "pretraining" not in said
        key = said.split("key          ")[1].split()[0]
        headers = {"Authorization": f"Bearer {key}"}
        engines = httpx.get(f"{url}/admin/engines", headers=headers, trust_env=False).json()["data"]
        named = httpx.get(f"{url}/admin/aliases", headers=headers, trust_env=False).json()["aliases"]
        assert {engine["checkpoint"] for engine in engines} == set(named.values())
        assert len(named) == (3 if turn["gate"] == "FAIL" else 4)
        end(demo)
    finally:
        if demo.poll() is None:
            demo.kill()
