"""How long a labeler waits for the next task: `python -m tests.benchmarks.next_task`.

SmolLM2-135M-Instruct on CPU, engine and gateway started as the product starts them. Labelers rank K = 4 responses, each
after a time of reading, while the responses of their next tasks are sampled ahead. The first task of each labeler, for
which nothing can be ready, is shown apart. Aim: p95 of all later ones at most 1 s. Needs ALIGNLOOP_SMOLLM2, or the file
that the tests keep in the user's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from tests.support.speed_models import SMOLLM2 as MODEL

QUESTION = "Name a dish of region {} in one sentence."
AIM = 1.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labelers", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=20, help="of each labeler")
    parser.add_argument("--reading", type=float, default=40.0, help="seconds from a task to its ranking")
    parser.add_argument("--ahead", type=int, default=2, help="tasks sampled ahead; 0 shows what waiting costs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not MODEL.exists():
        raise SystemExit(f"{MODEL} is not there: see the variable above")
    from tests.support.live_service import running_service
    from training.stages.adopt import Config, adopt

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = adopt(Config(str(MODEL), home=Path(folder)))
        environment = {
            "ALIGNLOOP_ENGINE_THREADS": str(options.threads),
            "ALIGNLOOP_COLLECT_AHEAD": str(options.ahead),
            "ALIGNLOOP_COLLECT_OVERLAP": "0",
        }
        aliases = {"policy/production": checkpoint.id}
        with running_service(Path(folder), ("--with-engines",), aliases, environment) as running:
            running.wait_ready()
            with running.client() as admin:
                rows = [{"prompt": QUESTION.format(i)} for i in range(options.labelers * options.tasks * 2)]
                admin.post("/admin/prompts", json={"prompts": rows}).raise_for_status()
                added = [admin.post("/admin/labelers", json={"name": f"l{i}"}) for i in range(options.labelers)]
            tokens = [answer.json()["token"] for answer in added]
            waits = asyncio.run(all_labelers(running.url, tokens, options.tasks, options.reading))
    report(waits)


async def all_labelers(url: str, tokens: list[str], tasks: int, reading: float) -> list[list[float]]:
    """Seconds that each labeler waited for each task."""
    return await asyncio.gather(*(labeler(url, token, tasks, reading) for token in tokens))


async def labeler(url: str, token: str, tasks: int, reading: float) -> list[float]:
    waits = []
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        signed = await client.post("/api/session", json={"token": token})
        client.headers["X-CSRF-Token"] = signed.json()["csrf"]
        for _ in range(tasks):
            began = time.perf_counter()
            answer = await client.post("/api/tasks/next", json={"kind": "rank", "k": 4})
            waits.append(time.perf_counter() - began)
            task = answer.raise_for_status().json()["task"]
            await asyncio.sleep(reading)
            ranks = list(range(1, task["k"] + 1))
            body = {"token": task["token"], "ranks": ranks, "seconds": reading}
            (await client.post(f"/api/tasks/{task['id']}/answer", json=body)).raise_for_status()
    return waits


def report(waits: list[list[float]]) -> None:
    first = np.array([one[0] for one in waits])
    later = np.array([wait for one in waits for wait in one[1:]])
    print(f"first task of each labeler: median {np.median(first):.2f} s")
    if later.size:
        middle, high = np.quantile(later, [0.5, 0.95])
        verdict = "met" if high <= AIM else "missed"
        print(f"next_task p50 {middle:.3f} s, p95 {high:.3f} s, of {later.size} (aim {AIM:.0f} s: {verdict})")


if __name__ == "__main__":
    main()
