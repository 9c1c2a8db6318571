"""A session with a server that asks nothing twice: answers are kept on disk, one file per model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from evals.cache import Cache
from evals.transport import Refused, Server
from training.artifacts.files import file_name


@dataclass
class Remembering(Server):
    """Use as `async with`, which also closes the files.

    Attributes:
        answers: folder with the answers of earlier runs, one file per model; None keeps nothing.
        identity: what an answer depends on beside model and request, such as filters in the way.
    """

    answers: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    _caches: dict[str, Cache] = field(default_factory=dict, repr=False)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        for cache in self._caches.values():
            cache.__exit__(None, None, None)

    def cached(self, model: str) -> int:
        """Answers of a model that came from the cache."""
        return self._caches[model].hits if model in self._caches else 0

    async def remembered(self, model: str, kind: str, body: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
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

    async def remembered_each(
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
