"""What the gateway costs beside the engine directly: `python -m tests.benchmarks.gateway_vs_vllm --engine NAME`.

`smollm2` (135 million parameters) and `miniature` are real engines on CPU, started as the product starts them, keys and
metrics on. 32 streams of vLLM's own serving benchmark run against the engine directly and through the gateway, in
turn, round after round. Aims: of the engine's tokens per second at least 0.97 with SmolLM2 and 0.93 with the miniature;
the p99 of the time to the first token at most 10 ms or 10 % more.

`fixed` is an engine that takes a fixed time: single requests, directly and through the gateway in turn. Aims: at most
2 ms more at the median and 8 ms at the p99, which is compared with the median of the direct requests. The CPU time of
the gateway per chunk is printed for all.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import select

from service.store.models import Engine
from tests.support.fixed_engine import fixed_engine
from tests.support.fixed_gateway import NAME, gateway_over
from tests.support.live_service import Running, running_service
from tests.support.load import Sequential, Streamed, Target, alternate, show, stream
from tests.support.speed_models import documents, publish

AIMS = {"smollm2": 0.97, "miniature": 0.93}
SIZES = {"smollm2": (64, 32), "miniature": (256, 64)}  # requests of a round, tokens of an answer
# The same for both: what the manifest's sampling defaults would add costs the engine time.
GREEDY = {
    "ignore_eos": True, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
KINDS = ("whole", "first", "last")  # a whole answer, the first and the last token of a stream
FIRST, PACE, WORDS = 0.020, 0.010, 64  # of the fixed engine: seconds, seconds, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["smollm2", "miniature", "fixed"], required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, help="of a round")
    parser.add_argument("--streams", type=int, default=32)
    options = parser.parse_args()
    if options.engine == "fixed":
        measure_fixed(options.rounds, options.requests or 100, options.streams)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure_real(options.engine, Path(folder), options.rounds, options.requests, options.streams)


def gateway_of(running: Running, model: str) -> Target:
    return Target("gateway", running.url, model, running.add_key("generate"), (psutil.Process(running.process.pid),))


def measure_real(name: str, home: Path, rounds: int, requests: int | None, streams: int) -> None:
    requests, tokens = requests or SIZES[name][0], SIZES[name][1]
    checkpoint = publish(name, home)  # type: ignore[arg-type]
    with running_service(home, ("--with-engines", checkpoint.id)) as running:
        running.wait_ready()
        with running.store.session() as session:
            url = session.scalars(select(Engine.url).where(Engine.checkpoint == checkpoint.id)).one()
        direct, gateway = Target("direct", url, checkpoint.id), gateway_of(running, checkpoint.id)
        print("ready", flush=True)
        texts = documents()
        pairs: list[dict[str, Streamed]] = []
        for number in range(rounds + 1):
            prompts = list(islice(texts, requests))
            order = (direct, gateway) if number % 2 else (gateway, direct)
            pair = {t.name: stream(t, prompts, tokens=tokens, at_once=streams, body=GREEDY) for t in order}
            assert all(seen.tokens == tokens * requests for seen in pair.values()), "answers of another length"
            said = ", ".join(f"{side} {seen.rate:.0f} tokens/s" for side, seen in sorted(pair.items()))
            print(f"round {number}{'' if number else ' (warms up, not counted)'}: {said}", flush=True)
            pairs += [pair] if number else []
    report_real(name, pairs)


def report_real(name: str, pairs: list[dict[str, Streamed]]) -> None:
    title = f"gateway_vs_vllm {name}"
    show(f"{title} cpu per chunk", [p["gateway"].cpu / p["gateway"].chunks * 1e6 for p in pairs], " us", 0)
    p99 = {side: float(np.quantile([s for p in pairs for s in p[side].first], 0.99)) * 1e3 for side in pairs[0]}
    more = p99["gateway"] - p99["direct"]
    verdict = "met" if more <= max(10, 0.1 * p99["direct"]) else "missed"
    print(f"{title} first token p99: direct {p99['direct']:.0f} ms, gateway {p99['gateway']:.0f} ms (aim {verdict})")
    ratios = [p["gateway"].rate / p["direct"].rate for p in pairs]
    verdict = "met" if np.median(ratios) >= AIMS[name] else "missed"
    print(f"aim {AIMS[name]}: {verdict}")
    show(f"{title} ratio", ratios, digits=3)


def measure_fixed(rounds: int, requests: int, streams: int) -> None:
    seen: list[dict[str, Sequential]] = []
    with fixed_engine(FIRST) as url, gateway_over(url) as running:
        targets = [Target("direct", url, NAME), gateway_of(running, NAME)]
        for number in range(rounds + 1):
            one = asyncio.run(alternate(targets, requests, WORDS))
            said = ", ".join(f"{kind} +{overhead([one], kind, 0.5):.2f} ms" for kind in KINDS)
            print(f"round {number}{'' if number else ' (warms up, not counted)'}: {said}", flush=True)
            seen += [one] if number else []
    with fixed_engine(FIRST, PACE) as url, gateway_over(url) as running:
        gateway = gateway_of(running, NAME)
        loads = [stream(gateway, ["Hello"] * 4 * streams, tokens=WORDS, at_once=streams) for _ in range(rounds)]
    show("gateway_vs_vllm fixed cpu per chunk", [load.cpu / load.chunks * 1e6 for load in loads], " us", 0)
    for quantile, aim in ((0.5, 2.0), (0.99, 8.0)):
        for kind in KINDS:
            value = overhead(seen, kind, quantile)
            each = [overhead([one], kind, quantile) for one in seen]
            verdict = "met" if value <= aim else "missed"
            print(
                f"gateway_vs_vllm fixed overhead p{quantile * 100:.0f} {kind} {value:.2f} ms "
                f"({min(each):.2f} to {max(each):.2f}) (aim {aim:.0f} ms: {verdict})"
            )


def overhead(rounds: list[dict[str, Sequential]], kind: str, quantile: float) -> float:
    """Milliseconds by which a quantile of the gateway's requests lies above the median of the direct ones."""
    through, direct = ([s for one in rounds for s in getattr(one[side], kind)] for side in ("gateway", "direct"))
    return float(np.quantile(through, quantile) - np.median(direct)) * 1e3


if __name__ == "__main__":
    main()
