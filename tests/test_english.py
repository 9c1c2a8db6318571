"""Plain English: "per" for rates, names that say what a value is, and none of the phrases that readers stumble on.

A rule that hits a good sentence is a bad rule: change it here, with an example below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
CODE = ("training/**/*.py", "service/**/*.py", "evals/**/*.py", "docs/*.py", "deploy/**/*.py", "tests/support/*.py")
PROSE = (
    *CODE,
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md", "deploy/**/*.md", "Makefile", "training/**/*.toml",
    "evals/templates/*", "service/templates/*", "service/static/*.js",
)  # fmt: skip

# They say that a value was produced, not what it is.
EMPTY_NAMES = frozenset(
    ("found", "asked", "made", "there", "wanted", "told", "drawn", "kept", "chosen", "given", "said")
)
PREFERENCE = "rejected"  # beside this word, `chosen` is the field's name for the preferred response

_AMOUNT = (
    r"(?:nats?|bits?|tokens?|characters?|words?|bytes?|rows?|lines?|items?|dots?|steps?|threads?|passe?s?|forwards?"
    r"|entr(?:y|ies)|pairs?|samples?|responses?|answers?|prompts?|calls?|requests?|files?|figures?|scores?|seeds?"
    r"|colou?rs?|numbers?|documents?|labels?|messages?|models?|columns?|keys?|values?|once|loss(?:es)?|means?"
    r"|cross-entropy|entropy|log-probability|log-probabilities|KL|reward|KiB|MiB|GiB|kB|MB|GB)"
)
_WHOLE = (
    r"(?:tokens?|bytes?|character|row|line|response|answer|prompt|pair|metric|system|minibatch|micro-batch|batch|core"
    r"|step|iteration|episode|rollout|conversation|file|word|user|labeler|group|name|model|item|document|question"
    r"|turn|call|parameter|checkpoint|kind|engine|run|stage|suite|side|sentence|set|head|layer|position|text|message"
    r"|process|shard|split)"
)
# "gives each response a score" has two objects and is no rate.
_TWO_OBJECTS = r"(?:giv|gave|assign|hand|send|sent|call|nam|cost|sav|show|mak|ask|teach|tell)\w*\s+(?:[\w-]+\s+){0,3}$"
_AFTER_NO = r"(?:longer|more|less|such|other|need|reason|way|doubt|point|room|difference)\b"

PHRASES = {
    rf"\b{_AMOUNT}\s+an?\s+{_WHOLE}\b": "say `per`",
    rf"(?<!there )\b(?:is|are)\s+no\s+(?!{_AFTER_NO})\w+": "say `is not a`",
    r"\bsome\s+times\b": "say `several times`",
    r"\b(?:goes|go|went)\s+on\s+(?:from|where|with\b|serving|meaning)": "say `resumes`, `continues`",
    r"\btakes?\s+(?:that|it)\s+back\b": "say `withdraw`",
    r"\bbelongs\s+nowhere\b": "say `is not a known …`",
    r"\bstands\s+above\b": "say `see the message above`",
    r"\bas\s+able\s+as\b": "say what is kept",
    r"\bthis\s+very\s+\w+": "say `this`",
    r"\bwhat\s+tells\s+(?:it|them)\s+from\b": "say `unique key`",
}


def covered(patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                yield path


def phrases(text: str) -> list[tuple[int, str, str]]:
    """(line, words, advice) of each phrase to avoid, also across line ends and comment marks."""
    flat = re.sub(r"[\n#\"'`*]", " ", text)  # of the same length, so that offsets still tell the line
    hits = []
    for pattern, advice in PHRASES.items():
        for match in re.finditer(pattern, flat, re.IGNORECASE):
            if advice == "say `per`" and re.search(_TWO_OBJECTS, flat[: match.start()], re.IGNORECASE):
                continue
            hits.append((text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), advice))
    return sorted(hits)


def assigned(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, parameter, field, attribute, function and class that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def bad_names(source: str) -> list[tuple[int, str]]:
    """(line, name) of each name that says nothing, or says `a` where it means `per`."""
    return [
        (line, name)
        for line, name in assigned(ast.parse(source))
        if re.search(r"[a-z0-9]_an?_[a-z0-9]", name, re.IGNORECASE)
        or (name.strip("_").lower() in EMPTY_NAMES and not (name == "chosen" and PREFERENCE in source))
    ]


def test_sentences_are_plain() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}: {advice}"
        for path in covered(PROSE)
        for line, words, advice in phrases(path.read_text())
    ]
    assert not hits, "\n" + "\n".join(hits)


def test_names_say_what_a_value_is() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in covered(CODE)
        for line, name in bad_names(path.read_text())
    ]
    assert not hits, "\n" + "\n".join(hits)


@pytest.mark.parametrize(
    "text",
    [
        "loss on held-out text, nats a token",
        "bits a byte",
        "One item a pair that a labeler ordered",
        "# One optimizer step\n    # a minibatch",
        "a line a metric and a dot a system",
        "One thread a core",
        "Run a stage once a name",
        "gives the mean loss of the batch, tokens a step",
        "runs/x is no world",
        "descriptions are no data",
        "several, some times faster",
        "the run goes on from step 3",
    ],
)
def test_stumbling_blocks_are_noticed(text: str) -> None:
    assert len(phrases(text)) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "nats per token",
        "gives each response a score per token",
        "assigns every prompt a split",
        "the run is no longer in progress, and there is no file; there are no rows",
        "a token, a row and a batch",
        "one row per response: a response of one token",
        "at some time it resumes from a step",
    ],
)
def test_good_sentences_pass(text: str) -> None:
    assert phrases(text) == []


@pytest.mark.parametrize(
    "source, names",
    [
        ("found = 1", ["found"]),
        ("for made in (): pass", ["made"]),
        ("def f(wanted): self.kept = [there for there in wanted]", ["wanted", "kept", "there"]),
        ("STEPS_A_RUN = steps_an_iteration = 2", ["STEPS_A_RUN", "steps_an_iteration"]),
        ("def _asked(): ...", ["_asked"]),
        ("with x as told: (drawn := 1)", ["told", "drawn"]),
        ("chosen = 1", ["chosen"]),
        ("chosen, rejected = pair", []),
        ("foundation = unmade = print('found')", []),
        ("schema_and_data = make_a = 1", []),
    ],
)
def test_names_are_noticed_wherever_they_are_assigned(source: str, names: list[str]) -> None:
    assert sorted(name for _, name in bad_names(source)) == sorted(names)
