"""The documents say what is there: links, files, symbols, commands, options, settings, routes, metrics."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tyro

import evals.__main__ as evals_commands
import service.__main__ as service_commands
import training.__main__ as training_commands
from docs import commands, reference
from evals import gate, options, report
from evals.judges import toxicity, truth
from service import app, auth, metrics
from service.settings import Settings, variable_of
from training.runtime.configuration import parse

pytestmark = pytest.mark.unit
ROOT = reference.ROOT
PACKAGES = ("training", "service", "evals", "docs", "tests")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
EVALS: dict[str, Any] = {"run": options.Config, "gate": gate.Config, "report": report.Config}
JUDGES: dict[str, Any] = {"toxicity": toxicity.Config, "truth": truth.Config}
# Named in documents, but made by commands or brought by users.
NOT_IN_THE_TREE = ("runs/", "HOME/", "path/to", "hub", "policy/", "reward/", "text/", "application/")


@cache
def text_of(path: Path) -> str:
    return path.read_text()


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(path))


def all_pages() -> list[Path]:
    return reference.pages()


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


by_page = pytest.mark.parametrize("page", all_pages(), ids=names(all_pages()))


# What is generated.


def test_generated_parts_are_up_to_date() -> None:
    assert names(list(reference.stale(all_pages()))) == [], "run `make docs`"


def test_every_generated_part_is_used_and_a_stale_one_is_seen() -> None:
    used = {name for page in all_pages() for _, name, _ in reference.BLOCK.findall(text_of(page))}
    assert used == set(reference.BLOCKS)
    page = ROOT / "docs/reference/metrics.md"
    damaged = text_of(page).replace("alignloop_requests_total", "alignloop_requests")
    assert damaged != text_of(page)
    assert reference.refreshed(damaged) == text_of(page)


def test_every_setting_route_metric_and_command_is_named() -> None:
    settings, routes = text_of(ROOT / "docs/reference/settings.md"), text_of(ROOT / "docs/reference/routes.md")
    assert [name for name in Settings.model_fields if f"`{variable_of(name)}`" not in settings] == []
    for route in app.create_app(Settings.model_validate({"database": "sqlite://"})).routes:
        path, access = getattr(route, "path", ""), auth.access_of(route)
        assert any(f"`{path}`" in line and f"`{access}`" in line for line in routes.splitlines()), path
    helps = re.findall(r"^# HELP (alignloop_\w+)", metrics.text().decode(), re.MULTILINE)
    exported = {name for name in helps if not name.endswith("_created")}
    page = text_of(ROOT / "docs/reference/metrics.md")
    assert len(exported) >= 5
    assert [name for name in exported if f"`{name}`" not in page] == []
    page = text_of(ROOT / "docs/reference/commands.md")
    wanted = [f"training {name}" for name in training_commands.MODULES]
    wanted += [f"service {' '.join(words)}" for words in commands.service_names()]
    wanted += [f"evals {name}" for name in evals_commands.COMMANDS]
    assert [name for name in wanted if f"### `python -m {name}" not in page] == []


def test_help_names_presets_and_settings() -> None:
    for stage in training_commands.MODULES:
        assert "--preset" in commands.help_of(commands.run_training, [stage]), stage
    for command in ("serve", "engines"):
        shown = commands.help_of(service_commands.main, [command])
        assert [name for name in Settings.model_fields if variable_of(name) not in shown] == []


def test_help_never_shows_a_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIGNLOOP_KEY", "al-secret")
    with pytest.raises(SystemExit):
        commands.run_training(["loop", "--help"])
    shown = capsys.readouterr().out
    assert "ALIGNLOOP_KEY" in shown
    assert "al-secret" not in shown


def test_every_field_of_a_file_format_has_a_meaning() -> None:
    rows = [
        line for line in text_of(ROOT / "docs/reference/formats.md").splitlines() if re.match(r"\| `\w+` \| `", line)
    ]
    assert len(rows) > 60
    assert [row for row in rows if row.split("|")[-2].strip() == ""] == []


# What is named.


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"\w+://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page
def test_no_line_numbers(page: Path) -> None:
    assert re.findall(r"\.(?:py|toml|html|js):\d+", text_of(page)) == []


@by_page
def test_files_and_symbols_are_there(page: Path) -> None:
    """In prose, `folder/file.py` is there, and so are the `symbols` right after it, up to the next path."""
    made = set(re.findall(r"^# (\S+\.py)$", text_of(page), re.MULTILINE))  # by the reader of a how-to
    missing = []
    for line in prose(page).splitlines():
        file: Path | None = None
        for cell in re.split(r"(?<!\\)\|", line):
            file = None
            for word, gap in re.findall(r"`([^`\n]+)`([^`]*)", cell):
                if is_path(word):
                    file = ROOT / word
                    if not file.exists() and word not in made:
                        missing.append(word)
                elif file is not None and file.suffix == ".py" and is_symbol(word) and word not in symbols(file):
                    missing.append(f"{file.relative_to(ROOT)} {word}")
                if gap.strip(" ,") not in ("", "and"):
                    file = None
    assert missing == []


def is_symbol(word: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*", word))


def is_path(word: str) -> bool:
    known = word.split("/")[0] in {p.name for p in ROOT.iterdir()} and "/" in word
    return bool(known and PATH.fullmatch(word) and not word.startswith(NOT_IN_THE_TREE))


@cache
def symbols(file: Path) -> set[str]:
    """Functions, classes and variables of a module, and `Class.member`."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body if file.suffix == ".py" else []:
        for name in defined(node):
            found.add(name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{member}" for inner in node.body for member in defined(inner)}
    return found


def defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_the_map_of_the_paper_answers_where_gamma_is() -> None:
    page = text_of(ROOT / "docs/paper.md")
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and "---" not in line and "| fact |" not in line
    ]
    assert len(rows) > 50
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert any("gamma 27.8" in row and "`Config.ptx_coefficient`" in row for row in rows)


