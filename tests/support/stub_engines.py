"""Engines that cost nothing: one HTTP server in this process that answers for all of them as vLLM does.

Each engine has a path of its own on the server, starts at once, answers with its checkpoint's own probe, and can be
broken in every way that a real one breaks. What it answers a client names its checkpoint.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from service.engines.activity import Activity
from service.engines.planning import EnginePlan
from service.engines.process import Engine
from service.settings import Settings
from service.tokenizers import renderer_for
from tests.support.in_thread import served
from training.artifacts.checkpoints import MANIFEST, Checkpoint, load
from training.artifacts.conversations import Refusal

GONE = "the stub is gone"


@dataclass
class Stub:
    """One engine's state.

    Attributes:
        up: whether its process runs.
        fault: how it misbehaves: `busy` (503), `wrong` (other numbers), `refuses` (400), `hung` (never answers),
            `stuck` (its server answers, with no token), `full` (gives tokens to others, as its metrics say), `garbage`
            (200, and something else).
        key: what requests must send, where it wants a key.
        context: what /v1/models says; prompts that leave no room for an answer are refused, as by vLLM.
        headers: of the last request.
    """

    checkpoint: Checkpoint
    up: bool = True
    fault: str = ""
    key: str | None = None
    context: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    tokens: int = 0


@dataclass
class StubEngine(Engine):
    """What a supervisor starts instead of a vLLM process."""

    stub: Stub | None = None
    last_words: str = GONE

    @property
    def owned(self) -> bool:
        return True

    def alive(self) -> bool:
        return self.stub is not None and self.stub.up

    def stop(self) -> None:
        if self.stub is not None:
            self.stub.up = False

    def kill(self) -> None:
        self.stop()

    def activity(self) -> Activity:
        return Activity(server=0.0, core=0.0, cores=1, runs=False, stopped=False)

    def failure(self) -> str:
        return self.last_words

    def running(self) -> int:
        return 0


class StubEngines:
    """All stubs of a test.

    `faults` maps a checkpoint to how its next starts go wrong: a fault of `Stub`, or the last words of a process that
    ends at once.
    """

    def __init__(self) -> None:
        self.stubs: list[Stub] = []
        self.faults: dict[str, str] = {}
        self.started: list[tuple[str, EnginePlan]] = []
        self.url = ""

    def add(self, checkpoint: Checkpoint, **fields: Any) -> tuple[Stub, str]:
        """A new engine, and its base URL."""
        stub = Stub(checkpoint, **fields)
        self.stubs.append(stub)
        return stub, f"{self.url}/{len(self.stubs) - 1}"

    def start(self, folder: Path, kind: str, settings: Settings, plan: EnginePlan) -> Engine:
        """In the place of `process.start`."""
        checkpoint = load(folder)
        self.started.append((checkpoint.id, plan))
        fault = self.faults.get(checkpoint.id, "")
        ends = fault not in ("", "busy", "wrong", "refuses", "hung", "stuck", "full", "garbage")
        stub, url = self.add(checkpoint, up=not ends, fault="" if ends else fault)
        return StubEngine(checkpoint, url, stub=stub, last_words=fault if ends else GONE)

    def of(self, checkpoint: str) -> list[Stub]:
        """The running engines of a checkpoint."""
        return [stub for stub in self.running() if stub.checkpoint.id == checkpoint]

    def running(self) -> list[Stub]:
        """All that run."""
        return [stub for stub in self.stubs if stub.up]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any route of any engine."""
        stub = self.stubs[int(request.match_info["stub"])]
        path = "/" + request.match_info["path"]
        if not stub.up:
            assert request.transport is not None
            request.transport.abort()  # what a client sees of a process that has ended
            return web.Response()
        stub.headers = dict(request.headers)
        if stub.fault == "hung":
            await asyncio.sleep(3600)
        if stub.key is not None and request.headers.get("Authorization") != f"Bearer {stub.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if path == "/health":
            return web.Response()
        if path == "/metrics":
            stub.tokens += stub.fault == "full"
            return web.Response(text=f'vllm:generation_tokens_total{{engine="0"}} {stub.tokens}.0\n')
        if stub.fault in ("stuck", "full"):
            await asyncio.sleep(3600)
        if path == "/v1/models":
            row = {"id": stub.checkpoint.id, "max_model_len": stub.context or stub.checkpoint.manifest.context}
            return web.json_response({"object": "list", "data": [row]})
        body = await request.json()
        probing = path == "/tokenize" or body.get("echo") or body.get("use_activation") is False
        if probing and stub.fault in ("busy", "refuses"):
            return web.json_response({"error": stub.fault}, status=503 if stub.fault == "busy" else 400)
        if probing and stub.fault == "garbage":
            return web.json_response([{"tokens": "none"}])
        limit = stub.context or stub.checkpoint.manifest.context
        if isinstance(body.get("prompt"), list) and len(body["prompt"]) >= limit:
            error = {"message": f"The decoder prompt is longer than the maximum model length of {limit}.", "code": 400}
            return web.json_response({"error": error}, status=400)
        return web.json_response(_result(stub, path, body))


def _result(stub: Stub, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What vLLM would answer, with the checkpoint's probe where that is what is being checked."""
    checkpoint, off = stub.checkpoint, 1.0 if stub.fault == "wrong" else 0.0
    probe = checkpoint.manifest.probe
    if path == "/tokenize":
        renderer = renderer_for(checkpoint.path, checkpoint.manifest.system, checkpoint.manifest.stop_ids)
        rendered = renderer.prompts([body["messages"]])[0]
        assert not isinstance(rendered, Refusal)
        return {"tokens": rendered.ids}
    if path == "/classify":
        rows = body["input"] if isinstance(body["input"][0], list) else [body["input"]]
        known = {json.dumps(ids): value for ids, value in zip(probe["ids"], probe["rewards"], strict=True)}
        values = [known.get(json.dumps(row), float(len(row))) + off for row in rows]
        return {"data": [{"index": index, "probs": [value]} for index, value in enumerate(values)]}
    if body.get("echo"):
        prompt = body["prompt"]
        rows = zip(probe["ids"], probe["logprobs"], strict=True)
        values = next(values[: len(prompt) - 1] for ids, values in rows if ids[: len(prompt)] == prompt)
        return {"choices": [{"logprobs": {"token_logprobs": [None, *(value + off for value in values)]}}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "text": checkpoint.id, "finish_reason": "stop", "logprobs": None}
    return {"id": "x", "object": "text_completion", "model": checkpoint.id, "choices": [choice], "usage": usage}


@contextmanager
def stub_engines() -> Iterator[StubEngines]:
    """Run the server in a thread."""
    stubs = StubEngines()
    with served("*", "/{stub:[0-9]+}/{path:.*}", stubs.answer, shutdown_timeout=0.1) as stubs.url:
        yield stubs


def copies(original: Checkpoint, store: Path, names: list[str]) -> list[Checkpoint]:
    """Checkpoints of a store with the files of one, each under its own id."""
    result = []
    for number, name in enumerate(names):
        folder = store / name
        folder.mkdir(parents=True)
        for file in original.path.iterdir():
            if file.name != MANIFEST:
                (folder / file.name).symlink_to(file.resolve())
        fields = json.loads((original.path / MANIFEST).read_text())
        fields |= {"id": name, "created": f"2026-01-31T10:15:{number:02}+00:00"}
        fields["probe"] = {
            key: value[:1] if isinstance(value, list) else value for key, value in fields["probe"].items()
        }
        (folder / MANIFEST).write_text(json.dumps(fields))
        result.append(load(folder))
    return result
