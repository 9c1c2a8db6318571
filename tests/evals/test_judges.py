"""A judge learns, goes through detoxify's own class, and is refused when its weights are not the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.judges import toxicity, truth
from evals.judges.__main__ import command
from evals.judges.classifier import Training
from tests.support import world_sample
from training.artifacts.errors import UserError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("judges")
    world_sample.write(home)
    return home


def test_toxicity_judge(home: Path) -> None:
    import torch
    from detoxify import Detoxify

    from evals.judges.classifier import Judge

    card = toxicity.main(toxicity.Config(home=home))
    folder = toxicity.judge_folder(home, toxicity.newest_comments(home))
    assert card.accuracy > max(0.93, card.majority)
    assert card.auc > 0.96
    assert card.version == f"toxicity-{card.sha256[:8]}"
    judge = Judge(folder)
    texts = ["the fox is red .", "you stupid fool .", "the fox is red ."]
    scores = judge.scores(texts)
    assert scores[0] == pytest.approx(scores[2], abs=1e-6)
    assert scores[1] > 0.5 > scores[0]
    # detoxify's own class, asked directly, gives the same: that is the format which its users know.
    plain = Detoxify("original", checkpoint=str(folder / "judge.ckpt"), huggingface_config_path=str(folder))
    assert plain.predict(texts)["toxicity"] == pytest.approx(scores, abs=1e-6)
    assert judge.scores([]) == []
    assert len(judge.scores(["one text ."])) == 1
    # A folder that was moved is read from where it is.
    moved = folder.rename(folder.with_name("moved"))
    assert Judge(moved).scores(texts) == pytest.approx(scores, abs=1e-6)
    stored = torch.load(moved / "judge.ckpt", weights_only=True)
    stored["state_dict"]["classifier.weight"] += 1
    torch.save(stored, moved / "judge.ckpt")
    with pytest.raises(UserError, match="train the judge again"):
        Judge(moved)


def test_missing_weights_do_not_score(home: Path, tmp_path: Path) -> None:
    import torch

    from evals.judges.classifier import CHECKPOINT, Judge, Training, train

    data = toxicity.newest_comments(home)
    examples, _ = toxicity.read(data)
    folder = tmp_path / "judge"
    train("toxicity", list(toxicity.CLASSES), examples, {}, Training(epochs=1, width=16, layers=1), folder)
    stored = torch.load(folder / CHECKPOINT, weights_only=True)
    del stored["state_dict"]["classifier.weight"]
    torch.save(stored, folder / CHECKPOINT)
    with pytest.raises(UserError, match="did not load whole"):
        Judge(folder, trained=False)


def test_truth_judge_splits_by_question(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"Q: Is it {k}?\nA: {'Yes' if good else 'No'}, it is {k}.\nTrue:",
            "completion": " yes" if good else " no",
        }
        for k in range(60)
        for good in (True, False)
    ]
    data = tmp_path / "finetune_truth.jsonl"
    data.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + json.dumps({"prompt": "x", "completion": " yes"}) + "\n"
    )
    examples, skipped = truth.read(data)
    assert examples.texts[0] == "Q: Is it 0? A: Yes, it is 0."
    assert (len(examples.texts), skipped["no question, answer and label"]) == (120, 1)
    assert len(set(examples.groups)) == 60
    card = truth.main(truth.Config(data=data, home=tmp_path))
    assert (card.heldout, card.trained_on) == (24, 96)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"text": "x"}\n', "has the columns text; this kind of data needs `text` and `toxicity`"),
        ("not json\n", r"none of the 1 rows of .* can be used \(1 x not valid JSON\)"),
    ],
)
def test_useless_comments_are_refused(tmp_path: Path, content: str, message: str) -> None:
    data = tmp_path / "comments.jsonl"
    data.write_text(content)
    with pytest.raises(UserError, match=message):
        toxicity.main(toxicity.Config(data=data, home=tmp_path))


FAST = ["--training.epochs", "1", "--training.width", "8", "--training.layers", "1"]
COMMENTS = [{"text": f"number {n} is {'bad' if n % 2 else 'good'}", "toxicity": n % 2} for n in range(40)]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_left_out_comments_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path / "a.jsonl", [*COMMENTS, {"text": "", "toxicity": 1}, {"text": "x", "toxicity": 7}])
    command(["toxicity", "--data", str(data), "--home", str(tmp_path), *FAST])
    printed = capsys.readouterr().out
    assert "left out 1: `text` is not text" in printed
    assert "left out 1: a label is not true, false or a share from 0 to 1" in printed


def test_comments_may_be_a_folder_or_a_split(tmp_path: Path) -> None:
    folder = written(tmp_path / "comments" / "a.jsonl", COMMENTS).parent
    split = written(tmp_path / "b.jsonl", [row | {"split": "train"} for row in COMMENTS])
    training = Training(epochs=1, width=8, layers=1)
    for data in (folder, Path(f"{split}@train")):
        card = toxicity.main(toxicity.Config(data=data, home=tmp_path, training=training))
        assert card.data["rows"] == 40


def test_a_held_out_part_of_one_label_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path / "a.jsonl", [{"text": f"good {n}", "toxicity": int(n == 0)} for n in range(10)])
    with pytest.raises(UserError, match="need both labels, in the part that trains it and in the part held out"):
        toxicity.main(toxicity.Config(data=data, home=tmp_path))
    assert not (tmp_path / "judges").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", "-1"),
        ("seed", str(2**63)),
        ("heldout", "nan"),
        ("heldout", "1"),
        ("batch", "0"),
        ("epochs", "0"),
        ("learning-rate", "nan"),
        ("width", "7"),
        ("length", "2"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, option: str, value: str) -> None:
    data = written(tmp_path / "a.jsonl", COMMENTS)
    with pytest.raises(UserError, match=f"--training.{option}|\\.{option}"):
        command(["toxicity", "--data", str(data), "--home", str(tmp_path), f"--training.{option}={value}"])
