"""The gateway against LiteLLM's proxy: `python -m tests.benchmarks.gateway_vs_litellm`.

Both stand in turn before the same engine that takes a fixed time, each as one process: our gateway as `service serve`
runs it, keys and metrics on, its keys in SQLite; LiteLLM with the settings that its documents give for production
(LITELLM_MODE, LITELLM_LOG, JSON logs, no verbose output), one worker, its master key and no database. Aims: at least
5 times its requests per second, at most a third of its overhead at the median of single requests, at most a quarter of
its CPU time per chunk of a stream.

ALIGNLOOP_LITELLM names its command. It needs an environment of its own:
`python -m venv DIR && DIR/bin/pip install 'litellm[proxy]'`, then ALIGNLOOP_LITELLM=DIR/bin/litellm.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil

from tests.support.fixed_engine import fixed_engine
from tests.support.fixed_gateway import NAME, gateway_over
from tests.support.live_service import free_port
from tests.support.load import Streamed, Target, alternate, saturate, show, stream

FIRST, PACE, WORDS = 0.020, 0.010, 64  # of the engine: seconds, seconds, tokens
KEY = "sk-benchmark-of-one-machine"
CONFIG = """
model_list:
  - model_name: {name}
    litellm_params: {{model: openai/{name}, api_base: {url}/v1, api_key: none}}
litellm_settings: {{request_timeout: 600, set_verbose: false, json_logs: true}}
general_settings: {{master_key: {key}, disable_spend_logs: true, disable_error_logs: true}}
"""
START_SECONDS = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of whole answers per round and side")
    parser.add_argument("--at-once", type=int, default=32, help="clients")
    options = parser.parse_args()
    command = os.environ.get("ALIGNLOOP_LITELLM")
    if not command or not Path(command).exists():
        raise SystemExit("ALIGNLOOP_LITELLM does not name LiteLLM's command: see the docstring")
    print(subprocess.run([command, "--version"], capture_output=True, text=True).stdout.strip(), flush=True)
    with fixed_engine(FIRST) as url, gateway_over(url) as running, litellm(command, url) as peer:
        ours = Target("ours", running.url, NAME, running.add_key("generate"), processes(running.process.pid))
        direct = Target("direct", url, NAME)
        single = measure_single([direct, ours, peer], options.rounds)
        rates = measure_rates([ours, peer], options)
    with fixed_engine(FIRST, PACE) as url, gateway_over(url) as running, litellm(command, url) as peer:
        ours = Target("ours", running.url, NAME, running.add_key("generate"), processes(running.process.pid))
        chunks = measure_chunks([ours, peer], options)
    report(single, rates, chunks)


@contextmanager
def litellm(command: str, engine: str) -> Iterator[Target]:
    """LiteLLM's proxy in front of an engine, ready."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "config.yaml", Path(folder) / "log"
        config.write_text(CONFIG.format(name=NAME, url=engine, key=KEY))
        arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environment = {
            **os.environ, "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its list of prices is not fetched
        }  # fmt: skip
        with log.open("wb") as stream_:
            process = subprocess.Popen(
                [command, *arguments], env=environment, stdout=stream_, stderr=subprocess.STDOUT, cwd=folder
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(f"http://127.0.0.1:{port}/health/liveliness"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"LiteLLM did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield Target("litellm", f"http://127.0.0.1:{port}", NAME, KEY, processes(process.pid))
        finally:
            family = processes(process.pid)
            process.terminate()
            _, left = psutil.wait_procs(family, 15)
            for one in left:
                one.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def processes(pid: int) -> tuple[psutil.Process, ...]:
    """A process and all that it started."""
    root = psutil.Process(pid)
    return (root, *root.children(recursive=True))


def measure_single(targets: list[Target], rounds: int) -> list[dict[str, float]]:
    """Median overhead in milliseconds of whole answers, of each round."""
    medians = []
    for number in range(rounds + 1):
        seen = asyncio.run(alternate(targets, 40, 8))
        middle = {name: float(np.median(one.whole)) * 1e3 for name, one in seen.items()}
        one = {name: value - middle["direct"] for name, value in middle.items() if name != "direct"}
        print(f"single requests, round {number}: {_said(one, ' ms')}", flush=True)
        medians += [one] if number else []
    return medians


def measure_rates(targets: list[Target], options: argparse.Namespace) -> list[dict[str, float]]:
    """Whole answers per second of each round."""
    rates = []
    for number in range(options.rounds):
        order = targets if number % 2 else targets[::-1]
        one = {t.name: asyncio.run(saturate(t, options.seconds, options.at_once, 8)) for t in order}
        print(f"{options.at_once} clients, round {number + 1}: {_said(one, ' requests/s')}", flush=True)
        rates.append(one)
    return rates


def measure_chunks(targets: list[Target], options: argparse.Namespace) -> list[dict[str, float]]:
    """CPU microseconds per chunk of each round."""
    costs = []
    for number in range(options.rounds):
        order = targets if number % 2 else targets[::-1]
        prompts = ["Hello"] * 2 * options.at_once
        seen: dict[str, Streamed] = {t.name: stream(t, prompts, tokens=WORDS, at_once=options.at_once) for t in order}
        one = {name: load.cpu / load.chunks * 1e6 for name, load in seen.items()}
        print(f"{options.at_once} streams, round {number + 1}: {_said(one, ' us of CPU per chunk')}", flush=True)
        costs.append(one)
    return costs


def _said(values: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value:.2f}{unit}" for name, value in sorted(values.items()))


def report(single: list[dict[str, float]], rates: list[dict[str, float]], chunks: list[dict[str, float]]) -> None:
    show("gateway_vs_litellm overhead p50, ours over theirs (aim 0.33)", [o["ours"] / o["litellm"] for o in single])
    show("gateway_vs_litellm cpu per chunk, ours over theirs (aim 0.25)", [o["ours"] / o["litellm"] for o in chunks])
    show("gateway_vs_litellm requests/s ratio (aim 5)", [o["ours"] / o["litellm"] for o in rates])


if __name__ == "__main__":
    main()
