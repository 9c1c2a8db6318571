"""Rendered rows come from the cache at a second start, and are rendered anew when anything that shapes them changes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny_models
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import reading, rendering, splits
from training.data.documents import document_marks
from training.data.items import Rows
from training.data.reading import DataKind

pytestmark = pytest.mark.unit

ROWS: dict[str, list[dict[str, Any]]] = {
    "demonstrations": [{"prompt": f"Say {i}", "response": f"word {i}", "user": f"u{i}"} for i in range(5)],
    "comparisons": [{"prompt": f"Say {i}", "chosen": f"word {i}", "rejected": "no"} for i in range(5)],
    "prompts": [{"prompt": f"Say {i}"} for i in range(5)],
    "pretraining": [{"text": f"word {i}"} for i in range(5)],
}


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


def read(home: Path, kind: str, path: Path, *, tokenizer: Any = None, context: int = 64, **options: Any) -> Rows[Any]:
    """A file of this kind as a stage reads it."""
    tokenizer = tokenizer or tiny_models.tokenizer()
    kinds: dict[str, tuple[DataKind, Callable[..., Rows[Any]]]] = {
        "demonstrations": (reading.DEMONSTRATIONS, rendering.demonstrations),
        "comparisons": (reading.COMPARISONS, rendering.comparisons),
        "prompts": (reading.PROMPTS, rendering.prompts),
    }
    if kind == "pretraining":
        selection = reading.select(reading.DOCUMENTS, str(path), **options)
        return rendering.documents(home, selection, tokenizer, document_marks(tokenizer))
    data_kind, render = kinds[kind]
    return render(home, reading.select(data_kind, str(path), **options), Renderer(tokenizer), context)


def plain(rows: Rows[Any]) -> list[Any]:
    """The items as lists, for comparison."""
    return [
        item.tolist()
        if isinstance(item, np.ndarray)
        else [getattr(part, "tolist", lambda p=part: p)() for part in item]
        for item in rows.items
    ]


def caches(home: Path) -> set[str]:
    return {folder.name for folder in (home / "cache").iterdir()}


@pytest.mark.parametrize("kind", ROWS)
def test_a_second_start_renders_and_reads_nothing(
    kind: str, source: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source([*ROWS[kind], {"unknown": 1}])
    first = read(tmp_path, kind, path)

    def forbidden(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("rows are read again")

    monkeypatch.setattr(reading, "entries", forbidden)
    second = read(tmp_path, kind, path)
    assert plain(first) == plain(second)
    assert len(second) == 5
    assert first.usage == second.usage
    assert second.usage.sentence().startswith(f"{kind}: used 5 of 6 rows; left out: 1 x ")
    assert first.contents.tolist() == second.contents.tolist()


def test_a_file_changed_with_equal_size_and_time_is_seen(source: Callable[..., Path], tmp_path: Path) -> None:
    path = source(ROWS["prompts"])
    before, stat = read(tmp_path, "prompts", path), path.stat()
    path.write_text(path.read_text().replace("Say 3", "Say 9"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert plain(read(tmp_path, "prompts", path)) != plain(before)


def test_a_renamed_file_is_not_rendered_again(source: Callable[..., Path], tmp_path: Path) -> None:
    read(tmp_path, "prompts", source(ROWS["prompts"]))
    before = caches(tmp_path)
    moved = read(tmp_path, "prompts", source(ROWS["prompts"], "other.jsonl"))
    assert caches(tmp_path) == before
    assert moved.usage.sources[0].path.endswith("other.jsonl")


def changed_template(tokenizer: Any) -> Any:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|> ")
    return tokenizer


def with_token(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["word"])
    return tokenizer


@pytest.mark.parametrize(
    "change",
    [
        {"context": 63},
        {"limit": 4},
        {"limit": 4, "seed": 1},
        {"hygiene": True},
        {"tokenizer": changed_template(tiny_models.tokenizer())},
        {"tokenizer": with_token(tiny_models.tokenizer())},
    ],
)
def test_whatever_shapes_rows_is_in_the_key(
    change: dict[str, Any], source: Callable[..., Path], tmp_path: Path
) -> None:
    path = source(ROWS["demonstrations"])
    read(tmp_path, "demonstrations", path)
    read(tmp_path, "demonstrations", path, **change)
    assert len(caches(tmp_path)) == 2
    read(tmp_path, "demonstrations", path, **change)
    assert len(caches(tmp_path)) == 2


def test_other_code_renders_anew(source: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(ROWS["prompts"])
    read(tmp_path, "prompts", path)
    monkeypatch.setattr(rendering, "_code_hash", lambda: "another version")
    read(tmp_path, "prompts", path)
    assert len(caches(tmp_path)) == 2


def test_a_failure_half_way_leaves_no_cache(
    source: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "PART_RECORDS", 2)
    path = source([*ROWS["prompts"], *ROWS["prompts"]])
    calls = iter(range(100))
    original = Renderer.prompts

    def failing(self: Renderer, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 2:
            raise UserError("damaged")
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "prompts", failing)
        with pytest.raises(UserError, match="damaged"):
            read(tmp_path, "prompts", path)
    assert caches(tmp_path) == set()
    assert len(read(tmp_path, "prompts", path)) == 10


@pytest.mark.parametrize("kind", ROWS)
def test_parts_give_what_one_part_gives(
    kind: str, source: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(ROWS[kind])
    whole = plain(read(tmp_path / "whole", kind, path))
    monkeypatch.setattr(rendering, "PART_RECORDS", 2)
    assert plain(read(tmp_path / "parts", kind, path)) == whole
    monkeypatch.setattr(rendering, "PART_CHARACTERS", 1)
    assert plain(read(tmp_path / "single", kind, path)) == whole


def test_items_are_views_of_the_cache(source: Callable[..., Path], tmp_path: Path) -> None:
    rows = read(tmp_path, "pretraining", source(ROWS["pretraining"]))
    assert isinstance(rows.items.values.base, np.memmap)
    assert rows.items[3].base is rows.items.values
    taken = rows.take(np.array([3, 1]))
    assert np.shares_memory(taken.items[0], rows.items.values)
    assert taken.items[0].tolist() == rows.items[3].tolist()
    assert not rows.items.values.flags.writeable


def test_learned_turns_are_the_renderer_s(source: Callable[..., Path], tmp_path: Path) -> None:
    turns = [{"role": ("user", "assistant")[i % 2], "content": "word " * (i + 1)} for i in range(6)]
    rows = read(tmp_path, "demonstrations", source([{"messages": turns}]))
    (expected,) = Renderer(tiny_models.tokenizer()).render([turns], learn=True)
    (example,) = rows.items
    assert example.ids.tolist() == expected.ids
    assert example.mask.tolist() == expected.mask
    assert rendering.stretches([0, 1, 1, 0, 1]) == [1, 2, 4, 1]
    assert rendering.stretches([0, 0]) == []


def test_users_and_prompts_have_their_place_in_a_split(source: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "response": "word", "user": f"u{i % 40}"} for i in range(120)]
    data = read(tmp_path, "demonstrations", source(rows))
    split = splits.hold_out(data, 0.1)
    assert split.by == "user"
    assert len(split.training) + len(split.held_out) == 120
    assert not set(split.training.users) & set(split.held_out.users)
    nobody = read(tmp_path, "demonstrations", source([{**row, "user": None} for row in rows], "nobody.jsonl"))
    assert splits.hold_out(nobody, 0.1).by == "prompt"
    few = read(tmp_path, "demonstrations", source([{**row, "user": "me"} for row in rows], "me.jsonl"))
    split = splits.hold_out(few, 0.1)
    assert split.by == "prompt"
    assert len(split.held_out) == 12
    assert not set(split.training.prompts) & set(split.held_out.prompts)


def test_a_file_is_one_source_by_whatever_path(
    source: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(ROWS["prompts"])
    (tmp_path / "link.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for other in ("rows.jsonl", "./rows.jsonl", str(tmp_path / "link.jsonl")):
        with pytest.raises(UserError, match="by another path: name every source once"):
            reading.select(reading.PROMPTS, [str(path), f"{other}=2"])
    copy = source(ROWS["prompts"], "copy.jsonl")
    assert reading.select(reading.PROMPTS, [str(path), str(copy)]).weights == (1.0, 1.0)


def test_columns_that_nothing_looked_at_are_named_once(source: Callable[..., Path], tmp_path: Path) -> None:
    rows = [row | {"quality": 3, "color": "red"} for row in ROWS["prompts"]]
    for _ in range(2):  # rendered, and from the cache
        usage = read(tmp_path, "prompts", source(rows)).usage
        assert usage.sentence() == "prompts: used 5 of 5 rows; columns not used: color, quality"
        assert usage.summaries()["prompts"]["ignored"] == {"color": 5, "quality": 5}


def test_a_document_with_a_token_that_the_model_has_no_weights_for_is_left_out(
    source: Callable[..., Path], tmp_path: Path
) -> None:
    tokenizer = tiny_models.tokenizer()
    size = len(tokenizer)
    tokenizer.add_tokens(["<extra>"])
    path = source([{"text": "say <extra>"}, {"text": "word"}])
    selection = reading.select(reading.DOCUMENTS, str(path))
    rows = rendering.documents(tmp_path, selection, tokenizer, document_marks(tokenizer), size)
    assert rows.usage.skipped == {"contains the token '<extra>', which the model has no weights for": 1}
    assert len(rows) == 1


def test_a_template_that_writes_another_day_is_rendered_anew(source: Callable[..., Path], tmp_path: Path) -> None:
    path = source(ROWS["prompts"])
    for day in ("Monday", "Monday", "Tuesday"):
        tokenizer = tiny_models.tokenizer()
        tokenizer.chat_template = "{{ strftime_now('%A') }}" + tokenizer.chat_template
        tokenizer.apply_chat_template = _on(day, tokenizer.apply_chat_template)
        read(tmp_path, "prompts", path, tokenizer=tokenizer)
    assert len(caches(tmp_path)) == 2


def _on(day: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    """A chat template's rendering on another day of the week."""
    return lambda *arguments, **options: [
        re.sub("(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day", day, text) for text in apply(*arguments, **options)
    ]
