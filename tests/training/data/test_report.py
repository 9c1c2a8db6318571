"""`python -m training data` in its own process, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tiny_models
from training.artifacts.errors import UserError
from training.artifacts.layouts import demonstrations
from training.data.report import main

pytestmark = pytest.mark.unit


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    made = [{"prompt": f"Prompt number {i}", "response": "An answer", "user": f"u{i % 20}"} for i in range(60)]
    made += [{"prompt": "Whose?", "response": "me@example.org", "user": "u1"}, {"prompt": "a", "response": ""}]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


def test_report_says_what_is_used_and_why_not(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kind", "demonstrations", "--source", str(rows), "--validation", "0"]) == 0
    printed = capsys.readouterr().out
    assert "rows read 62, used 61 (98.4%)" in printed
    assert "left out 1: `response` is empty" in printed
    assert "after hygiene: training 60, validation 0 (split by user)" in printed
    assert "left out 1: it contains an email address" in printed


def test_written_splits_are_clean_disjoint_and_readable(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["--kind", "demonstrations", "--source", str(rows), "--validation", "0.3", "--out", str(out)])
    train = demonstrations.load(str(out / "train.jsonl"))
    validation = demonstrations.load(str(out / "validation.jsonl"))
    assert not train.skipped
    assert not validation.skipped
    assert len(train.records) + len(validation.records) == 60 + any(
        "@" in r.messages[1]["content"] for r in validation.records
    )
    assert not {r.user for r in train.records} & {r.user for r in validation.records}
    assert all("@" not in message["content"] for record in train.records for message in record.messages)


def test_tokens_are_counted_with_a_tokenizer(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_models.tokenizer().save_pretrained(tmp_path / "tokenizer")
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "word " * 300, "response": "long"}) + "\n")
        file.write(json.dumps({"prompt": "forged <|assistant|> turn", "response": "no"}) + "\n")
    arguments = ["--kind", "demonstrations", "--source", str(rows), "--context", "256"]
    main([*arguments, "--tokenizer", str(tmp_path / "tokenizer")])
    printed = capsys.readouterr().out
    assert "tokens" in printed
    assert "left out 1: longer than 256 tokens" in printed
    assert "left out 1: contains the special token '<|assistant|>': remove it from the text" in printed


def test_rendered_rows_are_shown_with_what_is_learned(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_models.tokenizer().save_pretrained(tmp_path / "tokenizer")
    arguments = ["--kind", "demonstrations", "--source", str(rows), "--tokenizer", str(tmp_path / "tokenizer")]
    main([*arguments, "--show", "3"])
    printed = capsys.readouterr().out
    shown = "".join(f"<|user|>Prompt number {i}<|assistant|>An answer<|end|>" for i in range(3))
    assert shown in printed.replace("\n", "").replace(" <|user|>", "<|user|>")
    assert "Prompt number 3" not in printed
    assert set(tmp_path.iterdir()) == {rows, tmp_path / "tokenizer"}, "nothing is written"


@pytest.mark.parametrize("kind", ["comparisons", "prompts", "pretraining"])
def test_every_kind_of_row_is_shown(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_models.tokenizer().save_pretrained(tmp_path / "tokenizer")
    row = {
        "comparisons": {"prompt": "Which?", "chosen": "this", "rejected": "that"},
        "prompts": {"prompt": "Which?"},
        "pretraining": {"text": "Which?"},
    }[kind]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "user": "u"}) + "\n")
    arguments = ["--kind", kind, "--source", str(tmp_path / "rows.jsonl"), "--validation", "0"]
    main([*arguments, "--tokenizer", str(tmp_path / "tokenizer"), "--show", "1"])
    printed = capsys.readouterr().out
    expected = {
        "comparisons": ["<|user|>Which?<|assistant|>this<|end|>", "<|user|>Which?<|assistant|>that<|end|>"],
        "prompts": ["<|user|>Which?<|assistant|>"],
        "pretraining": ["Which?<|end|>"],
    }[kind]
    assert [line.strip() for line in printed.splitlines() if "Which?" in line] == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--kind", "demonstrations", "--source", "no/such.jsonl"],
            "error: no/such.jsonl does not exist: give the path",
        ),
        (["--kind", "pretraining", "--source", "README.md"], "error: README.md has an unknown format"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("text")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "training", "data", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_one_row_is_a_report_and_no_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    arguments = ["--kind", "demonstrations", "--source", str(file), "--validation", "0.5"]
    for question in "abcdefghijklmnopqrstuvwxyz":  # until one falls into validation
        file.write_text(json.dumps({"prompt": question, "response": "yes"}) + "\n")
        assert main(arguments) == 0
        if "training 0" in (printed := capsys.readouterr().out):
            break
    assert "training 0, validation 1: too few users or prompts for a split" in printed
    with pytest.raises(UserError, match="fell into validation: lower --validation"):
        main([*arguments, "--out", str(tmp_path / "out")])


def test_a_tokenizer_that_ends_no_turn_is_refused_as_by_the_stages(rows: Path, tmp_path: Path) -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="nothing ends an assistant's turn"):
        main(["--kind", "demonstrations", "--source", str(rows), "--tokenizer", str(tmp_path / "tokenizer")])
