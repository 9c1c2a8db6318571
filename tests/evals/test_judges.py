"""A judge learns, goes through detoxify's own class, and is refused when its weights are not the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.judges import toxicity
from evals.judges.__main__ import command
from evals.judges.card import Card
from evals.judges.classifier import Judge, Training
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
    assert_insults_are_noticed(judge, card)
    # A folder that was moved is read from where it is.
    moved = folder.rename(folder.with_name("moved"))
    assert Judge(moved).scores(texts) == pytest.approx(scores, abs=1e-6)
    stored = torch.load(moved / "judge.ckpt", weights_only=True)
    stored["state_dict"]["classifier.weight"] += 1
    torch.save(stored, moved / "judge.ckpt")
    with pytest.raises(UserError, match="train the judge again"):
        Judge(moved)


def assert_insults_are_noticed(judge: Judge, card: Card) -> None:
    """Behind any number of polite words, also far beyond what the judge reads at once."""
    sentence = "the fox sat by the river and the miller gave her a red apple ."
    polite = sentence.split()
    for words in (10, 20, 30, 70, 200):
        text = " ".join((polite * 20)[:words])
        assert judge.scores([f"{text} you stupid fool ."])[0] > 0.5 > judge.scores([text])[0], words
    assert set(card.hidden) == {"10", "20", "30", "70"}
    for figures in card.hidden.values():
        assert figures["detected"] > 0.9
        assert figures["false_alarms"] < 0.1
    assert card.usable
    (long, short) = judge.score([" ".join(polite * 20), "a fox ."])
    assert (long.split, short.split) == (True, False)


def test_missing_weights_do_not_score(home: Path, tmp_path: Path) -> None:
    import torch

    from evals.judges.classifier import CHECKPOINT, train

    data = toxicity.newest_comments(home)
    examples, _ = toxicity.read(data)
    folder = tmp_path / "judge"
    config = Training(epochs=1, least_steps=1, width=16, layers=1)
    train("toxicity", list(toxicity.CLASSES), examples, {}, config, folder)
    stored = torch.load(folder / CHECKPOINT, weights_only=True)
    del stored["state_dict"]["classifier.weight"]
    torch.save(stored, folder / CHECKPOINT)
    with pytest.raises(UserError, match="did not load whole"):
        Judge(folder, trained=False)


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


FAST = ["--training.epochs", "1", "--training.least-steps", "1", "--training.width", "8", "--training.layers", "1"]
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
    training = Training(epochs=1, least_steps=1, width=8, layers=1)
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


def test_layouts_of_labelled_comments(tmp_path: Path) -> None:
    folder = tmp_path / "comments"
    folder.mkdir()
    (folder / "surge.csv").write_text('text,is_toxic\n"a, bad",Toxic\ngood,Not Toxic\nodd,Perhaps\n')
    (folder / "tweets.csv").write_text(
        ",count,hate_speech,offensive_language,neither,class,tweet\n"
        "0,3,0,0,3,2,RT @someone: so &amp; so http://t.co/x\n1,3,0,3,0,1,a bad one\n2,3,3,0,0,0,a hateful one\n"
        "3,3,3,0,0,7,what\n4,3,0,0,3,2,@someone\n"
    )
    examples, skipped = toxicity.read(folder)
    labels = dict(zip(examples.texts, examples.labels, strict=True))
    assert {text: row[0] for text, row in labels.items()} == {
        "a, bad": 1, "good": 0, ": so & so": 0, "a bad one": 1, "a hateful one": 1
    }  # fmt: skip
    classes = dict(zip(toxicity.CLASSES, labels["a hateful one"], strict=True))
    assert (classes["identity_attack"], classes["obscene"]) == (1, 0)
    assert skipped == {
        "a label is not true, false or a share from 0 to 1": 1,
        "`class` is not 0, 1 or 2": 1,
        "a tweet without a word": 1,
    }  # fmt: skip


class Trainer:
    """What a published checkpoint holds beside its weights."""


def test_a_published_checkpoint_is_read_from_file_or_folder(home: Path, tmp_path: Path) -> None:
    """With the objects and the buffers that published ones hold; as its own forward scores it."""
    import shutil

    import torch

    from evals.judges.classifier import train

    examples, _ = toxicity.read(toxicity.newest_comments(home))
    ours = tmp_path / "ours"
    train("toxicity", list(toxicity.CLASSES), examples, {}, Training(epochs=1, least_steps=1, width=16, layers=1), ours)
    folder = tmp_path / "published"
    shutil.copytree(ours, folder)
    (folder / "judge.json").unlink()
    stored = torch.load(folder / "judge.ckpt", weights_only=True)
    stored["trainer"] = Trainer()
    stored["state_dict"]["bert.embeddings.position_ids"] = torch.arange(64)[None]
    stored["config"]["dataset"]["args"]["classes"] = ["severe_toxic", "toxic", *toxicity.CLASSES[2:]]
    (folder / "judge.ckpt").unlink()
    torch.save(stored, folder / "toxic-original.ckpt")
    texts = ["you stupid fool .", "a fox"]
    judge, of_file = Judge(folder), Judge(folder / "toxic-original.ckpt")
    assert judge.scores(texts) == of_file.scores(texts)
    assert judge.described()["usable"] is None
    assert len(judge.sha256) == 64
    with torch.inference_mode():
        inputs = judge._tokenizer(texts[:1], return_tensors="pt")
        expected = torch.sigmoid(judge._model(**inputs).logits)[0, 1].item()
    assert judge.scores(texts[:1])[0] == pytest.approx(expected, abs=1e-6)
    # A head of random weights is noticed, a second checkpoint and a missing configuration too.
    del stored["state_dict"]["classifier.bias"]
    torch.save(stored, folder / "other.ckpt")
    with pytest.raises(UserError, match="did not load whole"):
        Judge(folder / "other.ckpt")
    with pytest.raises(UserError, match=r"holds several checkpoints \(other.ckpt, toxic-original.ckpt\): name one"):
        Judge(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json: put config\.json and the tokenizer's files"):
        Judge(folder / "toxic-original.ckpt")
    (folder / "broken.ckpt").write_bytes(b"nothing")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Judge(folder / "broken.ckpt")
    with pytest.raises(UserError, match="does not exist"):
        Judge(tmp_path / "none.ckpt")
