"""The only way from evals to models: HTTP in OpenAI's protocol, plus `/score`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.answer_forms import (
    NO_LOGPROBS,
    choices_of,
    expected_form,
    finish_reason,
    finite,
    places_of,
    scored,
    text_of_choice,
    token_id,
)
from evals.continuations import ABSENT, ONE_TOKEN, by_completions, by_pairs
from evals.generation import NEUTRAL, Answer, Messages, Sampling, answer_of, prompt_body, turns_of
from evals.remembering import Remembering
from evals.transport import Refused
from training.artifacts.errors import UserError


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of a text's tokens.

    Attributes:
        logprobs: natural logs, shape (tokens,); None for the first token, which nothing predicts.
        greedy: whether the token is the likeliest one, shape (tokens,); None likewise.
    """

    logprobs: list[float | None]
    greedy: list[bool | None]


@dataclass
class Client(Remembering):
    """A session with one server. Use as `async with Client(url) as client`.

    Attributes:
        neutral: whether the server takes all of `NEUTRAL`; found out by the first refusal.
        takes_pairs, gives_tokens: whether the server has `/v1/loglikelihood` and `/tokenize`; found out likewise.
        salt: of this session: what its prompts have in common at their beginning is computed once.
    """

    neutral: bool = True
    takes_pairs: bool = True
    gives_tokens: bool = True
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

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
        path, body = prompt_body(prompt)
        body |= sampling.body(seed) | ({"n": samples} if samples > 1 else {})

        async def ask() -> list[Any]:
            answer = await self._generation(path, {"model": model} | body)
            with expected_form():
                return [[text_of_choice(choice), finish_reason(choice)] for choice in choices_of(answer)]

        rows = await self.remembered(model, path, body, ask)
        answers = [answer_of(text, reason, None if seed is None or "seed" not in body else seed + i)
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

        return [Scored(*row) for row in await self.remembered_each(model, "echo", list(prompts), ask)]

    async def tokenize(self, model: str, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Token ids of texts, as the model reads them; `special` adds what its tokenizer puts around a text."""

        async def ask(unknown: Sequence[Any]) -> list[Any]:
            body = {"model": model, "prompt": [text for text, _ in unknown], "add_special_tokens": special}
            try:
                whole = await self.request("POST", "/tokenize", body)
                with expected_form():
                    return [list(map(int, row)) for _, row in zip(unknown, whole["tokens"], strict=True)]
            except Refused as refused:
                if refused.status not in (400, 422):
                    raise
            # A plain vLLM server takes one text at a time.
            answers = [
                await self.request("POST", "/tokenize", body | {"prompt": text}) for text, _ in unknown
            ]  # one after another: `each` gives the concurrency
            with expected_form():
                return [list(map(int, answer["tokens"])) for answer in answers]

        return await self.remembered_each(model, "tokens", [[text, special] for text in texts], ask)

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
        body = {"model": model, "messages": turns_of(messages)} | fields
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
        rows = await self.remembered_each(model, "continuations", beginnings, ask)
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
        rows = await self.remembered_each(model, "next", requests, ask)
        return [({int(token): value for token, value in values}, int(likeliest)) for values, likeliest in rows]

    async def rewards(self, model: str, conversations: Sequence[Messages]) -> list[float | None]:
        """Reward of each conversation's last answer, in one request; None where the service reports an error for it."""
        turns = [turns_of(messages) for messages in conversations]

        async def ask() -> list[float | None]:
            scores: list[float | None] = [None] * len(turns)
            answer = await self.request("POST", "/score", {"model": model, "conversations": turns})
            with expected_form():
                rows = list(answer["data"])
                for place, row in zip(places_of(rows, len(turns)), rows, strict=True):
                    if row.get("error") is None and row.get("score") is not None:
                        scores[place] = finite(row["score"])
            return scores

        return list(await self.remembered(model, "/score", turns, ask))

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
