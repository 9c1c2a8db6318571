"""lm-eval's view of a model behind the service: its own splitting of texts into tokens, its windows, its settings."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.answer_forms import NO_LOGPROBS
from evals.client import Client, Scored
from evals.concurrently import BATCH, each, in_batches
from evals.generation import Answer, Sampling
from evals.seeds import answer_seed
from evals.tokens import Tokens
from evals.transport import TOO_LONG, Refused
from training.artifacts.errors import UserError

Result = TypeVar("Result")
Document = tuple[str, int]  # name of the task, number of the document
MOST_CANDIDATES = 128  # ids that vLLM takes in one request for the next token
MOST_TOKENS = 256  # of generated text where the task does not say, as in lm-eval
# Of continuations in one request: as many as the engine batches, so that two requests keep it busy, and no more tokens
# than fit the largest body that the service takes.
MOST_PAIRS = 64
BODY_TOKENS = 200_000


@dataclass(frozen=True)
class Pair:
    """Token ids of a context and of what follows."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.context + self.continuation


@dataclass(frozen=True)
class Likelihood:
    """Sum of the natural log-probabilities of a continuation's tokens, and whether greedy decoding gives them."""

    value: float
    is_greedy: bool


class ServedModel(LM):
    """Answers lm-eval's requests over HTTP.

    Contexts and continuations are split into tokens as lm-eval's own models do it, and no context is scored. Requests
    that fail (such as those longer than the context) get nan or an empty text, and `failures` names their documents, so
    that they are left out of every mean and counted.

    lm-eval calls from a worker thread; the requests run on `loop`, where the client lives.

    Attributes:
        failures: document -> why one of its requests failed.
        lengths: document -> number of the request within it -> tokens of its continuation.
    """

    def __init__(
        self,
        client: Client,
        checkpoint: str,
        loop: asyncio.AbstractEventLoop,
        tokens: Tokens,
        context: int,
        seed: int = 0,
    ) -> None:
        """Args:
        context: the engine's greatest number of tokens of prompt and answer together.
        seed: of the run, for tasks that sample.
        """
        super().__init__()
        self.client, self.checkpoint, self.loop, self.tokens = client, checkpoint, loop, tokens
        self.context, self.seed = context, seed
        self.failures: dict[Document, str] = {}
        self.lengths: dict[Document, dict[int, int]] = {}
        self._next_tokens: bool | None = None

    @property
    def max_length(self) -> int:
        """Most tokens that the model reads at once: one more is predicted, and the engine adds one to every prompt."""
        return self.context - 2

    @property
    def tokenizer_name(self) -> str:
        return self.checkpoint

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the checkpoint's chat template."""
        return self.tokens.render(chat_history, add_generation_prompt)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding gives it."""
        pairs = self.pairs([request.args for request in requests])
        answers = []
        for request, pair, result in zip(requests, pairs, self.score(pairs), strict=True):
            if isinstance(result, Refused):
                self._fail(request, result.reason)
                answers.append((math.nan, False))
            else:
                self._count(request, len(pair.continuation))
                answers.append((result.value, result.is_greedy))
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, in lm-eval's windows of `max_length` tokens."""
        prefix = self._prefix()
        windows: list[Pair] = []
        sizes = []
        for ids in self._encode([request.args[0] for request in requests]):
            pieces = get_rolling_token_windows(ids, prefix, self.max_length, context_len=1)
            split = [Pair(tuple(a), tuple(b)) for a, b in map(make_disjoint_window, pieces)]
            windows += split
            sizes.append(len(split))
        results = iter(self.score(windows))
        answers = []
        position = 0
        for request, size in zip(requests, sizes, strict=True):
            parts = [next(results) for _ in range(size)]
            refused = next((part for part in parts if isinstance(part, Refused)), None)
            if refused is not None or not parts:
                self._fail(request, refused.reason if refused else "the text has no token")
                answers.append(math.nan)
            else:
                self._count(request, sum(len(pair.continuation) for pair in windows[position : position + size]))
                answers.append(math.fsum(part.value for part in parts if isinstance(part, Likelihood)))
            position += size
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text up to a stopping string, greedy unless the task samples."""
        prompts = self._encode([request.args[0] for request in requests])
        drawn_before: dict[tuple[Document, int], int] = {}
        work = []
        for request, ids in zip(requests, prompts, strict=True):
            key = (_document(request), request.idx)
            sample = drawn_before[key] = drawn_before.get(key, -1) + 1
            work.append((request, ids, sample))

        async def one(piece: tuple[Instance, list[int], int]) -> Answer:
            request, ids, sample = piece
            sampling = sampling_of(request.args[1])
            task, number = _document(request)
            seed = answer_seed(self.seed, "tax", f"{task} {number}", request.args[0], sample)
            seed_sent = seed if sampling.temperature else None
            (answer,) = await self.client.generate(self.checkpoint, ids, sampling, seed_sent)
            if isinstance(answer, Refused):
                raise answer
            return answer

        answers = []
        for request, result in zip(requests, self._run(each(work, one, "texts", self.client.concurrency)), strict=True):
            if isinstance(result, Refused):
                self._fail(request, result.reason)
            answers.append("" if isinstance(result, Refused) else result.text)
        return answers

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """Token ids as lm-eval's models split them (`_encode_pair`): spaces at the end of a context belong to the
        continuation, whose tokens are those after the context's own number of tokens. Behind an empty context stands
        the tokenizer's first (else last) token."""
        split = [split_trailing_space(*pair) for pair in texts]
        contexts = sorted({context for context, _ in split if context})
        by_context = dict(zip(contexts, self._encode(contexts), strict=True))
        wholes = iter(self._encode([context + continuation for context, continuation in split if context]))
        alone = iter(self.tokens.encode([continuation for context, continuation in split if not context], False))
        pairs = []
        for context, _ in split:
            ids = tuple(next(wholes) if context else next(alone))
            if context:
                size = len(by_context[context])
                pairs.append(Pair(tuple(by_context[context]), ids[size:]))
            elif ids and ids[0] == self._prefix():
                pairs.append(Pair(ids[:1], ids[1:]))
            else:
                pairs.append(Pair((self._prefix(),), ids))
        return pairs

    def score(self, pairs: Sequence[Pair]) -> list[Likelihood | Refused]:
        """Likelihood of every continuation. Equal pairs are scored once.

        Raises:
            UserError: the engine gives no log-probabilities.
        """
        results: dict[Pair, Likelihood | Refused] = {}
        for pair in pairs:
            if not pair.continuation:
                results[pair] = Refused(400, "the continuation adds no token")
            elif len(pair.ids) > self.max_length + 1:
                results[pair] = Refused(400, TOO_LONG)
        todo = [pair for pair in dict.fromkeys(pairs) if pair not in results]
        if todo:
            self._check(todo[0])
        single = [pair for pair in todo if len(pair.continuation) == 1 and self._next_tokens]
        several = [pair for pair in todo if len(pair.continuation) > 1 or not self._next_tokens]
        results |= self._score_next(single)
        results |= self._score_whole(several)
        return [results[pair] for pair in pairs]

    def _score_whole(self, pairs: Sequence[Pair]) -> dict[Pair, Likelihood | Refused]:
        async def whole(batch: Sequence[Pair]) -> list[Scored | Refused]:
            return await self.client.continuations(
                self.checkpoint, [pair.ids for pair in batch], [len(pair.context) for pair in batch]
            )

        longest = max((len(pair.ids) for pair in pairs), default=1)
        size = max(1, min(MOST_PAIRS, BODY_TOKENS // longest))
        scored = self._run(in_batches(pairs, whole, "log-probabilities", self.client.concurrency, size))
        return {
            pair: row
            if isinstance(row, Refused)
            else Likelihood(math.fsum(value or 0.0 for value in row.logprobs), all(row.greedy))
            for pair, row in zip(pairs, scored, strict=True)
        }

    def _score_next(self, pairs: Sequence[Pair]) -> dict[Pair, Likelihood | Refused]:
        """One request per context, for all its one-token continuations: they need the next token alone."""
        tokens: dict[tuple[int, ...], list[int]] = {}
        for pair in pairs:
            tokens.setdefault(pair.context, []).append(pair.continuation[0])

        async def ask(batch: Sequence[tuple[int, ...]]) -> list[tuple[dict[int, float], int]]:
            candidates = sorted({token for context in batch for token in tokens[context]})
            return await self.client.next_tokens(self.checkpoint, batch, candidates)

        few = max(map(len, tokens.values()), default=0) * BATCH <= MOST_CANDIDATES
        contexts = [context for context in tokens if few or len(tokens[context]) <= MOST_CANDIDATES]
        if few:
            scored = self._run(in_batches(contexts, ask, "next tokens", self.client.concurrency))
        else:  # many candidates: each context by itself

            async def alone(context: tuple[int, ...]) -> tuple[dict[int, float], int]:
                return (await ask([context]))[0]

            scored = self._run(each(contexts, alone, "next tokens", self.client.concurrency))
        by_context = dict(zip(contexts, scored, strict=True))
        rest = [pair for pair in pairs if pair.context not in by_context]
        results: dict[Pair, Likelihood | Refused] = self._score_whole(rest) if rest else {}
        for pair in pairs:
            row = by_context.get(pair.context)
            if isinstance(row, Refused):
                results[pair] = row
            elif row is not None:
                token = pair.continuation[0]
                results[pair] = Likelihood(row[0][token], row[1] == token)
        return results

    def _check(self, pair: Pair) -> None:
        """Find out once whether the engine gives log-probabilities, and whether for asked ids of the next token."""
        if self._next_tokens is not None:
            return
        ids = pair.context[:1] + pair.continuation[:1]
        try:
            (probe,) = self._run(self.client.continuations(self.checkpoint, [ids], [1]))
            if isinstance(probe, Refused):
                raise probe
        except Refused as refused:
            if refused.status in (200, 400, 422):
                raise UserError(
                    f"{NO_LOGPROBS} of {self.checkpoint} ({refused.reason}): tasks of multiple choice and of loss on "
                    "text need a vLLM server, or leave the suite tax out"
                ) from None
            return  # it is down: the requests themselves will tell
        try:
            self._run(self.client.next_tokens(self.checkpoint, [ids[:1]], [ids[1]]))
            self._next_tokens = True
        except Refused:
            self._next_tokens = False

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with what the tokenizer puts around a text, unless the text begins with it, as in lm-eval."""
        mark = self.tokens.prefix_text
        marked = [bool(mark) and text.startswith(mark) for text in texts]
        plain = iter(self.tokens.encode([t for t, m in zip(texts, marked, strict=True) if not m], True))
        rest = iter(self.tokens.encode([t for t, m in zip(texts, marked, strict=True) if m], False))
        return [next(rest if is_marked else plain) for is_marked in marked]

    def _prefix(self) -> int:
        if self.tokens.prefix is None:
            raise UserError(
                f"the service does not say which token begins a text of {self.checkpoint}: give the folder of "
                "checkpoints by --home"
            )
        return self.tokens.prefix

    def _count(self, request: Instance, tokens: int) -> None:
        self.lengths.setdefault(_document(request), {})[request.idx] = tokens

    def _fail(self, request: Instance, reason: str) -> None:
        self.failures[_document(request)] = reason

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """A task's `generation_kwargs` as the service takes them."""
    normal = normalize_gen_kwargs(dict(settings), MOST_TOKENS)
    stop = tuple(dict.fromkeys(text for text in normal.get("until") or () if text))
    default = 1.0 if normal.get("do_sample") else 0.0  # transformers' own where a task samples without saying how
    temperature = float(normal.get("temperature", default))
    return Sampling(temperature, int(normal["max_gen_toks"]), float(normal.get("top_p", 1.0)), stop)


def split_trailing_space(context: str, continuation: str) -> tuple[str, str]:
    """Move spaces at the end of the context to the continuation: word-initial spaces belong to the word's token."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _document(request: Instance) -> Document:
    return str(request.task_name), int(request.doc_id or 0)
