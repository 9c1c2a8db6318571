"""The only way from evals to models: HTTP in OpenAI's protocol, plus `/score`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evals.answer_forms import (
    NO_LOGPROBS,
    choices_of,
    expected_form,
    finish_reason,
    finite,
    scored,
    text_of_choice,
    token_id,
)
from evals.cache import Cache
from evals.continuations import ABSENT, ONE_TOKEN, by_completions, by_pairs
from evals.transport import Refused, Server
from training.artifacts import progress
from training.artifacts.conversations import text_of
from training.artifacts.errors import UserError
from training.artifacts.files import file_name

BATCH = 16  # texts in one request
Messages = Sequence[Mapping[str, str]]
Input = TypeVar("Input")
Output = TypeVar("Output")


@dataclass(frozen=True)
class Answer:
    """A generated text. `finish_reason` is `stop` when the model ended by itself; `seed` is None for a greedy text."""

    text: str
    finish_reason: str | None
    seed: int | None = None


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of a text's tokens.

    Attributes:
        logprobs: natural logs, shape (tokens,); None for the first token, which nothing predicts.
        greedy: whether the token is the likeliest one, shape (tokens,); None likewise.
    """

    logprobs: list[float | None]
    greedy: list[bool | None]


@dataclass(frozen=True)
class Sampling:
    """How texts are generated; temperature 0 is greedy. The seed is not part of it: each answer has its own."""

    temperature: float = 0.0
    max_tokens: int = 64
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def body(self, seed: int | None) -> dict[str, Any]:
        """Fields of one request. Raises `ValueError` for a sampled answer without a seed of its own (`seeds.py`)."""
        fields: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens, "top_p": self.top_p}
        if self.temperature > 0:
            if seed is None:
                raise ValueError("a sampled answer needs a seed of its own")
            fields["seed"] = seed
        return fields | ({"stop": list(self.stop)} if self.stop else {})


# Sent with every generation, for a server fills in a model's own defaults where a field is left out. At temperature 0
# a repetition penalty changes answers too.
NEUTRAL: dict[str, Any] = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip


