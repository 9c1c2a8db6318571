"""Where the models of a run are served: by a running service, or by engines started for the run alone."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

from evals.options import Config
from evals.subjects import checkpoint_ids
from training.artifacts import processes, progress
from training.artifacts.errors import UserError

USUAL = "http://127.0.0.1:8000"  # where `python -m service serve` listens
READY_SECONDS = 900.0
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # to this machine, past any proxy


@contextmanager
def server_of(config: Config) -> Iterator[str]:
    """Address of a server for the run's models.

    `--url` as it is; otherwise the service at its usual address where it serves them all; otherwise engines of this
    run's own, which end with it.

    Raises:
        UserError: a checkpoint that is neither served nor in the store, or an engine that does not get ready.
    """
    if config.url:
        yield config.url.rstrip("/").removesuffix("/v1")  # as OpenAI's clients take it
        return
    references = [*config.baseline, *config.checkpoint, *([config.reward] if config.reward else [])]
    ids = checkpoint_ids(references, config.home / "checkpoints")
    key = config.key or os.environ.get("ALIGNLOOP_KEY")
    if set(ids) <= _served(USUAL, key):
        yield USUAL
        return
    with _started(ids, config.home) as url:
        yield url


@contextmanager
def _started(ids: Sequence[str], home: Path) -> Iterator[str]:
    """A service with an engine for each checkpoint, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", home / "logs" / f"evals-engines-{port}.log"
    with tempfile.TemporaryDirectory(prefix="alignloop-evals-") as folder:
        # A database of its own: the home's would bring the engines of all aliases along.
        arguments = [
            "service", "serve", "--open", "--port", str(port), "--home", str(home),
            "--database", f"sqlite:///{folder}/service.db", "--with-engines", *ids,
        ]  # fmt: skip
        child = processes.start(arguments, log=log)
        try:
            _wait(child, url, ids, log)
            yield url
        finally:
            processes.stop(child)


def _wait(child: Popen[str], url: str, ids: Sequence[str], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with progress.bar("engines ready", len(ids)) as bar:
        while missing := set(ids) - _served(url, None):
            if child.poll() is not None:
                raise UserError(f"the engines ended before they were ready: see {log}")
            for checkpoint, reason in _given_up(url).items():
                if checkpoint in missing:
                    raise UserError(f"{checkpoint} cannot be served: {reason}")
            if time.monotonic() > deadline:
                raise UserError(f"{', '.join(sorted(missing))} not served after {READY_SECONDS:.0f} s: see {log}")
            bar.advance(len(ids) - len(missing) - bar.completed)
            time.sleep(0.5)


def _given_up(url: str) -> dict[str, str]:
    """Checkpoints whose engines are not tried again, and why; none where nothing answers."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        try:
            with DIRECTLY.open(f"{url}/health/ready", timeout=5):
                return {}
        except urllib.error.HTTPError as not_ready:
            with not_ready:
                state = json.load(not_ready)
            return {str(name): str(state["problems"].get(name, "")) for name in state["given_up"]}
    return {}


def _served(url: str, key: str | None) -> set[str]:
    """Checkpoints that a service serves now; none where nothing answers."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    errors = (OSError, urllib.error.URLError, ValueError, KeyError, TypeError)
    with suppress(*errors), DIRECTLY.open(request, timeout=5) as answer:
        rows = json.loads(answer.read())["data"]
        return {str(row.get("root") or row["id"]) for row in rows}
    return set()
