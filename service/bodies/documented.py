"""What OpenAI's bodies look like, for the OpenAPI document: requests by the allow-lists of `fields`, answers by kind.

A request is checked by `fields` and its neighbours, an answer by the engine that writes it; nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.bodies.fields import FORWARDED, IGNORED, MOST_CHOICES, NEUTRAL
from service.bodies.tools import MOST_TOOLS
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES
from service.ranking import MOST_ANSWERS, REWARD_MODEL

Schema = dict[str, Any]
TEXT, NUMBER, WHOLE, FLAG, OBJECT = ({"type": kind} for kind in ("string", "number", "integer", "boolean", "object"))
IDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
TEXTS: Schema = {"type": "array", "items": TEXT}
TOKENS = WHOLE | {"minimum": 0}
KINDS: Mapping[type, Schema] = {str: TEXT, dict: OBJECT, bool: FLAG}
REQUIRED = {COMPLETIONS: "prompt", CHAT: "messages", RESPONSES: "input"}

PARTS: Schema = {
    "type": "array",
    "items": {"type": "object", "properties": {"type": TEXT, "text": TEXT}, "required": ["type", "text"]},
}
CALL: Schema = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "type": {"enum": ["function"]},
        "function": {
            "type": "object",
            "properties": {"name": TEXT, "arguments": TEXT | {"description": "JSON"}},
            "required": ["name", "arguments"],
        },
    },
    "required": ["function"],
}
MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [TEXT, PARTS, {"type": "null"}]},
        "name": TEXT,
        "tool_calls": {"type": "array", "items": CALL},
        "tool_call_id": TEXT,
        "reasoning": TEXT,
    },
    "required": ["role"],
    "description": "a turn; an answer of the service is one as it came, fields that hold nothing are left out",
}
TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": ["function"]},
        "function": {
            "type": "object",
            "properties": {
                "name": TEXT | {"pattern": "^[A-Za-z0-9_.-]{1,64}$"},
                "description": TEXT,
                "parameters": OBJECT | {"description": "a JSON schema"},
                "strict": FLAG,
            },
            "required": ["name"],
        },
    },
    "required": ["type"],
    "description": "a function that the model may call; in /v1/responses its fields stand beside `type`",
}
STREAM_OPTIONS: Schema = {
    "type": "object",
    "properties": {"include_usage": FLAG, "continuous_usage_stats": FLAG, "include_obfuscation": FLAG},
    "additionalProperties": False,
}
FIELDS: Mapping[str, Schema] = {
    "model": TEXT | {"description": "a checkpoint or an alias, see `GET /v1/models`"},
    "prompt": {"anyOf": [TEXT, TEXTS, IDS, {"type": "array", "items": IDS}]},
    "messages": {"type": "array", "items": MESSAGE},
    "input": {"anyOf": [TEXT, {"type": "array", "items": OBJECT}]},
    "instructions": TEXT | {"description": "a system turn before the input"},
    "stream": FLAG,
    "stream_options": STREAM_OPTIONS,
    "n": WHOLE | {"minimum": 1, "maximum": MOST_CHOICES},
    "temperature": NUMBER | {"minimum": 0},
    "top_p": NUMBER | {"exclusiveMinimum": 0, "maximum": 1},
    "top_k": WHOLE | {"description": "0 or -1: all tokens"},
    "min_p": NUMBER | {"minimum": 0, "maximum": 1},
    "seed": WHOLE,
    "stop": {"anyOf": [TEXT, TEXTS]},
    "stop_token_ids": IDS | {"description": "beside the template's own ends of turn"},
    "ignore_eos": FLAG,
    "presence_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "frequency_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "repetition_penalty": NUMBER | {"exclusiveMinimum": 0},
    "logit_bias": OBJECT | {"additionalProperties": NUMBER},
    "skip_special_tokens": FLAG,
    "include_stop_str_in_output": FLAG,
    "spaces_between_special_tokens": FLAG,
    "max_tokens": TOKENS,
    "max_completion_tokens": TOKENS,
    "max_output_tokens": TOKENS,
    "min_tokens": TOKENS,
    "max_tool_calls": WHOLE,
    "logprobs": {"anyOf": [TOKENS, FLAG], "description": "a number in /v1/completions, true or false in a chat"},
    "top_logprobs": TOKENS,
    "prompt_logprobs": WHOLE,
    "logprob_token_ids": IDS,
    "return_token_ids": FLAG,
    "return_tokens_as_token_ids": FLAG,
    "echo": FLAG,
    "add_special_tokens": FLAG,
    "add_generation_prompt": FLAG,
    "continue_final_message": FLAG,
    "response_format": {
        "type": "object",
        "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}, "json_schema": OBJECT},
        "required": ["type"],
    },
    "text": {"type": "object", "properties": {"format": OBJECT, "verbosity": TEXT}, "additionalProperties": False},
    "tools": {"type": "array", "items": TOOL, "maxItems": MOST_TOOLS},
    "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, OBJECT], "description": "a word, or a function"},
    "parallel_tool_calls": FLAG,
    "reasoning": OBJECT,
    "reasoning_effort": TEXT,
    "include_reasoning": FLAG,
    "include": TEXTS,
    "truncation": TEXT,
    "metadata": OBJECT,
}
RANKING: Mapping[str, Schema] = {
    "rank_by": {"enum": ["reward"], "description": "return the best of `best_of` answers by a reward model"},
    "best_of": WHOLE | {"minimum": 1, "maximum": MOST_ANSWERS},
    "reward_model": TEXT | {"description": f"a checkpoint or an alias ({REWARD_MODEL})"},
}

# One event of a stream, as OpenAPI 3.1 has it.
EVENT: Schema = {
    "type": "object",
    "properties": {"event": TEXT, "data": TEXT | {"description": "JSON as OpenAI streams it, or [DONE]"}},
    "required": ["data"],
    "description": "with `stream`: each event",
}


def request_schema(path: str) -> Schema:
    """The JSON schema of a route's request. Null is taken for every field, known or not: it asks for nothing."""
    neutral = {name: {"enum": list(values)} for name, values in NEUTRAL[path].items()}
    ignored = {name: KINDS[kind] | {"description": "taken, without an effect here"} for name, kind in IGNORED.items()}
    taken = {name: FIELDS[name] for name in sorted(FORWARDED[path])}
    properties = {**neutral, **ignored, **(RANKING if path == CHAT else {}), **taken}
    required = ["model", REQUIRED[path]]
    return {
        "type": "object",
        "properties": {
            name: schema if name in required else {"anyOf": [schema, {"type": "null"}]}
            for name, schema in properties.items()
        },
        "required": required,
        "additionalProperties": {"type": "null"},
    }


