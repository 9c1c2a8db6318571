"""One vLLM server process: start, wait until it answers, drain, stop."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from service.engines import parsers
from service.engines.planning import BLOCK_TOKENS, EnginePlan
from service.settings import Settings
from service.tokenizers import load_tokenizer
from training.artifacts.checkpoints import Checkpoint, load
from training.artifacts.errors import UserError

GUARD = Path(__file__).parent / "guard.py"
CPU_SERVER = Path(__file__).parent / "server.py"
POLL_SECONDS = 0.2
BATCHED_TOKENS = 4096  # prompt tokens that a CPU engine takes in a step
FINISH_SECONDS = 10  # what SIGTERM leaves to running requests
STOP_SECONDS = FINISH_SECONDS + 5.0
WATCH_SECONDS = 5.0
MISSES = 3  # unanswered checks after which a server elsewhere counts as down
# How a log names the cause of a failure, and what only repeats that there was one.
# pydantic says on the line below what is wrong.
CAUSE = re.compile(r"^(?!.*(?:WARNING|INFO)).*?\b(\w*(?:Error|Exception): .+(?:\n.*\bValue error, .+)?)$", re.M)
PREFIX = re.compile(r"\(\w+ pid=\d+\)")  # of vLLM's processes
REPEATS = ("EngineDeadError", "Engine core initialization failed")


@cache
def tls() -> ssl.SSLContext:
    """Made once: loading the certificates costs more than a request, and engines that start are polled for long."""
    return httpx.create_ssl_context(trust_env=False)


@dataclass
class Engine:
    """A vLLM server that this process owns, or one elsewhere that it only knows by URL.

    Attributes:
        checkpoint: what it serves; its id is the served model name.
        url: base URL, without a trailing slash.
        log: the server's log, None for a server not owned.
    """

    checkpoint: Checkpoint
    url: str
    log: Path | None = None
    _process: subprocess.Popen[bytes] | None = None
    _pipe: int | None = None
    _checked: float = 0.0
    _missed: int = 0

    @property
    def owned(self) -> bool:
        return self._process is not None

    def alive(self) -> bool:
        """Whether the process runs; for a server elsewhere, whether one of its last three checks was answered."""
        if self._process is not None:
            return not _ended(self._process)
        if time.monotonic() - self._checked > WATCH_SECONDS:
            self._missed = 0 if self._healthy() else self._missed + 1
            self._checked = time.monotonic()
        return self._missed < MISSES

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False, verify=tls()).status_code == 200
        except httpx.HTTPError:
            return False

    def ready(self) -> bool:
        """Whether the engine answers one real token or score now."""
        body, path = _probe(self.checkpoint)
        try:
            # The environment's proxies are for the outside world, hence trust_env.
            return (
                httpx.post(f"{self.url}{path}", json=body, timeout=10, trust_env=False, verify=tls()).status_code == 200
            )
        except httpx.HTTPError:
            return False

    def wait(self, seconds: float, stopping: Callable[[], bool] = lambda: False) -> None:
        """Block until `ready`.

        Raises:
            UserError: the server ended or was too slow; the message gives the last useful line of its log.
        """
        deadline = time.monotonic() + seconds
        while not self.ready():
            if not self.alive():
                raise UserError(f"the engine of {self.checkpoint.id} did not start: {self.failure()} (log: {self.log})")
            if stopping():
                raise UserError(f"the start of {self.checkpoint.id} was called off")
            if time.monotonic() > deadline:
                raise UserError(
                    f"the engine of {self.checkpoint.id} was not ready after {seconds:.0f} s, see {self.log}"
                )
            time.sleep(POLL_SECONDS)

    def failure(self) -> str:
        """The most telling line of the log."""
        if self.log is None:
            return f"{self.url} does not answer"
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        causes = [cause for cause in CAUSE.findall(text) if not any(word in cause for word in REPEATS)]
        if causes:
            return " ".join(PREFIX.sub("", causes[-1]).split())[:300]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it wrote nothing"

    def drain(self, running: Callable[[], int], seconds: float) -> bool:
        """Wait until `running()` is 0. Returns whether it became so in time."""
        deadline = time.monotonic() + seconds
        while running() > 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def running(self) -> int:
        """Requests that the engine works on or has queued, by its own metrics; 0 when it does not answer."""
        try:
            text = httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False, verify=tls()).text
        except httpx.HTTPError:
            return 0
        return int(
            sum(float(n) for n in re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", text, re.M))
        )

    def stop(self) -> None:
        """End the process and its children: SIGTERM, then SIGKILL. A server not owned is left alone."""
        if self._process is None or self._process.returncode is not None:
            return
        _signal_group(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while not _ended(self._process) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 4)
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def start(folder: Path, kind: str, settings: Settings, plan: EnginePlan) -> Engine:
    """Start a vLLM server for a checkpoint's folder on a free loopback port. Returns at once: call `wait`.

    Args:
        folder: a published checkpoint.
        kind: `policy` (writes text) or `reward` (raw scores); must be the manifest's.
        plan: its context, cache and threads.

    Raises:
        UserError: the folder has no manifest or is of the other kind.
    """
    checkpoint = load(folder)
    if checkpoint.manifest.kind != kind:
        raise UserError(f"{checkpoint.id} is a {checkpoint.manifest.kind} model, not a {kind} model")
    port = _free_port()
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"engine-{checkpoint.id}-{secrets.token_hex(2)}.log"
    read, write = os.pipe()
    command = [sys.executable, "-I", str(GUARD), str(read), *command_line(checkpoint, port, settings, plan)]
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(plan)},
                pass_fds=(read,),
                # A group of its own: Ctrl-C reaches the supervisor alone, which then ends its engines in order.
                start_new_session=True,
            )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return Engine(checkpoint, f"http://127.0.0.1:{port}", log, process, write)


def command_line(checkpoint: Checkpoint, port: int, settings: Settings, plan: EnginePlan) -> list[str]:
    """The vLLM server's command. Never the `vllm` command: the CPU distribution does not have it."""
    manifest = checkpoint.manifest
    server = ["-P", str(CPU_SERVER)] if on_cpu() else ["-m", "vllm.entrypoints.openai.api_server"]
    command = [
        sys.executable, "-W", "ignore", *server,
        "--model", str(checkpoint.path.resolve()),
        "--served-model-name", checkpoint.id,
        "--host", "127.0.0.1",
        "--port", str(port),
        "--max-model-len", str(plan.context),
        "--max-num-seqs", str(settings.max_num_seqs),
        # Not the folder's sampling defaults: the manifest's are applied by the gateway, for every engine alike.
        "--generation-config", "vllm",
        "--disable-uvicorn-access-log",
        "--shutdown-timeout", str(FINISH_SECONDS),
    ]  # fmt: skip
    if on_cpu():
        # Compiling takes longer than it saves at the sizes that a CPU serves.
        command += ["--enforce-eager"]
        if plan.cache_bytes is not None:
            command += ["--kv-cache-memory-bytes", str(plan.cache_bytes)]
        command += ["--block-size", str(BLOCK_TOKENS)]
        if manifest.kind == "policy":
            # A prompt that is taken in over two steps with a seed of its own ends the engine: vLLM then turns the
            # random generator back, which torch's CPU generator cannot. So prompts are taken in whole.
            command += [
                "--no-enable-chunked-prefill",
                "--max-num-batched-tokens",
                str(max(plan.context, BATCHED_TOKENS)),
            ]
    if manifest.kind == "policy":
        # Log-probabilities of prompts beside the prefix cache, and how much of a prompt came from it: `likelihoods`.
        command += ["--enable-scale-out", "--enable-prompt-tokens-details"]
        template = parsers.template_of(load_tokenizer(checkpoint.path))
        command += parsers.arguments(parsers.parsers_for(template), settings.engine_options)
    command += ["--dtype", dtype(settings)]
    if manifest.kind == "reward":
        command += ["--runner", "pooling", "--pooler-config", json.dumps({"use_activation": False})]
    return [*command, *settings.engine_options]


