"""A program that uses LiteLLM as a client, in an environment of its own: LiteLLM brings 300 MB that nothing else needs.

It reads from standard input what it is to ask (see `test_litellm`), and writes the answers as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # importing it would ask the network for prices
    litellm: Any = importlib.import_module("litellm")  # by name: no requirement of this project
    litellm.suppress_debug_info = True  # else it prints advice beside the result
    questions = json.load(sys.stdin)
    server = {"api_base": questions["api_base"], "api_key": questions["api_key"]}
    connection = {**server, "temperature": 0, "num_retries": 0}
    chat = {"model": f"openai/{questions['model']}", "messages": questions["messages"], "max_tokens": 12, **connection}
    answer = litellm.completion(**chat)
    message = answer.choices[0].message
    chunks = list(litellm.completion(**chat, stream=True, stream_options={"include_usage": True}))
    again = litellm.completion(**{**chat, "messages": [*questions["messages"], message, *questions["messages"]]})
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": questions["schema"], "strict": True}}
    structured = litellm.completion(**{**chat, "max_tokens": 60}, response_format=form)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": questions["schema"]}}]
    called = litellm.completion(**{**chat, "model": f"openai/{questions['caller']}", "max_tokens": 400}, tools=tools)
    text = litellm.text_completion(
        model=f"text-completion-openai/{questions['model']}", prompt=questions["prompt"], max_tokens=12, **connection
    )
    result = {
        "chat": message.content,
        "tokens": answer.usage.completion_tokens,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "streamed_tokens": [chunk.usage.completion_tokens for chunk in chunks if getattr(chunk, "usage", None)],
        "again": again.choices[0].message.content,
        "structured": structured.choices[0].message.content,
        "calls": [call.function.arguments for call in called.choices[0].message.tool_calls],
        "text": text.choices[0].text,
        "unknown": refused(lambda: litellm.completion(**{**chat, "model": "openai/gpt-9"})),
        "embedding": refused(lambda: litellm.embedding(model=chat["model"], input=["x"], **server)),
    }
    json.dump(result, sys.stdout)


def refused(call: Any) -> list[str]:
    """The kind and the message of the exception that a call ends with."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


if __name__ == "__main__":
    main()
