"""lm-eval's view of a model behind the service: it needs no tokenizer of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from evals.client import Client, Refused, Sampling, Scored, each, in_batches

Result = TypeVar("Result")


class ServedModel(LM):
    """Answers lm-eval's requests over HTTP.

    A continuation's tokens are those after the first len(tokens(context)) tokens of context + continuation, which is
    how lm-eval's own models split them; the service tokenises both. Requests that fail (such as those longer than the
    context) get nan, and `failures` names their documents, so that they are left out of every mean and counted.

    lm-eval calls from a worker thread; the requests run on `loop`, where the client lives.
    """

    def __init__(self, client: Client, checkpoint: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.client = client
        self.checkpoint = checkpoint
        self.loop = loop
        self.failures: dict[tuple[str, int], str] = {}
        # (task, document) -> token counts of its continuations in order, for means per token
        self.lengths: dict[tuple[str, int], list[int]] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding gives it."""
        pairs = [split_trailing_space(*request.args) for request in requests]
        contexts = sorted({context for context, _ in pairs if context})
        texts = [*contexts, *(context + continuation for context, continuation in pairs)]
        scored_texts = self._run(self._logprobs(texts))
        alone, whole = dict(zip(contexts, scored_texts, strict=False)), scored_texts[len(contexts) :]
        answers = []
        for request, (context, _), scored in zip(requests, pairs, whole, strict=True):
            before = alone.get(context)
            if isinstance(before, Refused) or isinstance(scored, Refused):
                refused = before if isinstance(before, Refused) else scored
                self._fail(request, refused.reason if isinstance(refused, Refused) else "failed")
                answers.append((math.nan, False))
                continue
            start = len(before.logprobs) if before else 1  # nothing predicts the first token
            values, greedy = scored.logprobs[start:], scored.greedy[start:]
            if not values:
                self._fail(request, "the continuation adds no token")
                answers.append((math.nan, False))
                continue
            self.lengths.setdefault(_document(request), []).append(len(values))
            answers.append((math.fsum(v or 0.0 for v in values), all(greedy)))
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts; one longer than the context is scored in halves, each without the other."""
        results = self._run(each([r.args[0] for r in requests], self._rolling, "texts", self.client.concurrency))
        answers = []
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Refused):
                self._fail(request, result.reason)
                answers.append(math.nan)
            else:
                self.lengths.setdefault(_document(request), []).append(result[1])
                answers.append(result[0])
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy text up to a stopping string."""

        async def one(request: Instance) -> str:
            context, settings = request.args
            until = settings.get("until") or []
            stop = tuple([until] if isinstance(until, str) else until)
            sampling = Sampling(max_tokens=int(settings.get("max_gen_toks", 64)), stop=stop)
            (answer,) = await self.client.generate(self.checkpoint, context, sampling)
            if isinstance(answer, Refused):
                raise answer
            return answer.text

        results = self._run(each(requests, one, "generating", self.client.concurrency))
        answers = []
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Refused):
                self._fail(request, result.reason)
            answers.append("" if isinstance(result, Refused) else result)
        return answers

    async def _logprobs(self, texts: Sequence[str]) -> list[Scored | Refused]:
        async def whole(batch: Sequence[str]) -> list[Scored]:
            return await self.client.logprobs(self.checkpoint, batch)

        return await in_batches(texts, whole, "log-probabilities", self.client.concurrency)

    async def _rolling(self, text: str) -> tuple[float, int]:
        """Sum of log-probabilities and number of predicted tokens."""
        try:
            scored = (await self.client.logprobs(self.checkpoint, [text]))[0]
        except Refused as refused:
            middle = text.rfind(" ", 1, len(text) // 2 + 1)
            if refused.reason != "longer than the model's context" or middle < 1:
                raise
            left, right = await self._rolling(text[:middle]), await self._rolling(text[middle:])
            return left[0] + right[0], left[1] + right[1]
        values = [v for v in scored.logprobs if v is not None]
        return math.fsum(values), len(values)

    def _fail(self, request: Instance, reason: str) -> None:
        self.failures[_document(request)] = reason

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def split_trailing_space(context: str, continuation: str) -> tuple[str, str]:
    """Move spaces at the end of the context to the continuation: word-initial spaces belong to the word's token."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _document(request: Instance) -> tuple[str, int]:
    return str(request.task_name), int(request.doc_id or 0)
