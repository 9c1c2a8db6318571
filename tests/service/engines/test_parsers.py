"""Parsers of tool calls and thoughts, by chat template."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from service.engines import parsers
from service.engines.parsers import Abilities, abilities, arguments, described, parsers_for
from tests.support.families import CHATML, FAMILIES, QWEN_3
from tests.support.tiny_models import TEMPLATE

pytestmark = pytest.mark.unit
HERMES = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for t in tools %}{{ t | tojson }}{% endfor %}<tool_call>{% endif %}"
)
LLAMA_3 = '{% if tools is not none %}{{ \'{"name": f, "parameters": {}}\' }}{% endif %}<|start_header_id|>'


@pytest.mark.parametrize(
    "template, expected",
    [
        (None, Abilities(False)),
        ("", Abilities(False)),
        (CHATML, Abilities(False)),
        (CHATML + "{# it knows no tools #}", Abilities(False)),
        ("{% set tools = [] %}{% for t in tools %}{% endfor %}", Abilities(False)),
        (TEMPLATE, Abilities(True, "hermes")),
        (HERMES + CHATML, Abilities(True, "hermes")),
        (HERMES + QWEN_3, Abilities(True, "hermes", "qwen3")),
        (HERMES.replace("<tool_call>", "<tool_call>\n<function=") + CHATML, Abilities(True, "qwen3_xml")),
        (LLAMA_3, Abilities(True, "llama3_json")),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", Abilities(True, "mistral")),
        ("{{ tools }} in a form that nobody knows", Abilities(True)),
        ("{% generation %}{{ tools }}{% endgeneration %}", Abilities(True)),
        ({"default": CHATML, "tool_use": HERMES}, Abilities(True, "hermes")),
        ({"default": CHATML}, Abilities(False)),
    ],
)
def test_a_template_shows_what_it_can_say(template: str | dict[str, str] | None, expected: Abilities) -> None:
    assert abilities(template) == expected


def test_templates_without_tools_are_known_as_such() -> None:
    assert not any(abilities(family.template).tools for name, family in FAMILIES.items() if name != "named templates")


def test_what_someone_chose_stands_above_the_table() -> None:
    options = parsers_for(HERMES + QWEN_3)
    assert options == {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
    assert arguments(options) == [
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3",
    ]  # fmt: skip
    assert arguments(options, ["--tool-call-parser", "pythonic"]) == ["--reasoning-parser", "qwen3"]
    assert arguments(options, ["--reasoning_parser=deepseek_r1", "--tool-call-parser=x"]) == []
    assert described(HERMES) == {"takes_tools": True, "tool_parser": "hermes"}
    assert described(HERMES, ["--tool-call-parser", "pythonic"])["tool_parser"] == "pythonic"
    assert described(HERMES, ["--x", "--tool-call-parser=pythonic"])["tool_parser"] == "pythonic"
    assert described("{{ tools }}") == {"takes_tools": True, "tool_parser": None}


def names_in_vllm(package: str) -> set[str]:
    """Names that vLLM registers, read from its source: importing it takes long."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / package / "__init__.py").read_text())
    return {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys
            if isinstance(key, ast.Constant) and isinstance(key.value, str)}  # fmt: skip


def test_the_tables_name_parsers_that_vllm_has() -> None:
    assert {name for _, name in parsers.TOOL_PARSERS} <= names_in_vllm("tool_parsers")
    assert {name for _, name in parsers.REASONING_PARSERS} <= names_in_vllm("reasoning")
