"""Sampling for ranking: K responses a prompt, and rankings by simulated labelers frozen with all they saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts import comparisons
from training.artifacts.errors import UserError
from training.stages import sample

pytestmark = pytest.mark.unit
LABELER = {"length_liking": 0.0, "leniency": 0.0, "belief": 0.0, "citing": 0.0, "noise": 1e-6}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Prompts that ask for a colour, every fourth one of a validation user, and exact labelers of both groups."""
    spec = {
        "task": "contain",
        "form": "extract",
        "need": ["red"],
        "avoid": ["blue", "green", "black"],
        "topic": ["cat"],
        "limit": 9,
    }
    toy.write_jsonl(
        tmp_path / "prompts.jsonl",
        (
            {
                "id": f"p{i:02d}",
                "messages": toy.turns(toy.question(i)),
                "user": f"u{i}",
                "use_case": "open qa",
                "mode": "plain",
                "split": "validation" if i % 4 == 0 else "train",
                "spec": spec | {"mode": "plain"},
            }
            for i in range(24)
        ),
    )
    toy.write_jsonl(
        tmp_path / "labelers.jsonl",
        ({"id": f"{group}-{i}", "group": group} | LABELER for group in ("training", "heldout") for i in range(3)),
    )
    return tmp_path


def config_of(chain: Toy, folder: Path, **changes: Any) -> sample.Config:
    settings: dict[str, Any] = {
        "prompts": str(folder / "prompts.jsonl"),
        "model": str(chain.policy.path),
        "labelers": "miniature",
        "world": str(folder),
        "home": folder / "home",
    }
    return sample.Config(**(settings | changes))


def test_every_prompt_gets_four_to_nine_responses(toy_chain: Toy, world: Path) -> None:
    path = sample.sample(config_of(toy_chain, world, labelers=None))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"p{i:02d}" for i in range(24)]
    assert {len(row["responses"]) for row in rows} <= set(range(4, 10))
    assert len({len(row["responses"]) for row in rows}) > 2
    response = rows[0]["responses"][0]
    assert response["checkpoint"] == toy_chain.policy.id
    assert response["sampling"]["temperature"] == 1.0
    assert response["finish_reason"] in ("stop", "length")
    assert not any("<|" in r["text"] for row in rows for r in row["responses"])


def test_rankings_keep_order_shown_labeler_and_group(toy_chain: Toy, world: Path) -> None:
    path = sample.sample(config_of(toy_chain, world))
    train, skipped = comparisons.read(path)
    validation, _ = comparisons.read(path.with_name("default-validation.jsonl"))
    assert not skipped
    assert {c.labeler_group for c in train} == {"training"}
    assert {c.labeler_group for c in validation} == {"training", "heldout"}
    assert not {c.user for c in train} & {c.user for c in validation}
    assert {int(c.prompt_id[1:]) % 4 for c in validation if c.prompt_id} == {0}
    assert len({c.shown for c in train}) > 1
    for comparison in train:
        assert comparison.labeler
        assert comparison.user
        assert comparison.guideline == "miniature"
        assert sorted(comparison.shown or ()) == list(range(len(comparison.responses)))


def test_ranks_belong_to_stored_responses_not_to_places_on_screen(toy_chain: Toy, world: Path) -> None:
    """Exact labelers put the right colour first, wherever it was shown."""
    train, _ = comparisons.read(sample.sample(config_of(toy_chain, world)))
    right = [
        (rank, [r.text.split() for r in c.responses][i])
        for c in train
        for i, rank in enumerate(c.ranks or ())
        if "red" in c.responses[i].text.split()
        and not {"blue", "green", "black"} & set(c.responses[i].text.split())
        and "cat" in c.responses[i].text.split()
    ]
    assert right
    others = [rank for c in train for i, rank in enumerate(c.ranks or ()) if "red" not in c.responses[i].text.split()]
    assert sum(rank for rank, _ in right) / len(right) < sum(others) / len(others)


def test_the_same_seed_gives_the_same_rankings(toy_chain: Toy, world: Path) -> None:
    def rankings(name: str) -> list[tuple[Any, ...]]:
        found, _ = comparisons.read(sample.sample(config_of(toy_chain, world, name=name)))
        return [(c.id, c.responses, c.ranks, c.shown, c.labeler) for c in found]

    assert rankings("one") == rankings("two")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"k_min": 1}, "a ranking needs 2"),
        ({"k_min": 5, "k_max": 4}, "a ranking needs 2"),
        ({"name": "../first"}, "is not a name inside the stage's folder"),
        ({"world": ""}, "needs --world"),
        ({"world": "/nowhere"}, "run `python -m training world` first"),
        ({"max_tokens": 32}, "leaves no prompt room"),
        ({"max_tokens": 31}, "24 x longer than 1 tokens"),
    ],
)
def test_contradictions_are_refused(toy_chain: Toy, world: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample.sample(config_of(toy_chain, world, **changes))


class Killed(BaseException):
    """Ends a run between two statements, as SIGKILL does."""


def test_a_killed_run_goes_on_with_the_next_part_and_ends_in_the_same_file(
    toy_chain: Toy, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "AT_ONCE", 3)
    whole = sample.sample(config_of(toy_chain, world, labelers=None, home=world / "whole")).read_bytes()
    calls: list[int] = []
    original = sample.rollouts.generate

    def dying(model: Any, prompt_ids: Any, n: int, sampling: Any) -> Any:
        calls.append(len(prompt_ids))
        if len(calls) == 4:
            raise Killed
        return original(model, prompt_ids, n, sampling)

    config = config_of(toy_chain, world, labelers=None)
    monkeypatch.setattr(sample.rollouts, "generate", dying)
    with pytest.raises(Killed):
        sample.sample(config)
    assert not (config.home / "samples").exists()
    assert len(list((config.home / "work").glob("sample-*/part-*.json"))) == 3
    done = len(calls)
    path = sample.sample(config)
    assert path.read_bytes() == whole.replace(b"/whole/", b"/home/")
    parts = len(calls) - done
    assert sum(calls) - calls[3] == 24
    assert parts >= 5, "the first three were not sampled again"
    assert not list((config.home / "work").glob("sample-*"))


def test_responses_that_were_cut_off_are_marked(
    toy_chain: Toy, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sample.sample(config_of(toy_chain, world, labelers=None, max_tokens=2, temperature=2.0))
    reasons = [r["finish_reason"] for line in path.read_text().splitlines() for r in json.loads(line)["responses"]]
    cut = reasons.count("length")
    assert cut > 0
    assert f"{cut:,} responses were cut off after 2 tokens" in capsys.readouterr().err


def test_prompts_that_do_not_fit_are_left_out_and_never_cut(toy_chain: Toy, world: Path) -> None:
    rows = [{"id": "short", "messages": toy.turns("what is red ?")}, {"id": "long", "messages": toy.turns("red " * 20)}]
    prompts = toy.write_jsonl(world / "two.jsonl", rows)
    path = sample.sample(config_of(toy_chain, world, labelers=None, prompts=str(prompts), max_prompt_tokens=12))
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["short"]
