"""A local server of S3, checkpoints to copy there, and pushes and pulls that are killed.

`python -m tests.support.object_stores STEP push|pull URL ...` runs the command and ends it by SIGKILL before its
STEP-th request.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.artifacts.checkpoints import MANIFEST, Manifest
from training.artifacts.errors import run_command
from training.artifacts.files import write_atomically

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignloop-tests"
PACKAGES = ("s3fs==2026.9.0", "moto[server]==5.2.5")
NO_TOKENIZER = hashlib.sha256().hexdigest()
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def interpreter() -> Path | str:
    """A Python with s3fs and a server of S3 beside the packages of this one, made once in the user's cache; where that
    cannot be made, why."""
    folder = CACHE / "-".join(PACKAGES).replace("[", "-").replace("]", "")
    python, is_complete = folder / "bin/python", (folder / "complete").is_file()
    if not is_complete:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    own = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    # Each time: the checkout that made the environment may be gone.
    write_atomically(own / "beside.pth", sysconfig.get_path("purelib") + "\n")
    if not is_complete:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if done.returncode != 0:
            return f"{PACKAGES[0]} cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        (folder / "complete").touch()
    return python


@contextmanager
def s3_server(python: Path, port: int | None = None) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """A server that forgets everything at its end: the variables that lead to it, and its process."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server of S3 did not start")
            time.sleep(0.1)
        yield CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}, server
    finally:
        server.kill()
        server.wait()


def publish(home: Path, id: str, *parents: str, weights: bytes = b"weights", **fields: Any) -> Path:
    """A checkpoint in a home, of which nothing can be served; its folder."""
    folder = home / "checkpoints" / id
    (folder / "more").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    (folder / "more/notes 1.txt").write_text("ä")
    (folder / "empty.txt").touch()
    manifest = Manifest(
        id=id, stage=id.split("-")[0], kind="policy", parents=parents, created="2026-01-31T10:15:00+00:00",
        tokenizer_hash=NO_TOKENIZER, template_hash=None, stop_ids=(), context=64,
        weights={"model.safetensors": hashlib.sha256(weights).hexdigest()},
    )  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest) | fields))
    return folder


def files_of(folder: Path) -> Mapping[str, bytes]:
    """Every file of a folder by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> int:
    """The command."""
    step, command, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    core: Any = importlib.import_module("s3fs.core")  # by name: it is in an environment of its own
    request, requests = core.S3FileSystem._call_s3, 0

    async def counted(*words: Any, **options: Any) -> Any:
        nonlocal requests
        requests += 1
        if requests == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return await request(*words, **options)

    core.S3FileSystem._call_s3 = counted
    module = importlib.import_module(f"training.registry.{command}")
    status = run_command(lambda: module.main(arguments))
    print(f"requests {requests}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
