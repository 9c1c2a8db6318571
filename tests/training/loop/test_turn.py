"""A turn of the loop: what it trains with, and that a killed one is continued by the same command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy_world as toy
from training.artifacts import checkpoints, comparisons
from training.artifacts.errors import UserError
from training.data import reading
from training.loop import turn
from training.loop.turn import Config
from training.loop.unfinished import Unfinished
from training.runtime import runs

ROOT = Path(__file__).parents[3]
PRESET = """
[reward]
batch = 8
learning_rate = 5e-3
[ppo]
iterations = 400
batch = 16
minibatch = 8
max_tokens = 8
learning_rate = 1e-4
"""


class StubService:
    """Answers as the service does, for what a turn asks; an engine is ready as soon as it is requested."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = list(rows)
        self.engines: list[str] = []
        self.aliases: dict[str, str] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/api/export":
                    return self._answer("".join(service.rows), "application/x-ndjson")
                models = [{"id": engine, "root": engine} for engine in service.engines]
                return self._answer(json.dumps({"data": models if self.path == "/v1/models" else []}))

            def do_POST(self) -> None:
                service.engines.append(self._body()["checkpoint"])
                self._answer("{}")

            def do_PUT(self) -> None:
                service.aliases[self.path.removeprefix("/admin/aliases/")] = self._body()["checkpoint"]
                self._answer("{}")

            def do_DELETE(self) -> None:
                self._answer("{}")

            def _body(self) -> Any:
                return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, text: str, kind: str = "application/json") -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A toy home with a fine-tuned model, and a preset for short stages."""
    toy.make_home(tmp_path)
    toy.make_models(tmp_path)
    (tmp_path / "short.toml").write_text(PRESET)
    return tmp_path


@pytest.fixture
def service(home: Path) -> Iterator[StubService]:
    """It holds the toy world's rankings."""
    stub = StubService((home / "rankings.jsonl").read_text().splitlines(keepends=True))
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def start(home: Path, service: StubService, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training", "loop", "--preset", str(home / "short.toml"), "--url", service.url]
    return subprocess.Popen(
        [*command, "--ppo-prompts", str(home / "prompts.jsonl"), "--home", str(home), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ALIGNLOOP_KEY": "key"},
    )


def wait_until(condition: Any, process: subprocess.Popen[str] | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.e2e
def test_a_turn_killed_during_ppo_is_continued_with_its_reward_model_and_its_rankings(
    home: Path, service: StubService
) -> None:
    before = {c.id for c in checkpoints.checkpoints(home / "checkpoints")}
    process = start(home, service)
    wait_until(lambda: list(home.glob("tensorboard/ppo-*/metrics.jsonl")), process)
    process.send_signal(signal.SIGKILL)  # the stage gets SIGTERM from the kernel, and saves
    process.communicate()
    (state,) = home.glob("work/ppo-*")
    wait_until(lambda: not runs.locks.is_locked(state))
    assert (state / "state.pt").is_file()
    (reward,) = {c.id for c in checkpoints.checkpoints(home / "checkpoints")} - before
    assert reward.startswith("reward-")

    service.rows.append(service.rows[0].replace('"id": "c00"', '"id": "new"'))  # ranked meanwhile: for the next turn
    output, messages = start(home, service).communicate(timeout=300)
    assert "resumes from step" in messages
    assert f"reward (turn): {reward}, from before the turn was stopped" in messages
    assert "with its 24 comparisons; newer ones are for the next turn" in messages
    summary = json.loads(output.strip().splitlines()[-1])
    assert summary["rewards"] == {"turn": reward}
    policy = checkpoints.resolve(summary["policies"]["turn"], home / "checkpoints")
    assert reward in policy.manifest.parents
    assert service.aliases == {"policy/candidate": policy.id}
    assert len(comparisons.read(Path(summary["comparisons"]["file"]))[0]) == 24
    assert not list(home.glob("work/*"))
    assert not list(home.glob("turns/unfinished-*"))


def settings() -> dict[str, Any]:
    return {"sft": "sft", "seed": 0}


@pytest.mark.unit
def test_what_a_turn_has_done_survives_and_is_forgotten_at_its_end(tmp_path: Path) -> None:
    def die() -> None:
        with Unfinished(tmp_path, settings()) as turn_:
            turn_.remember(start="sft-1")
            turn_.add_checkpoint("reward", "turn", "reward-1")
            turn_.add_checkpoint("reward", "control", "reward-2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    (tmp_path / "checkpoints" / "reward-1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "reward-1" / "manifest.json").write_text("{}")
    with Unfinished(tmp_path, settings() | {"seed": 1}) as other:
        assert "start" not in other
    with Unfinished(tmp_path, settings()) as again:
        assert again["start"] == "sft-1"
        assert again.checkpoints_of("reward") == {"turn": "reward-1"}  # the other one was deleted since
        with pytest.raises(UserError, match="already in progress"), Unfinished(tmp_path, settings()):
            pass
    with Unfinished(tmp_path, settings()) as new:
        assert "start" not in new


@pytest.mark.unit
def test_options_of_measuring_do_not_begin_another_turn(tmp_path: Path) -> None:
    """A mistake in them shows after hours of training."""
    config = Config(eval_data=("truth=mistyped.jsonl",), home=tmp_path)
    mended = Config(eval_data=("truth=right.jsonl",), suites=("truth",), temperature=0.0, key="k", home=tmp_path)
    other = Config(sft="sft-2", home=tmp_path)
    first, second, third = (runs.settings_of(one, tmp_path) for one in (config, mended, other))
    assert first == second != third


@pytest.mark.unit
def test_frozen_rankings_that_were_changed_are_not_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "rankings.jsonl"
    file.write_text("one\n")
    with Unfinished(tmp_path, settings()) as unfinished:
        unfinished.remember_data({"turn": file})
        assert unfinished.data() == {"turn": file}
        file.write_text("two\n")
        with pytest.raises(UserError, match="is not what this turn began with: restore it"):
            unfinished.data()


@pytest.mark.unit
def test_ones_own_model_needs_no_preset(toy_home: Path, tmp_path: Path) -> None:
    """Its own data by options; without prompts the policy learns from those of the frozen comparisons."""
    config = Config(sft="some/model", home=tmp_path)
    assert turn._preset(config) is None
    assert turn._world(config) is None
    frozen = toy_home / "rankings.jsonl"
    assert turn._ppo_options(config, frozen) == ["--prompts", str(frozen)]
    assert turn._reward_options(config) == []
    selection = reading.select(reading.PROMPTS, (str(frozen),))
    assert len(list(reading.entries(selection, reading.PROMPTS, [reading.SourceUsage(str(frozen), "")]))) == 24
    own = Config(validation=("v",), demonstrations=("d", "e=2"), ppo_prompts=("p",), pretraining_data=("t",))
    assert turn._reward_options(own) == ["--validation", "v", "--demonstrations", "d", "e=2"]
    assert turn._ppo_options(own, frozen) == ["--prompts", "p", "--pretraining-data", "t"]
    assert turn._ppo_options(Config(preset="demo"), frozen) == []