def dtype(settings: Settings) -> str:
    """What engines compute in: `auto` (the checkpoint's own) becomes float32 on CPU."""
    return "float32" if settings.dtype == "auto" and on_cpu() else settings.dtype


def coarser_dtype(checkpoint: Checkpoint, settings: Settings) -> str:
    """The less precise of what the engine computes in and what the checkpoint's probe was computed in."""
    computed = dtype(settings)
    probed = str(checkpoint.manifest.probe.get("dtype", "float32"))
    return computed if probed == "float32" else probed


def environment(plan: EnginePlan) -> Mapping[str, str]:
    """Variables of a vLLM server beside this process's own."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if on_cpu():
        variables |= {
            # Engines share the cores: none may bind to some of them.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(plan.threads or 1),
            # The model runs inside the engine core instead of in a third process: a start takes two thirds of the
            # time and 0.8 GiB less. vLLM wants the third process to bind cores, which is off.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return variables


def on_cpu() -> bool:
    """Whether the CPU distribution of vLLM is installed."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _probe(checkpoint: Checkpoint) -> tuple[dict[str, object], str]:
    ids = (checkpoint.manifest.probe.get("ids") or [[0]])[0][:1]
    if checkpoint.manifest.kind == "reward":
        return {"model": checkpoint.id, "input": ids}, "/classify"
    return {"model": checkpoint.id, "prompt": ids, "max_tokens": 1, "temperature": 0}, "/v1/completions"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, without collecting it: its number, also its group's, must not be used again yet."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
