"""vLLM's engine for rollouts: a process that gets the policy's weights before each batch of prompts.

It ends with its trainer, also by SIGKILL (`training.artifacts.processes`). Weights pass through files in memory; NCCL
and IPC between GPUs are not used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from training.artifacts import processes
from training.artifacts.errors import UserError
from training.models import exporting
from training.rl import engine_settings
from training.rl.engine_settings import EnginePlan
from training.rl.rollouts import Rollouts, Sampling
from training.runtime import runs
from training.runtime.ram import Ram

CLOSE_SECONDS = 10.0
CAUSE = re.compile(r"^.*?\b(\w*(?:Error|Exception): .+)$", re.M)


class EngineFailure(UserError):
    """An engine did not start, ended, or could not do what it was told."""


class Engine:
    """An engine with random weights, until the first `sync`. Used as `with Engine(...) as engine:`.

    Args:
        model: a policy, for its architecture.
        threads: of the engine on a CPU.
        log: file for what vLLM prints.
        spare: folder for weights where memory has no room for files.

    Attributes:
        start_seconds: from the start to the first request.
        sync_seconds: of the newest sync.

    Raises:
        EngineFailure: it does not start.
    """

    def __init__(self, model: Any, plan: EnginePlan, threads: int, log: Path, spare: Path) -> None:
        self._plan, self._log = plan, log
        self._asleep = self._busy = False
        self._syncs = 0
        self._ram = Ram("rollouts", plan.weight_bytes, spare)
        self.sync_seconds = 0.0
        started = time.monotonic()
        try:
            exporting.write_config(model, self._ram.folder, plan.dtype)
            self.command_line = engine_settings.command_line(plan, self._ram.folder, threads)
            self._process = processes.start(
                engine_settings.command(plan, self._ram.folder),
                log=log,
                environment=engine_settings.environment(plan, threads),
                capture=True,
                feed=True,
            )
        except BaseException:
            self._ram.close()
            raise
        try:
            self._answer("did not start")
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.monotonic() - started

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sync(self, model: Any) -> None:
        """Give the engine the model's weights as they are, adapters included. One that sleeps wakes up."""
        started = time.monotonic()
        self._syncs += 1
        folder = self._ram.folder / str(self._syncs)  # a path of its own: nothing is mistaken for what was there before
        folder.mkdir()
        try:
            exporting.write_weights(model, folder, self._plan.dtype)
            self._ask("sync", folder=str(folder), asleep=self._asleep)
            self._asleep = False
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.sync_seconds = time.monotonic() - started

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Rollouts:
        """One response to each prompt, all with random numbers of their own from (seed, place)."""
        answer = self._ask(
            "generate",
            prompts=[list(map(int, prompt)) for prompt in prompts],
            seeds=[runs.derive_seed(sampling.seed, place) for place in range(len(prompts))],
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            stop_ids=list(sampling.stop_ids),
        )
        stops = set(sampling.stop_ids)
        finished = [ids[-1] in stops for ids in answer["ids"]]
        return Rollouts(answer["ids"], answer["logprobs"], finished, by_engine=True)

    def rest(self) -> None:
        """Give the memory of a shared GPU back until the next sync; elsewhere nothing."""
        if self._plan.sleeps and not self._asleep:
            self._ask("sleep")
            self._asleep = True

    def close(self) -> None:
        """End the process and everything that it started: in order where it waits for a request, else at once."""
        process = self._process
        if process.stdin is not None and not self._busy:
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._ram.close()

    def _ask(self, what: str, **values: Any) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **values}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, which the answer says
        return self._answer(f"failed to {what}")

    def _answer(self, failure: str) -> Mapping[str, Any]:
        """The next line from the engine.

        Raises:
            EngineFailure: it is an error, or there is none, for the process has ended.
        """
        assert self._process.stdout is not None
        self._busy = True
        line = self._process.stdout.readline()
        self._busy = False
        if not line.endswith("\n"):
            status, words = self._process.wait(), last_words(self._log)
            raise EngineFailure(
                f"vLLM's engine of the rollouts ended with status {status} ({words}; log: {self._log}): "
                "run the same command, which resumes, or use --rollouts transformers"
            )
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailure(
                f"vLLM's engine of the rollouts {failure} ({_short(answer['error'])}; log: {self._log}): "
                "use --rollouts transformers"
            )
        return answer


def last_words(log: Path) -> str:
    """The last line of a log that names an error, or else its last line."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "no log"
    causes = CAUSE.findall(text) or [line for line in text.splitlines() if line.strip()]
    return _short(causes[-1]) if causes else "it wrote nothing"


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