@dataclass
class Client(Server):
    """A session with one server. Use as `async with Client(url) as client`.

    Attributes:
        answers: folder with the answers of earlier runs, one file per model; None keeps nothing.
        identity: what an answer depends on beside model and request, such as filters in the way.
        neutral: whether the server takes all of `NEUTRAL`; found out by the first refusal.
        takes_pairs: whether the server has `/v1/loglikelihood`; found out likewise.
        salt: of this session: what its prompts have in common at their beginning is computed once.
    """

    answers: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    neutral: bool = True
    takes_pairs: bool = True
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    _caches: dict[str, Cache] = field(default_factory=dict, repr=False)

    async def __aenter__(self) -> Client:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        for cache in self._caches.values():
            cache.__exit__(None, None, None)

    def cached(self, model: str) -> int:
        """Answers of a model that came from the cache."""
        return self._caches[model].hits if model in self._caches else 0

    async def models(self) -> dict[str, str]:
        """Name -> checkpoint id of everything that is served: immutable ids and aliases."""
        try:
            rows = (await self.request("GET", "/v1/models", None))["data"]
            names = {str(row["id"]) for row in rows}
            # An alias names its checkpoint as its root; of a plain vLLM server that is a path it does not answer to.
            return {str(row["id"]): row["root"] if row.get("root") in names else str(row["id"]) for row in rows}
        except Refused as refused:
            raise UserError(f"{self.url} does not answer ({refused.reason}): start `python -m service serve`") from None
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"{self.url} lists no models at /v1/models: give --url of an OpenAI-compatible server"
            ) from None

    async def generate(
        self,
        model: str,
        prompt: Messages | Sequence[int] | str,
        sampling: Sampling,
        seed: int | None = None,
        samples: int = 1,
    ) -> list[Answer | Refused]:
        """Answers to a conversation, or continuations of a text or of token ids, shape (samples,).

        Args:
            seed: required above temperature 0. Of several samples, number i gets `seed` + i, as vLLM counts them.
            samples: from one request, so that the prompt is computed once. A choice without a text, such as one that a
                filter withheld, is `Refused` in its place.

        Raises:
            Refused: the whole request failed.
        """
        path, body = _prompt_body(prompt)
        body |= sampling.body(seed) | ({"n": samples} if samples > 1 else {})

        async def ask() -> list[Any]:
            answer = await self._generation(path, {"model": model} | body)
            with expected_form():
                return [[text_of_choice(choice), finish_reason(choice)] for choice in choices_of(answer)]

        rows = await self._remembered(model, path, body, ask)
        answers = [_answer(text, reason, None if seed is None or "seed" not in body else seed + i)
                   for i, (text, reason) in enumerate(rows)]  # fmt: skip
        return answers + [Refused(200, "the server sent fewer answers than requested")] * (samples - len(answers))

    async def contexts(self) -> dict[str, int]:
        """Name that the service answers to -> greatest number of tokens of prompt and answer, where it is told."""
        rows = (await self.request("GET", "/v1/models", None))["data"]
        with expected_form():
            return {str(row["id"]): int(row["max_model_len"]) for row in rows if row.get("max_model_len")}

    async def logprobs(self, model: str, prompts: Sequence[str] | Sequence[Sequence[int]]) -> list[Scored]:
        """Log-probabilities of texts (or lists of token ids), one `Scored` each; those not known yet in one request."""

        async def ask(unknown: Sequence[Any]) -> list[Any]:
            body = {"model": model, "prompt": list(unknown), "echo": True, "logprobs": 1, "max_tokens": 0}
            answer = await self.request("POST", "/v1/completions", body)
            with expected_form():
                return [scored(choice.get("logprobs")) for choice in choices_of(answer)]

        return [Scored(*row) for row in await self._remembered_each(model, "echo", list(prompts), ask)]

    async def tokenize(self, model: str, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Token ids of texts, as the model reads them; `special` adds what its tokenizer puts around a text."""
        body = {"model": model, "prompt": list(texts), "add_special_tokens": special}
        try:
            whole = await self.request("POST", "/tokenize", body)
            with expected_form():
                return [list(map(int, row)) for _, row in zip(texts, whole["tokens"], strict=True)]
        except Refused as refused:
            if refused.status not in (400, 422):
                raise
        # A plain vLLM server takes one text at a time.
        answers = [
            await self.request("POST", "/tokenize", body | {"prompt": text}) for text in texts
        ]  # one after another: `each` gives the concurrency
        with expected_form():
            return [list(map(int, answer["tokens"])) for answer in answers]

    async def tokenizer_prefix(self, model: str) -> tuple[int | None, str]:
        """Id and text of the token that a text without context follows: the tokenizer's first, else its last one.

        None where the service does not say.
        """
        answer = await self.request("POST", "/tokenize", {"model": model, "prompt": "", "add_special_tokens": True})
        with expected_form():
            if "prefix_token_id" in answer:
                return answer["prefix_token_id"], str(answer["prefix_text"])
            tokens = answer["tokens"]  # of a plain vLLM server: only a tokenizer that puts it there shows it
            return (int(tokens[0]), "") if tokens else (None, "")

    async def render(self, model: str, messages: Messages, generation: bool) -> str:
        """A conversation as the checkpoint's template writes it, open for an answer or for more of its last turn."""
        fields = {"add_generation_prompt": generation, "continue_final_message": not generation}
        body = {"model": model, "messages": _turns(messages)} | fields
        return str((await self.request("POST", "/tokenize", body))["text"])

    async def continuations(
        self, model: str, prompts: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> list[Scored | Refused]:
        """Log-probabilities of token ids, of each prompt from its start on; those not known yet in one request.

        A prompt that the service refuses has a `Refused` in its place.

        Raises:
            Refused: the request failed, also where the engine gives no log-probabilities (status 200).
        """

        async def ask(unknown: Sequence[Any]) -> list[Any]:
            if self.takes_pairs:
                try:
                    return await by_pairs(self.request, model, unknown, self.salt)
                except Refused as refused:
                    if refused.status not in ABSENT:
                        raise
            answers = await by_completions(self.request, model, unknown)
            self.takes_pairs = False  # it was the route that is missing, not the model
            return answers

        beginnings = [[list(ids), start] for ids, start in zip(prompts, starts, strict=True)]
        rows = await self._remembered_each(model, "continuations", beginnings, ask)
        return [row if isinstance(row, Refused) else Scored(*row) for row in rows]

    async def next_tokens(
        self, model: str, prompts: Sequence[Sequence[int]], candidates: Sequence[int]
    ) -> list[tuple[dict[int, float], int]]:
        """Log-probabilities of these ids as the next token of each prompt, and the likeliest id, in one request.

        Only the next token is computed, and what prompts share comes from the engine's prefix cache.
        """

        async def ask(unknown: Sequence[Any]) -> list[Any]:
            body = {
                "model": model, "prompt": [ids for ids, _ in unknown], "logprobs": len(candidates),
                "logprob_token_ids": list(candidates), "return_tokens_as_token_ids": True,
            }  # fmt: skip
            answer = await self.request("POST", "/v1/completions", body | ONE_TOKEN)
            results: list[Any] = []
            with expected_form():
                for row in [choice["logprobs"] for choice in choices_of(answer)]:
                    values = {token_id(name): finite(value) for name, value in row["top_logprobs"][0].items()}
                    if not set(candidates) <= set(values):
                        raise Refused(200, NO_LOGPROBS)
                    results.append([sorted(values.items()), token_id(row["tokens"][0])])
            return results

        requests = [[list(ids), list(candidates)] for ids in prompts]
        rows = await self._remembered_each(model, "next", requests, ask)
        return [({int(token): value for token, value in values}, int(likeliest)) for values, likeliest in rows]

    async def rewards(self, model: str, conversations: Sequence[Messages]) -> list[float | None]:
        """Reward of each conversation's last answer, in one request; None where the service reports an error for it."""
        turns = [_turns(messages) for messages in conversations]

        async def ask() -> list[float | None]:
            scores: list[float | None] = [None] * len(turns)
            answer = await self.request("POST", "/score", {"model": model, "conversations": turns})
            with expected_form():
                for row in answer["data"]:
                    if row.get("error") is None and row.get("score") is not None:
                        scores[int(row["index"])] = finite(row["score"])
            return scores

        return list(await self._remembered(model, "/score", turns, ask))

    async def _remembered(self, model: str, kind: str, body: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer to a request from the cache, otherwise asked and kept."""
        cache = self._cache(model)
        if cache is None:
            return await ask()
        key = cache.key(kind, body)
        answer = cache.get(key)
        if answer is None:
            answer = await ask()
            cache.put(key, answer)
        return answer

    async def _remembered_each(
        self, model: str, kind: str, requests: Sequence[Any], ask: Callable[[Sequence[Any]], Awaitable[list[Any]]]
    ) -> list[Any]:
        """Answers to several requests of a kind: those not known yet are asked together and kept one by one."""
        cache = self._cache(model)
        keys = [cache.key(kind, request) for request in requests] if cache else []
        rows: list[Any] = [cache.get(key) for key in keys] if cache else [None] * len(requests)
        unknown = [place for place, row in enumerate(rows) if row is None]
        if unknown:
            answers = await ask([requests[place] for place in unknown])
            if len(answers) != len(unknown):
                raise Refused(200, "the server answered another number of prompts than requested")
            for place, answer in zip(unknown, answers, strict=True):
                rows[place] = answer
                if cache and not isinstance(answer, Refused):
                    cache.put(keys[place], answer)
        return rows

    def _cache(self, model: str) -> Cache | None:
        if self.answers is None:
            return None
        if model not in self._caches:
            path = self.answers / f"{file_name(model)}.sqlite"
            self._caches[model] = Cache(path, {"model": model, **self.identity})
        return self._caches[model]

    async def _generation(self, path: str, body: Mapping[str, Any]) -> Any:
        """A request with the neutral fields, and without them for a server that does not know them."""
        if self.neutral:
            try:
                return await self.request("POST", path, {**NEUTRAL, **body})
            except Refused as refused:
                if refused.status not in (400, 422) or not any(name in refused.reason for name in NEUTRAL):
                    raise
                self.neutral = False
        return await self.request("POST", path, body)


async def each(
    inputs: Sequence[Input],
    measure: Callable[[Input], Awaitable[Output]],
    label: str,
    concurrency: int = 48,
) -> list[Output | Refused]:
    """Measure every input concurrently, with a progress bar. A `Refused` takes the place of what failed."""
    gate = asyncio.Semaphore(concurrency)
    with progress.bar(label, len(inputs)) as bar:

        async def one(value: Input) -> Output | Refused:
            async with gate:
                try:
                    return await measure(value)
                except Refused as refused:
                    return refused
                finally:
                    bar.advance()

        tasks = [asyncio.ensure_future(one(value)) for value in inputs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


async def in_batches(
    inputs: Sequence[Input],
    measure: Callable[[Sequence[Input]], Awaitable[Sequence[Output | Refused]]],
    label: str,
    concurrency: int = 48,
    size: int = BATCH,
) -> list[Output | Refused]:
    """Measure `size` inputs per request. Those of a request that failed are requested again alone."""
    batches = [inputs[i : i + size] for i in range(0, len(inputs), size)]

    async def whole(batch: Sequence[Input]) -> list[Output | Refused]:
        try:
            return list(await measure(batch))
        except Refused as refused:
            if len(batch) > 1:
                return [(await whole([value]))[0] for value in batch]
            return [refused] * len(batch)

    answers = await each(batches, whole, label, max(2, concurrency // size))
    results: list[Output | Refused] = []
    for batch, answer in zip(batches, answers, strict=True):
        results += [answer] * len(batch) if isinstance(answer, Refused) else answer
    return results


def _turns(messages: Messages) -> list[dict[str, str]]:
    """Role and text of each message; text parts are joined."""
    contents = [(message["content"], text_of(message["content"])) for message in messages]
    return [
        {"role": message["role"], "content": content if text is None else text}
        for message, (content, text) in zip(messages, contents, strict=True)
    ]


def _prompt_body(prompt: Messages | Sequence[int] | str) -> tuple[str, dict[str, Any]]:
    """Route and prompt of a generation: a text or token ids to continue, or a conversation to answer."""
    if isinstance(prompt, str):
        return "/v1/completions", {"prompt": prompt}
    ids = [part for part in prompt if isinstance(part, int)]
    if ids:
        return "/v1/completions", {"prompt": ids}
    turns = [part for part in prompt if not isinstance(part, int)]
    return "/v1/chat/completions", {"messages": _turns(turns)}


def _answer(text: str | None, reason: str | None, seed: int | None) -> Answer | Refused:
    """A choice as it was kept; without a text its measurement is missing."""
    if text is None:
        return Refused(200, "no text came back" + (f" ({reason})" if reason else ""))
    return Answer(text, reason, seed)
