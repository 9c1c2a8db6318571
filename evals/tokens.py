"""Token ids of texts as the evaluated model reads them: from its folder where that is here, else from the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from evals.client import Client
from evals.concurrently import BATCH, each
from evals.transport import Refused
from training.artifacts.errors import UserError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Tokens(Protocol):
    """What scoring needs of a tokenizer.

    Attributes:
        prefix: the token before a text without context: the first token, else the last one; None where unknown.
        prefix_text: that token as text, empty where unknown.
    """

    prefix: int | None
    prefix_text: str

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Ids of each text; `special` adds what the tokenizer puts around a text by default."""

    def render(self, messages: Sequence[Mapping[str, str]], generation: bool) -> str:
        """A conversation by the chat template, open for an answer, or for more of its last turn."""


class LocalTokens:
    """The tokenizer of a folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)
        first = self._tokenizer.bos_token_id
        self.prefix: int | None = self._tokenizer.eos_token_id if first is None else first
        self.prefix_text = "" if self.prefix is None else str(self._tokenizer.decode(self.prefix))

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        # Without arguments as far as possible: some tokenizers keep their own default.
        options = {} if special else {"add_special_tokens": False}
        return [list(ids) for ids in self._tokenizer(list(texts), **options)["input_ids"]] if texts else []

    def render(self, messages: Sequence[Mapping[str, str]], generation: bool) -> str:
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise UserError("the checkpoint has no chat template: leave the form `chat` out")
        try:
            return self._render(messages, generation)
        except TemplateError:  # as lm-eval does for templates that take no system turn
            return self._render([message for message in messages if message["role"] != "system"], generation)

    def _render(self, messages: Sequence[Mapping[str, str]], generation: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation, continue_final_message=not generation
            )
        )


class ServedTokens:
    """The service's `/tokenize`.

    Args:
        run: awaits a coroutine on the client's loop, from another thread.
    """

    def __init__(self, client: Client, checkpoint: str, run: Run) -> None:
        self._client, self._checkpoint, self._run = client, checkpoint, run
        self.prefix, self.prefix_text = self._answer(client.tokenizer_prefix(checkpoint))

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]

        async def one(batch: Sequence[str]) -> list[list[int]]:
            return await self._client.tokenize(self._checkpoint, batch, special)

        rows: list[list[int]] = []
        for answer in self._run(each(batches, one, "tokens", self._client.concurrency)):
            if isinstance(answer, Refused):
                raise _untokenized(answer)
            rows += answer
        return rows

    def render(self, messages: Sequence[Mapping[str, str]], generation: bool) -> str:
        return str(self._answer(self._client.render(self._checkpoint, messages, generation)))

    def _answer(self, request: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self._run(request)
        except Refused as refused:
            raise _untokenized(refused) from None
        except KeyError:
            raise UserError(
                "the service does not render conversations: give the checkpoints' folder by --home"
            ) from None


def tokens_of(client: Client, checkpoint: str, folder: Path | None, loop: asyncio.AbstractEventLoop) -> Tokens:
    """The tokenizer of a checkpoint: from its folder if that is here, otherwise from the service.

    Args:
        loop: of the client; the caller is in another thread.
    """
    if folder is not None and folder.is_dir():
        return LocalTokens(folder)
    return ServedTokens(client, checkpoint, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result())


def _untokenized(refused: Refused) -> UserError:
    return UserError(f"the service gives no token ids ({refused.reason}): give the folder of checkpoints by --home")


@lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer  # takes seconds

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
