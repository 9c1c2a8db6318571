"""`python -m training world` writes the world's files whole, once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from training.artifacts.files import sha256_file
from training.loop import world as command
from training.miniature import WORLD_VERSION, Labeler, World
from training.miniature.items import KINDS
from training.miniature.world import SIZES, Counts

pytestmark = pytest.mark.unit
HELD_OUT = ("heldout.jsonl", "heldout-tail.jsonl", "locked/heldout.jsonl", "locked/heldout-tail.jsonl")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and a tiny size of the world."""
    tiny = Counts(3000, 60, 80, 40, 30, evaluation=20, heldout_documents=300, tail_documents=30, comments=50)
    monkeypatch.setitem(SIZES, "tiny", tiny)
    return tmp_path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_hold_the_world(home: Path) -> None:
    folder = command.run(command.WorldConfig(home=home, seed=3, size="tiny"))
    assert folder == home / "world" / f"{WORLD_VERSION}-tiny-3"
    manifest = json.loads((folder / "world.json").read_text())
    assert (manifest["version"], manifest["seed"], manifest["size"]) == (WORLD_VERSION, 3, "tiny")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {*manifest["files"], "world.json"}
    for name, sha in manifest["files"].items():
        assert sha256_file(folder / name) == sha
        assert len(read(folder / name)) == manifest["counts"][name] > 0
    world = World.build(3, "tiny")
    assert read(folder / "prompts-reward.jsonl")[0] == json.loads(json.dumps(command.row(world.prompts("reward")[0])))
    assert {"messages", "user", "use_case", "split"} <= set(read(folder / "demonstrations.jsonl")[0])
    labelers = [Labeler(**row) for row in read(folder / "labelers.jsonl")]
    assert labelers == [*world.labelers("training"), *world.labelers("heldout")]
    trained = {row["text"] for row in read(folder / "pretrain.jsonl")}
    held = [{row["text"] for row in read(folder / name)} for name in HELD_OUT]
    assert all(not texts & trained for texts in held)
    assert not held[0] & held[2]
    assert not held[1] & held[3]


def test_the_locked_files_have_the_names_of_the_first_ones(home: Path) -> None:
    folder = command.run(command.WorldConfig(home=home, seed=3, size="tiny"))
    locked = {path.name for path in (folder / command.LOCKED).iterdir()}
    assert locked == {"heldout.jsonl", "heldout-tail.jsonl", "prompts-evaluation.jsonl"} | {
        f"items-{kind}.jsonl" for kind in KINDS
    }
    assert locked <= {path.name for path in folder.iterdir()}
    for name in sorted(locked - {"items-recall.jsonl"}):
        assert (folder / command.LOCKED / name).read_bytes() != (folder / name).read_bytes()


def test_a_version_of_the_world_is_these_bytes(home: Path) -> None:
    """Checkpoints and results name the world by version, size and seed: other bytes need another version."""
    folder = command.run(command.WorldConfig(home=home, seed=3, size="tiny"))
    files = json.loads((folder / "world.json").read_text())["files"]
    digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()
    assert {WORLD_VERSION: digest} == {"3": "26ceedae6d88308a63491c2b3c95ef2d1c93266cb4de07c9993f29d7668acaee"}


def test_the_same_world_is_written_once(home: Path) -> None:
    config = command.WorldConfig(home=home, size="tiny")
    folder = command.run(config)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert command.run(config) == folder
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_a_damaged_world_is_written_again(home: Path) -> None:
    config = command.WorldConfig(home=home, size="tiny")
    folder = command.run(config)
    sha = sha256_file(folder / "prompts-ppo.jsonl")
    (folder / "prompts-ppo.jsonl").write_text("{}\n")
    command.run(config)
    assert sha256_file(folder / "prompts-ppo.jsonl") == sha


def test_nothing_is_left_of_a_stopped_writing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: World) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(World, "toxic_comments", stop)
    with pytest.raises(KeyboardInterrupt):
        command.run(command.WorldConfig(home=home, size="tiny"))
    assert list((home / "world").iterdir()) == []
