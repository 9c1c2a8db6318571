"""One vLLM server process: start, wait until it answers, drain, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.engines import activity, client, environment, failures, logs, options, parsers
from service.engines.activity import Activity
from service.engines.failures import Transient
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
ELSEWHERE_SECONDS = 15.0  # given to a server elsewhere to answer: nobody here starts it


@dataclass
class Engine:
    """A vLLM server that this process owns, or one elsewhere that it only knows by URL.

    Attributes:
        checkpoint: what it serves; its id is the served model name.
        url: base URL, without a trailing slash.
        log: the server's log, None for a server not owned.
        key: what a server elsewhere wants to be sent.
    """

    checkpoint: Checkpoint
    url: str
    log: Path | None = None
    key: str | None = field(default=None, repr=False)
    _process: subprocess.Popen[bytes] | None = None
    _pipe: int | None = None

    @property
    def owned(self) -> bool:
        return self._process is not None

    def alive(self) -> bool:
        """Whether the process runs; True for a server elsewhere."""
        return self._process is None or not _ended(self._process)

    def _get(self, path: str, timeout: float) -> httpx.Response:
        # The environment's proxies are for the outside world, hence trust_env.
        headers = client.headers(self.key)
        return httpx.get(self.url + path, headers=headers, timeout=timeout, trust_env=False, verify=client.tls())

    def ready(self, seconds: float = 10) -> bool:
        """Whether the engine answers one real token or score within some seconds."""
        body, path = _probe(self.checkpoint)
        headers = client.headers(self.key)
        try:
            answer = httpx.post(
                self.url + path, json=body, headers=headers, timeout=seconds, trust_env=False, verify=client.tls()
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def wait(self, seconds: float, stopping: Callable[[], bool] = lambda: False) -> None:
        """Block until `ready`.

        Raises:
            Permanent: the server ended, and would again; the message gives the last useful line of its log.
            Transient: a server elsewhere does not answer, or the start was called off.
            UserError: the server ended or was too slow.
        """
        deadline = time.monotonic() + (seconds if self.owned else min(seconds, ELSEWHERE_SECONDS))
        while not self.ready():
            if not self.alive():
                raise failures.of_start(
                    f"the engine of {self.checkpoint.id} did not start: {self.failure()} (log: {self.log})"
                )
            if stopping():
                raise Transient(f"the start of {self.checkpoint.id} was called off")
            if time.monotonic() > deadline and not self.owned:
                raise Transient(self.failure())
            if time.monotonic() > deadline:
                raise UserError(
                    f"the engine of {self.checkpoint.id} was not ready after {seconds:.0f} s, see {self.log}"
                )
            time.sleep(POLL_SECONDS)

    def failure(self) -> str:
        """The most telling line of the log."""
        if self.log is None:
            return f"{self.url} does not answer for {self.checkpoint.id}"
        return logs.cause(self.log)

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
        return int(self._metric(r"num_requests_(?:running|waiting)", timeout=5) or 0)

    def tokens(self) -> float | None:
        """Tokens that the engine has taken in and given, by its own metrics; None when it does not answer."""
        return self._metric(r"(?:prompt|generation)_tokens_total", timeout=1)

    def _metric(self, name: str, timeout: float) -> float | None:
        try:
            text = self._get("/metrics", timeout).text
        except httpx.HTTPError:
            return None
        return sum(float(n) for n in re.findall(rf"^vllm:{name}(?:\{{.*\}})? (\S+)$", text, re.M))

    def activity(self) -> Activity | None:
        """What its processes do; None for a server elsewhere."""
        return None if self._process is None else activity.read(self._process.pid)

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

    def kill(self) -> None:
        """End a process that hangs, at once: requests that wait for it fail now. `stop` then collects it."""
        if self._process is not None and self._process.returncode is None:
            _signal_group(self._process.pid, signal.SIGKILL)


def start(folder: Path, kind: str, settings: Settings, plan: EnginePlan) -> Engine:
    """Start a vLLM server for a checkpoint's folder on a free port of `engine_address`. Returns at once: call `wait`.

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
    port = _free_port(settings.engine_address)
    log = logs.new(settings.logs, checkpoint.id)
    read, write = os.pipe()
    command = [sys.executable, "-I", str(GUARD), str(read), *command_line(checkpoint, port, settings, plan)]
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environment.clean(os.environ), **environment.own(plan)},
                pass_fds=(read,),
                # A group of its own: Ctrl-C reaches the supervisor alone, which then ends its engines in order.
                start_new_session=True,
            )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return Engine(checkpoint, f"http://{settings.engine_address}:{port}", log, None, process, write)


def command_line(checkpoint: Checkpoint, port: int, settings: Settings, plan: EnginePlan) -> list[str]:
    """The vLLM server's command. Never the `vllm` command: the CPU distribution does not have it."""
    manifest = checkpoint.manifest
    server = ["-P", str(CPU_SERVER)] if environment.on_cpu() else ["-m", "vllm.entrypoints.openai.api_server"]
    command = [
        sys.executable, "-W", "ignore", *server,
        "--model", str(checkpoint.path.resolve()),
        "--served-model-name", checkpoint.id,
        "--host", settings.engine_address,
        "--port", str(port),
        "--max-model-len", str(plan.context),
        "--max-num-seqs", str(settings.max_num_seqs),
        # Not the folder's sampling defaults: the manifest's are applied by the gateway, for every engine alike.
        "--generation-config", "vllm",
        "--disable-uvicorn-access-log",
        "--shutdown-timeout", str(FINISH_SECONDS),
    ]  # fmt: skip
    own_options = [*settings.engine_options, *options.arguments(plan.options)]
    if environment.on_cpu():
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
        command += parsers.arguments(parsers.parsers_for(template), own_options)
    command += ["--dtype", dtype(settings)]
    if manifest.kind == "reward":
        command += ["--runner", "pooling", "--pooler-config", json.dumps({"use_activation": False})]
    # The checkpoint's own options last: vLLM takes the last of two.
    return [*command, *own_options]


def dtype(settings: Settings) -> str:
    """What engines compute in: `auto` (the checkpoint's own) becomes float32 on CPU."""
    return "float32" if settings.dtype == "auto" and environment.on_cpu() else settings.dtype


def coarser_dtype(checkpoint: Checkpoint, settings: Settings) -> str:
    """The less precise of what the engine computes in and what the checkpoint's probe was computed in."""
    computed = dtype(settings)
    probed = str(checkpoint.manifest.probe.get("dtype", "float32"))
    return computed if probed == "float32" else probed


def _probe(checkpoint: Checkpoint) -> tuple[dict[str, object], str]:
    ids = (checkpoint.manifest.probe.get("ids") or [[0]])[0][:1]
    if checkpoint.manifest.kind == "reward":
        return {"model": checkpoint.id, "input": ids}, "/classify"
    return {"model": checkpoint.id, "prompt": ids, "max_tokens": 1, "temperature": 0}, "/v1/completions"


def _free_port(address: str) -> int:
    """Raises `UserError` for an address that is not this machine's."""
    try:
        with socket.socket() as listener:
            listener.bind((address, 0))
            port: int = listener.getsockname()[1]
            return port
    except OSError as error:
        raise UserError(
            f"engines cannot listen on {address} ({error.strerror or error}): set ALIGNLOOP_ENGINE_ADDRESS to this "
            "machine's name or IPv4 address, as gateways reach it"
        ) from None


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
