"""Which of vLLM's tool and reasoning parsers reads what a model writes, by its chat template.

A template shows how it writes a call of a tool and a thought, and the parser must know that form. Names are those of
vLLM 0.32 (`vllm/tool_parsers/__init__.py`, `vllm/reasoning/__init__.py`). A template that no row fits has no parser:
whoever knows better names one by an engine option.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOOL_OPTION = "tool_call_parser"
REASONING_OPTION = "reasoning_parser"
# What a template must hold, all of it, to be of a family; the first row that fits counts.
TOOL_PARSERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<｜tool▁calls▁begin｜>", "```json"), "deepseek_v3"),
    (("<｜tool▁calls▁begin｜>",), "deepseek_v31"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("<|channel|>", "<|call|>"), "openai"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<|python_start|>",), "llama4_pythonic"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<tool_call>", "<arg_key>"), "glm45"),
    (("<tool_call>", "<function="), "qwen3_xml"),
    (("<tool_call>", "<|start_of_role|>"), "granite4"),
    (("<|start_of_role|>", "<|tool_call|>"), "granite"),
    (("<function_calls>",), "olmo3"),
    (("<start_function_call>",), "functiongemma"),
    (("<tool_call>",), "hermes"),
    (("<|start_header_id|>", '"parameters"'), "llama3_json"),
    (("<|tool|>", "<|/tool|>"), "phi4_mini_json"),
)  # fmt: skip
REASONING_PARSERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<|channel|>", "<|message|>"), "openai_gptoss"),
    (("<seed:think>",), "seed_oss"),
    (("<｜Assistant｜>", "<think>", "thinking"), "deepseek_v3"),
    (("<｜Assistant｜>", "</think>"), "deepseek_r1"),
    (("[gMASK]", "<think>"), "glm45"),
    (("<|im_start|>", "<think>", "</think>"), "qwen3"),
    (("[THINK]",), "mistral"),
)  # fmt: skip


@dataclass(frozen=True)
class Abilities:
    """What a chat template can say beside plain turns.

    Attributes:
        tools: whether it tells the model about tools.
        tool_parser: vLLM's parser of the calls, None where none is known.
        reasoning_parser: vLLM's parser of the thoughts, None for a model that does not think aloud.
    """

    tools: bool
    tool_parser: str | None = None
    reasoning_parser: str | None = None


def abilities(template: str | Mapping[str, str] | None) -> Abilities:
    """What a template can say. One of several named templates is for tools where it is called `tool_use`."""
    if isinstance(template, Mapping):
        template = template.get("tool_use") or template.get("default") or ""
    text = template or ""
    tools = _reads_tools(text)
    return Abilities(tools, _first(TOOL_PARSERS, text) if tools else None, _first(REASONING_PARSERS, text))


def parsers_for(template: str | Mapping[str, str] | None) -> dict[str, str]:
    """Engine options that a template asks for: `tool_call_parser` and `reasoning_parser`, each where one is known."""
    able = abilities(template)
    options = {TOOL_OPTION: able.tool_parser, REASONING_OPTION: able.reasoning_parser}
    return {name: parser for name, parser in options.items() if parser is not None}


def arguments(options: Mapping[str, str], engine_options: Sequence[str] = ()) -> list[str]:
    """vLLM's arguments for these options; what `engine_options` name already is left out."""
    named = _named(engine_options)
    result: list[str] = []
    if TOOL_OPTION in options and "--tool-call-parser" not in named:
        result += ["--enable-auto-tool-choice", "--tool-call-parser", options[TOOL_OPTION]]
    if REASONING_OPTION in options and "--reasoning-parser" not in named:
        result += ["--reasoning-parser", options[REASONING_OPTION]]
    return result


def described(template: str | Mapping[str, str] | None, engine_options: Sequence[str] = ()) -> dict[str, object]:
    """What gateways need to know: `takes_tools`, and the engine's `tool_parser`.

    Args:
        engine_options: vLLM's arguments that someone chose, which stand above the table.
    """
    able = abilities(template)
    tool_parser = _named(engine_options).get("--tool-call-parser")
    return {"takes_tools": able.tools, "tool_parser": tool_parser or able.tool_parser}


def template_of(tokenizer: Any) -> str | dict[str, str] | None:
    """A tokenizer's chat template, or its templates by name."""
    template: str | dict[str, str] | None = getattr(tokenizer, "chat_template", None)
    return template


def _named(arguments: Sequence[str]) -> dict[str, str]:
    """Values by name, of `--name value` and `--name=value`."""
    named = {}
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument.startswith("--"):
            name, mark, value = argument.partition("=")
            named[name.replace("_", "-")] = value if mark else following
    return named


def _reads_tools(template: str) -> bool:
    if "tools" not in template:
        return False
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return "tools" in meta.find_undeclared_variables(environment.parse(template))
    except jinja2.TemplateSyntaxError:
        return True  # a tag of another engine, such as {% generation %}: the word stands there


def _first(table: Sequence[tuple[tuple[str, ...], str]], text: str) -> str | None:
    return next((name for marks, name in table if all(mark in text for mark in marks)), None)
