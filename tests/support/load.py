"""Load on a server of OpenAI's protocol by vLLM's own serving benchmark, and what processes take meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp
import psutil

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Target:
    """A server that is measured.

    Attributes:
        name: for what is printed.
        url: its base URL.
        model: what requests name.
        key: what requests send.
        processes: those whose CPU time is counted.
    """

    name: str
    url: str
    model: str
    key: str | None = None
    processes: tuple[psutil.Process, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def cpu(self) -> float:
        """CPU seconds that its processes have taken."""
        times = [process.cpu_times() for process in self.processes]
        return float(sum(t.user + t.system for t in times))


@dataclass(frozen=True)
class Streamed:
    """A number of streamed answers.

    Attributes:
        seconds: from the first request to the end of the last answer.
        cpu: CPU seconds of the target's processes.
        tokens: of all answers, as the server counts them.
        chunks: events with text.
        first: seconds to the first token of each answer.
    """

    seconds: float
    cpu: float
    tokens: int
    chunks: int
    first: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def stream(
    target: Target, prompts: Sequence[str], *, tokens: int, at_once: int, body: Mapping[str, Any] | None = None
) -> Streamed:
    """Chats with these prompts, streamed by vLLM's benchmark, each answer of `tokens` tokens.

    Args:
        at_once: requests that are open together.
        body: further fields of the requests.
    """
    # Imported here: it takes seconds.
    from vllm.benchmarks.serve import SampleRequest, TaskType, benchmark

    rows = [
        SampleRequest(prompt, len(prompt.split()), tokens, chat_messages=[{"role": "user", "content": prompt}])
        for prompt in prompts
    ]
    before = target.cpu()
    with contextlib.redirect_stdout(io.StringIO()):
        result = asyncio.run(
            benchmark(
                task_type=TaskType.GENERATION, endpoint_type="openai-chat", api_url=target.url + CHAT,
                base_url=target.url, model_id=target.model, model_name=target.model, tokenizer=None,
                input_requests=rows, logprobs=None, request_rate=float("inf"), burstiness=1.0, disable_tqdm=True,
                num_warmups=0, profile=False, selected_percentile_metrics=[], selected_percentiles=[99.0],
                ignore_eos=False, goodput_config_dict={}, max_concurrency=at_once, lora_modules=None,
                extra_headers=target.headers, extra_body=dict(body or {}), ready_check_timeout_sec=0,
            )
        )  # fmt: skip
    failures = [error for error in result["errors"] if error]
    assert result["completed"] == len(rows), f"{target.name}: {failures[:1]}"
    return Streamed(
        seconds=result["duration"],
        cpu=target.cpu() - before,
        tokens=result["total_output_tokens"],
        chunks=sum(1 + len(gaps) for gaps in result["itls"]),
        first=tuple(result["ttfts"]),
    )


async def one_whole(http: aiohttp.ClientSession, target: Target, tokens: int) -> float:
    """Seconds of one whole answer."""
    body = {"model": target.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens}
    began = time.perf_counter()
    async with http.post(target.url + CHAT, json=body, headers=target.headers) as reply:
        answer = await reply.json()
    seconds = time.perf_counter() - began
    assert reply.status == 200, f"{target.name}: {answer}"
    return seconds


async def one_stream(http: aiohttp.ClientSession, target: Target, tokens: int) -> tuple[float, float]:
    """Seconds to the first and to the last word of one stream, by the client of vLLM's benchmark."""
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncInput, async_request_openai_chat_completions

    request = RequestFuncInput(
        "Hello", target.url + CHAT, 1, tokens, target.model, extra_headers=target.headers,
        chat_messages=[{"role": "user", "content": "Hello"}],
    )  # fmt: skip
    output = await async_request_openai_chat_completions(request, http)
    assert output.success, f"{target.name}: {output.error}"
    assert len(output.generated_text.split()) == tokens, f"{target.name}: an answer of another length"
    return output.ttft, output.latency


@dataclass(frozen=True)
class Sequential:
    """Seconds of single requests: whole answers, first tokens and last tokens of streams."""

    whole: list[float]
    first: list[float]
    last: list[float]


async def alternate(targets: Sequence[Target], requests: int, tokens: int) -> dict[str, Sequential]:
    """Requests one at a time, to each target in turn: what disturbs the machine disturbs all alike."""
    seen = {target.name: Sequential([], [], []) for target in targets}
    async with aiohttp.ClientSession() as http:
        for number in range(requests):
            shift = number % len(targets)
            for target in [*targets[shift:], *targets[:shift]]:
                seconds = seen[target.name]
                seconds.whole.append(await one_whole(http, target, tokens))
                first, last = await one_stream(http, target, tokens)
                seconds.first.append(first)
                seconds.last.append(last)
    return seen


async def saturate(target: Target, seconds: float, at_once: int, tokens: int) -> float:
    """Whole answers per second with `at_once` clients, each of which sends its next request at once."""
    answered = 0
    end = time.perf_counter() + seconds

    async def client(http: aiohttp.ClientSession) -> None:
        nonlocal answered
        while time.perf_counter() < end:
            await one_whole(http, target, tokens)
            answered += 1

    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(client(http) for _ in range(at_once)))
    return answered / (time.perf_counter() - began)


def show(name: str, values: Sequence[float], unit: str = "", digits: int = 2) -> None:
    """The last lines of a benchmark: median, least and greatest of the rounds."""
    middle, low, high = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    print(f"{name} {middle}{unit} ({low} to {high})", flush=True)