class Answer(BaseModel):
    """What is said of an answer here is there; vLLM adds fields of its own."""

    model_config = ConfigDict(extra="allow")


class Usage(Answer):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None


class TextChoice(Answer):
    index: int
    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class CompletionAnswer(Answer):
    """The answer of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str = Field(description="the immutable checkpoint id")
    choices: list[TextChoice]
    usage: Usage | None = None


class Function(Answer):
    name: str
    arguments: str = Field(description="JSON")


class ToolCall(Answer):
    id: str
    type: Literal["function"]
    function: Function


class ChatMessage(Answer):
    role: str
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Answer):
    """A choice; `score` is its reward where the request ranks."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    score: float | None = None


class RankingAnswer(BaseModel):
    """The reward model, and the scores of all answers that were sampled, null for one that could not be scored."""

    model: str
    scores: list[float | None]


class ChatAnswer(Answer):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="the immutable checkpoint id")
    choices: list[ChatChoice]
    usage: Usage | None = None
    ranking: RankingAnswer | None = None


class ResponseUsage(Answer):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class OutputItem(Answer):
    """A message, a call of a function, or thoughts."""

    type: str


class ResponsesAnswer(Answer):
    """The answer of /v1/responses."""

    id: str
    object: Literal["response"]
    created_at: float
    model: str = Field(description="the immutable checkpoint id")
    status: str
    output: list[OutputItem]
    usage: ResponseUsage | None = None


ANSWERS: Mapping[str, type[Answer]] = {COMPLETIONS: CompletionAnswer, CHAT: ChatAnswer, RESPONSES: ResponsesAnswer}


def answer_model(path: str) -> type[Answer]:
    """What a route's answer holds."""
    return ANSWERS[path]
