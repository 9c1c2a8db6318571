"""Human data is split by its own text, the same in every run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import human_files
from training.artifacts import comparisons
from training.artifacts.errors import UserError
from training.loop import human_data

pytestmark = pytest.mark.unit


def questions(file: Path) -> set[str]:
    return {str(row.messages[0]["content"]) for row in comparisons.read(file)[0]}


def test_parts_share_no_question_and_hold_all(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    parts = {name: questions(file) for name, file in human_data.split([str(files["hh"])], tmp_path / "out").items()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 240
    shares = {name: len(part) / 240 for name, part in parts.items()}
    assert shares == pytest.approx(human_data.PARTS, abs=0.1)


def test_a_conversation_and_its_continuation_are_in_one_part(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    rows = [json.loads(line) for line in files["hh"].read_text().splitlines()]
    longer = [
        {side: f"{row['chosen']}\n\nHuman: and then?\n\nAssistant: {side} it was" for side in ("chosen", "rejected")}
        for row in rows
    ]
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(row) + "\n" for row in (*longer, *rows)))
    parts = {name: questions(file) for name, file in human_data.split([str(more)], tmp_path / "out").items()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 240


def test_the_order_of_the_file_changes_nothing(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(line + "\n" for line in reversed(files["hh"].read_text().splitlines())))
    one = human_data.split([str(files["hh"])], tmp_path / "one")
    other = human_data.split([str(turned)], tmp_path / "other")
    assert {name: file.read_bytes() for name, file in one.items()} == {
        name: file.read_bytes() for name, file in other.items()
    }


def test_too_few_comparisons_are_one_sentence(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(line + "\n" for line in files["hh"].read_text().splitlines()[:20]))
    with pytest.raises(UserError, match=r"20 comparisons leave too few for .*give at least 200"):
        human_data.split([str(few)], tmp_path / "out")


def test_items_are_the_same_whatever_stands_before_them(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    lines = files["hellaswag"].read_text().splitlines()
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(reversed(lines)) + "\n")
    for source, out in ((files["hellaswag"], "one"), (turned, "other")):
        assert human_data.write_items("hellaswag", str(source), tmp_path / out, 3) == 3
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_of_truthfulqa_only_the_single_answer_task_is_measured(tmp_path: Path) -> None:
    files = human_files.write(tmp_path)
    human_data.write_items("truthfulqa", str(files["truthfulqa"]), tmp_path / "items.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert all(row.keys() == {"question", "mc1_targets"} for row in rows)


def test_copies_in_the_data_folder_go_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(human_data.DATA_FOLDER, str(tmp_path))
    assert human_data.source_of("piqa") == "baber/piqa@validation"
    (tmp_path / "icl").mkdir()
    (tmp_path / "icl" / "piqa.jsonl").write_text("{}\n")
    assert human_data.source_of("piqa") == str(tmp_path / "icl" / "piqa.jsonl")
    monkeypatch.delenv(human_data.DATA_FOLDER)
    assert human_data.source_of("piqa") == "baber/piqa@validation"


def test_prompts_too_long_to_rank_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "short"}, {"prompt": "long " * 400}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.messages[0]["content"] for row in human_data.write_pool([str(file)], tmp_path / "out")] == ["short"]
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(UserError, match="hold no prompt of at most 1,000 characters: give others with --prompts"):
        human_data.write_pool([str(file)], tmp_path / "out")


def test_a_source_that_cannot_be_had_is_said_with_the_ways_to_another(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"name another with --data, or a folder of copies with .* ALIGNLOOP_DATA"):
        human_data.split((missing,), tmp_path)
    with pytest.raises(UserError, match="name another with --prompts"):
        human_data.write_pool((missing,), tmp_path / "pool.jsonl")
    with pytest.raises(UserError, match="name another with --eval-data piqa=FILE"):
        human_data.write_items("piqa", missing, tmp_path / "items.jsonl")
