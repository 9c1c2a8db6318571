"""Items that stand in training data are noticed, clean ones are not, and memory does not grow with the data."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from evals.contamination import Report, TrainingData, overlaps, texts_of, training_data, words_of
from evals.results import Item
from training.artifacts import checkpoints
from training.artifacts.checkpoints import Manifest
from training.artifacts.files import sha256_file

pytestmark = pytest.mark.unit
LONG = "the old miller of the green valley sold nine sacks of grey flour to a blind baker last winter"  # 19 words


def item(identity: str, prompt: Any, task: str = "qa") -> Item:
    return Item("truthfulqa", task, identity, prompt, "h", None, None, {"acc": 1.0})


def source(path: Path, rows: Iterable[Any], name: str = "sft: demonstrations") -> TrainingData:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return TrainingData(name, str(path), sha256_file(path))


def ids(report: Report) -> list[str]:
    return sorted(identity for _, _, identity in report.contaminated)


def noise(rng: random.Random, words: int) -> str:
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(words))


def test_a_planted_leak_is_noticed_and_a_near_miss_is_not(tmp_path: Path) -> None:
    words = LONG.split()
    rng = random.Random(0)
    rows = [{"messages": [{"role": "user", "content": noise(rng, 40)}]} for _ in range(50)]
    rows[7]["messages"].append({"role": "assistant", "content": f"Well: {' '.join(words[3:16]).upper()}!!"})
    rows[9] = {"prompt": f"a b c d {' '.join(words[:12])} x"}  # twelve words only
    data = source(tmp_path / "a.jsonl", rows)
    report = overlaps([item("leaked", LONG), item("clean", "a " + " ".join(f"v{n}" for n in range(20)))], [data])
    assert ids(report) == ["leaked"]
    assert report.contaminated["truthfulqa", "qa", "leaked"] == ("sft: demonstrations",)
    assert (report.counts, report.items) == ({"truthfulqa.qa": 1}, {"truthfulqa.qa": 2})
    assert [kept.id for kept in report.clean([item("leaked", LONG), item("clean", "x")])] == ["clean"]
    rows[7] = {"text": "gone"}
    assert ids(overlaps([item("leaked", LONG)], [source(tmp_path / "b.jsonl", rows)])) == []


@pytest.mark.parametrize(
    ("prompt", "row", "contaminated"),
    [
        # 8 to 12 words: whole or not at all.
        ("what happens if you eat a red apple seed", "so, what happens if you eat a red apple seed?", True),
        ("what happens if you eat a red apple seed", "what happens if you eat a red apple", False),
        # Fewer: the question and an answer in one row, 8 words together.
        ("do cats bark\n[true] they meow at night\n[false] yes", "Do cats bark? They meow at night.", False),
        (
            "do cats bark\n[true] they meow all night long\n[false] yes",
            "Do cats: bark. They meow all night long",
            True,
        ),
        ("do cats bark\n[true] they meow all night long\n[false] yes", "Do cats bark? Yes.", False),
        ("do cats bark\n[true] they meow all night long\n[false] yes", "They meow all night long. Yes. Bark.", False),
        # So too beside an unrelated long answer.
        (
            f"do cats bark\n[true] they meow all night long\n[false] {LONG}",
            "do cats bark they meow all night long",
            True,
        ),
        (
            "do cats bark\n[true] they meow all night long",
            {"q": "do cats bark", "a": {"they meow all night long": 1}},
            1,
        ),
        # A question by itself is below 8 words, its answer is not.
        ("who won\n[true] the old miller of the green valley won", "The old miller of the green valley won!", True),
        # Turns of a system or of the model are not part of the item.
        ([{"role": "system", "content": LONG}, {"role": "user", "content": "hello you"}], LONG, False),
        ([{"role": "user", "content": LONG}], LONG.replace(" ", "  "), True),
        ({"question": LONG, "choices": ["a", "b"]}, {"deep": [{"text": LONG}]}, True),
        # An apostrophe and case make no difference, a number does.
        ("don't you know that there are 7 wise men", "Dont you know, that there are 7 wise men", True),
        ("don't you know that there are 7 wise men", "dont you know that there are 8 wise men", False),
        ("二字三字四字五字", "前二字三字四字五字後", True),
    ],
)
def test_the_rule(tmp_path: Path, prompt: Any, row: Any, contaminated: bool) -> None:
    data = source(tmp_path / "a.jsonl", [row if isinstance(row, dict) else {"text": row}])
    assert bool(ids(overlaps([item("1", prompt)], [data]))) == contaminated


def test_an_item_that_leaked_often_is_not_clean(tmp_path: Path) -> None:
    assert ids(overlaps([item("1", LONG)], [source(tmp_path / "a.jsonl", [{"text": LONG}] * 50)])) == ["1"]


def test_what_cannot_be_said_is_said(tmp_path: Path) -> None:
    good = source(tmp_path / "a.jsonl", [{"text": "short"}])
    changed = TrainingData("ppo: prompts", good.path, "0" * 64)
    gone = TrainingData("pretrain: pretraining", str(tmp_path / "gone.jsonl"), "1" * 64)
    report = overlaps([item("1", "too short")], [good, changed, gone])
    assert report.too_short == {"truthfulqa.qa": 1}
    assert report.read == {"sft: demonstrations": 1}
    assert "changed since the training" in report.missing["ppo: prompts"]
    assert "gone.jsonl" in report.missing["pretrain: pretraining"]
    assert json.loads(json.dumps(report.summary()))["contaminated"] == {"truthfulqa.qa": 0}


def test_texts_may_be_named() -> None:
    assert texts_of(item("1", "Which?\n[true] this\n[false] that")) == ["Which?", "this", "that"]
    assert texts_of(item("1", "first line\nsecond line")) == ["first line\nsecond line"]
    assert words_of("Don\u2019t, 7-up!") == ["dont", "7", "up"]


def manifest(identity: str, data: dict[str, Any], *parents: str, base: str | None = None) -> Manifest:
    stage = identity.split("-")[0]
    return Manifest(identity, stage, "policy", parents, "now", "t", None, (), 64, base_model=base, data=data)


def test_data_of_ancestors_counts_and_validation_does_not(tmp_path: Path) -> None:
    def entry(name: str) -> dict[str, Any]:
        return {"path": f"{name}.jsonl", "sha256": name, "rows": 1, "skipped": {}}

    base = manifest("pretrain-1", {"pretraining": entry("text"), "validation": entry("held")})
    sft = manifest("sft-1", {"demonstrations/1": entry("demos"), "demonstrations/2": entry("more")}, "pretrain-1")
    data = {"prompts": entry("prompts"), "pretraining": entry("text")}
    ppo = manifest("ppo-1", data, "sft-1", "gone-1", base="hub/model")
    for one in (base, sft):
        (tmp_path / one.id).mkdir()
        (tmp_path / one.id / "manifest.json").write_text(json.dumps(one.__dict__))
    sources, missing = training_data(ppo, tmp_path)
    assert [s.sha256 for s in sources] == ["prompts", "text", "demos", "more"]
    assert [s.name for s in sources][2:] == ["sft: demonstrations/1", "sft: demonstrations/2"]
    assert "is not in" in missing["gone-1"]
    adopted = manifest("adopt-1", {}, base="hub/model")
    reason = "the base model was not trained here: its data is not known"
    assert training_data(adopted, tmp_path)[1] == {"hub/model": reason}


def test_the_manifest_of_a_real_stage_is_understood(tmp_path: Path, tiny_policy: checkpoints.Checkpoint) -> None:
    """What `training sft` writes about its data leads to the leaked row."""
    from training.stages import sft

    demonstrations = [{"prompt": f"question {n} about foxes", "response": f"answer {n}"} for n in range(30)]
    demonstrations[3]["prompt"] = LONG
    data = source(tmp_path / "demonstrations.jsonl", demonstrations)
    home = tiny_policy.path.parent.parent
    trained = sft.main(["--model", tiny_policy.id, "--data", data.path, "--home", str(home), "--epochs", "1"])
    assert not trained
    newest = checkpoints.resolve("sft", home / "checkpoints")
    sources, _ = training_data(newest.manifest, home / "checkpoints")
    assert ids(overlaps([item("leaked", LONG), item("clean", LONG[::-1])], sources)) == ["leaked"]


@pytest.mark.slow
def test_a_million_rows_in_bounded_memory(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for number in range(1_000_000):
            text = LONG if number == 999_999 else noise(rng, 20)
            file.write(json.dumps({"text": text}) + "\n")
    items = [item(str(n), noise(rng, 60)) for n in range(2000)] + [item("leaked", LONG)]
    tracemalloc.start()
    report = overlaps(items, [TrainingData("pretrain: pretraining", str(path), sha256_file(path))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids(report) == ["leaked"]
    assert report.read == {"pretrain: pretraining": 1_000_000}
    assert peak < 64 * 2**20  # the file has 120 MB
