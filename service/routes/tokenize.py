"""`POST /tokenize`: texts and conversations as the model reads them, for those who score token ids."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from service.auth import Caller, require
from service.endpoints import Endpoint
from service.errors import ApiError, error_answers
from service.messages import refused
from service.schemas import TokenizeAnswer, TokenizeRequest
from service.state import gateway_of
from service.tokenizers import load_tokenizer
from training.artifacts.checkpoints import MANIFEST
from training.artifacts.conversations import Message, Refusal, read_messages

router = APIRouter()


@router.post("/tokenize", response_model_exclude_none=True, responses=error_answers(404, 503))
async def tokenize(
    request: Request, body: TokenizeRequest, caller: Annotated[Caller, Depends(require("generate"))]
) -> TokenizeAnswer:
    """Token ids of texts, or of a conversation with the text that the chat template makes of it.

    A prompt that is one text gives one list of ids, several texts a list of lists.
    """
    state = gateway_of(request)
    endpoint = state.endpoints.find(body.model, "policy")
    request.state.model = endpoint.checkpoint
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "give either `prompt` or `messages`", param="prompt", code="missing_field")
    if body.continue_final_message and body.add_generation_prompt:
        message = "a turn that goes on needs no new one: send `add_generation_prompt` as false"
        raise ApiError(400, message, param="continue_final_message", code="invalid_value")
    if not (endpoint.folder / MANIFEST).is_file():
        raise ApiError(503, f"this gateway has no folder of {endpoint.checkpoint}: share the checkpoint store with it")
    work = asyncio.get_running_loop().run_in_executor(state.scoring_pool, _tokenized, endpoint, body)
    return await work


def _tokenized(endpoint: Endpoint, body: TokenizeRequest) -> TokenizeAnswer:
    tokenizer = load_tokenizer(endpoint.folder)
    prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    text = None
    if body.messages is not None:
        text = _rendered(tokenizer, endpoint, body)
        tokens: Any = _ids(tokenizer, [text], special=False)[0]
    elif isinstance(body.prompt, str):
        tokens = _ids(tokenizer, [body.prompt], special=body.add_special_tokens)[0]
    else:
        tokens = _ids(tokenizer, body.prompt or [], special=body.add_special_tokens)
    return TokenizeAnswer(
        model=endpoint.checkpoint,
        tokens=tokens,
        text=text,
        prefix_token_id=prefix,
        prefix_text="" if prefix is None else tokenizer.decode(prefix),
    )


def _ids(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    # Without arguments as far as possible: some tokenizers keep their own default.
    options = {} if special else {"add_special_tokens": False}
    return [list(ids) for ids in tokenizer(texts, **options)["input_ids"]] if texts else []


def _rendered(tokenizer: Any, endpoint: Endpoint, body: TokenizeRequest) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ApiError(400, f"{endpoint.checkpoint} has no chat template", param="messages", code="invalid_value")
    turns = read_messages([turn.model_dump() for turn in body.messages or []])
    if isinstance(turns, Refusal):
        raise refused(turns)
    # Of a template that takes no system turn lm-eval leaves it out, too.
    without_system = [turn for turn in turns if turn["role"] != "system"]
    reason = None
    for attempt in (turns, without_system) if without_system else (turns,):
        try:
            return _render(tokenizer, attempt, body)
        except Exception as error:  # a template is a program by strangers: it fails with any error of Python
            reason = reason or str(error) or type(error).__name__
    raise ApiError(400, f"the template refuses the conversation: {reason}", param="messages", code="invalid_value")


def _render(tokenizer: Any, turns: list[Message], body: TokenizeRequest) -> str:
    return str(
        tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
        )
    )