def test_environment_variables_of_code_and_documents_are_the_same() -> None:
    used = set()
    for path in [*python_files(), ROOT / "requirements/install.sh"]:
        if path != Path(__file__):
            used |= set(re.findall(r"ALIGNLOOP_[A-Z_]*[A-Z0-9]", path.read_text()))
    used |= {variable_of(name) for name in Settings.model_fields}
    named = {name for page in all_pages() for name in re.findall(r"ALIGNLOOP_[A-Z_]*[A-Z0-9]", text_of(page))}
    assert named - used - {"ALIGNLOOP_NAME"} == set()
    assert used - named - {"ALIGNLOOP_NAME"} == set()


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in all_pages():
        named = re.findall(r"(?:^|`)make ([a-z]+)", text_of(page), re.MULTILINE)
        assert set(named) <= targets, page


def test_messages_of_the_page_of_errors_are_those_of_the_code() -> None:
    page = text_of(ROOT / "docs/errors.md")
    quoted = [row.split("|")[1].strip() for row in page.splitlines() if row.startswith('| "')]
    assert len(quoted) >= 20
    said = "\n".join(constants())
    for message in quoted:
        for part in re.split(r"\s*\.\.\.\s*", message.strip('"')):
            assert part in said, part


def python_files(*packages: str) -> list[Path]:
    return [path for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def constants() -> Iterator[str]:
    """Every string of our own code; an f-string as its literal parts, joined by a space for what is filled in."""
    for path in python_files("training", "service", "evals"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(v.value) if isinstance(v, ast.Constant) else " " for v in node.values)


# Commands.


def fenced_commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every `python -m ...` in a fenced block, comments and variables before it left off."""
    for page in all_pages():
        for language, block in FENCE.findall(text_of(page)):
            if language == "python" or page.name == "commands.md":
                continue
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(?:[A-Z_]+=\S+ )*python -m ", line):
                    words = shlex.split(line, comments=True)
                    yield str(page.relative_to(ROOT)), words[words.index("-m") + 1 :]


@pytest.mark.parametrize("page,words", list(fenced_commands()))
def test_commands_in_blocks_parse(page: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Through the real parsers, values included; nothing is run."""
    try:
        parse_command(words)
    except SystemExit:
        pytest.fail(f"{page}: {shlex.join(words)}\n{capsys.readouterr().err or capsys.readouterr().out}")


def parse_command(words: list[str]) -> None:
    package, *rest = words[0].split(".") + words[1:]
    if package == "service":
        service_commands.parser().parse_args(rest)
    elif package == "training":
        module = importlib.import_module(training_commands.MODULES[rest[0]])
        arguments = ["demo" if word.endswith(".toml") else word for word in rest[1:]]
        parse(config_of(module), rest[0], arguments)
    elif rest[0] == "judges":
        tyro.cli(JUDGES[rest[1]], args=rest[2:])
    else:
        tyro.cli(EVALS[rest[0]], args=rest[1:])


def config_of(module: Any) -> Any:
    """The dataclass of a stage's options."""
    own = [
        v
        for n, v in vars(module).items()
        if n.endswith("Config") and is_dataclass(v) and v.__module__ == module.__name__
    ]
    assert len(own) == 1
    return own[0]


def inline_commands() -> list[tuple[str, str]]:
    found = []
    for page in all_pages():
        for code in CODE.findall(prose(page)):
            if code.startswith("python -m ") and not re.search(r"[…{]|\.\.\.", code):
                found.append((str(page.relative_to(ROOT)), code))
    return found


@pytest.mark.parametrize("page,code", inline_commands())
def test_commands_in_sentences_exist(page: str, code: str) -> None:
    package, *words = code.removeprefix("python -m ").replace("evals.", "evals ").split()
    if package.startswith("tests.benchmarks."):
        text = (ROOT / f"{package.replace('.', '/')}.py").read_text()
        if "beside_trl.options(" in text:
            text += (ROOT / "tests/support/beside_trl.py").read_text()
        assert [word for word in words if word.startswith("--") and f'"{word}"' not in text] == []
        return
    if not words or words[0].isupper() or package in ("pytest", "docs.reference"):
        return
    named = words[0] + (f" {words[1]}" if words[0] in ("keys", "labelers", "judges") and words[1:2] else "")
    shown = text_of(ROOT / "docs/reference/commands.md")
    section = re.search(
        rf"### `python -m {package} {re.escape(named)}[^\n]*`\n(.*?)(?=\n### |\n## |\Z)", shown, re.DOTALL
    )
    assert section or any(f"`python -m {package} {named} " in line for line in shown.splitlines()), f"{page}: {code}"
    options = [word.split("=")[0] for word in words if word.startswith("--") and word != "--help"]
    assert section is None or [o for o in options if o not in section[1]] == [], f"{page}: {code}"


@pytest.mark.parametrize("package", ["training", "service", "evals"])
def test_the_front_doors_list_their_commands(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    main: Callable[..., Any] = importlib.import_module(f"{package}.__main__").main
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", [package, "--help"])
        main()
    shown = capsys.readouterr().out
    listed = {"training": training_commands.MODULES, "evals": evals_commands.COMMANDS, "service": ["serve", "keys"]}
    assert [name for name in listed[package] if name not in shown] == []
