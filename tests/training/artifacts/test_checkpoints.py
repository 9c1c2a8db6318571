"""The schema of manifests; publishing is all or nothing; finding, ancestry, damage, leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.support import tiny_models
from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint, Manifest, load, publish, resolve, staging, sweep
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

pytestmark = pytest.mark.unit

GOLDEN: dict[str, Any] = {
    "id": "reward-20260131-101502-9f3a",
    "stage": "reward",
    "kind": "reward",
    "parents": ["sft-20260131-100000-0001"],
    "created": "2026-01-31T10:15:02.000000+00:00",
    "tokenizer_hash": "aa",
    "template_hash": None,
    "stop_ids": [0, 5],
    "context": 256,
    "base_model": "someone/model",
    "generation": {"temperature": 0.7},
    "reward_offset": -1.5,
    "pad_id": 2,
    "probe": {"ids": [[1, 2]], "rewards": [0.25]},
    "config": {"epochs": 1},
    "data": {"comparisons": {"path": "x.jsonl", "sha256": "bb", "rows": 3, "skipped": {"tied": 1}}},
    "seed": 1,
    "git_commit": None,
    "git_dirty": False,
    "packages": {"torch": "2"},
    "metrics": {"accuracy": 0.7},
    "weights": {"model.safetensors": "cc"},
    "system": "merge",
    "format": 1,
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer()


def staged(store: Path, tokenizer: Any, value: float = 1.0) -> Path:
    """A staging folder as a stage leaves it; the weights are one number, since nothing here runs them."""
    folder = staging(store)
    save_file({"w": np.array([value], dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    tokenizer.save_pretrained(folder)
    return folder


def published(store: Path, tokenizer: Any, stage: str = "sft", **facts: Any) -> Checkpoint:
    given = {"stage": stage, "kind": "policy", "tokenizer": tokenizer, "context": 256}
    return publish(staged(store, tokenizer), store, **{**given, **facts})


def write_manifest(folder: Path, manifest: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return folder


def test_golden_manifest_is_read_and_written_unchanged(tmp_path: Path) -> None:
    manifest = load(write_manifest(tmp_path / "x", GOLDEN)).manifest
    assert json.loads(json.dumps(asdict(manifest))) == GOLDEN
    assert manifest.parents == ("sft-20260131-100000-0001",)
    assert {field.name for field in fields(Manifest)} == set(GOLDEN)


def test_a_manifest_of_an_earlier_version_keeps_system_turns(tmp_path: Path) -> None:
    earlier = {name: value for name, value in GOLDEN.items() if name != "system"}
    assert load(write_manifest(tmp_path / "x", earlier)).manifest.system == "keep"
    with pytest.raises(UserError, match="`system` 'drop': it is `keep` or `merge`"):
        load(write_manifest(tmp_path / "y", GOLDEN | {"system": "drop"}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=3)


@settings(max_examples=30)
@given(
    st.builds(
        Manifest,
        id=st.text(max_size=9),
        stage=st.text(max_size=9),
        kind=st.sampled_from(("policy", "reward")),
        parents=st.lists(st.text(max_size=9), max_size=3).map(tuple),
        created=st.text(max_size=9),
        tokenizer_hash=st.text(max_size=9),
        template_hash=st.none() | st.text(max_size=9),
        stop_ids=st.lists(st.integers(0, 99), max_size=3).map(tuple),
        context=st.integers(1, 9999),
        generation=OBJECTS,
        reward_offset=st.none() | st.floats(-9, 9),
        probe=OBJECTS,
        config=OBJECTS,
        data=OBJECTS,
        metrics=OBJECTS,
    )
)
def test_every_manifest_survives_its_json(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> None:
    folder = tmp_path_factory.mktemp("m") / "x"
    assert load(write_manifest(folder, asdict(manifest))).manifest == manifest


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not a manifest"),
        ("[]", "is not a manifest"),
        (json.dumps({k: v for k, v in GOLDEN.items() if k != "context"}), "is not a manifest .*context"),
        (json.dumps(GOLDEN | {"surprise": 1}), "is not a manifest .*surprise"),
        (json.dumps(GOLDEN | {"format": 2}), "has format 2, this version reads 1"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write_manifest(tmp_path / "x", content))


def test_a_published_checkpoint_says_what_made_it(tmp_path: Path, tokenizer: Any) -> None:
    made = published(
        tmp_path,
        tokenizer,
        parents=("p",),
        seed=3,
        metrics={"loss": 1.5},
        config={"home": Path("runs")},
        data={"d": {}},
    )
    assert made.path == tmp_path / made.id
    assert load(made.path) == replace(made, manifest=replace(made.manifest, config={"home": "runs"}))
    assert made.manifest.weights == {"model.safetensors": sha256_file(made.path / "model.safetensors")}
    assert made.manifest.stop_ids == (tokenizer.convert_tokens_to_ids("<|end|>"),)
    assert len(made.manifest.git_commit or "") == 40
    assert made.manifest.packages["transformers"]
    assert not list(tmp_path.glob(".staging-*"))


def test_only_safetensors_are_published(tmp_path: Path, tokenizer: Any) -> None:
    arguments: dict[str, Any] = {"stage": "sft", "kind": "policy", "tokenizer": tokenizer, "context": 256}
    folder = staged(tmp_path, tokenizer)
    (folder / "training_args.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"pickled weights \(training_args.bin\)"):
        publish(folder, tmp_path, **arguments)
    (folder / "training_args.bin").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        publish(folder, tmp_path, **arguments)
    assert list(checkpoints.checkpoints(tmp_path)) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.artifacts.test_checkpoints import published
from tests.support import tiny_models
from training.artifacts import checkpoints

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "rename":
    Path.rename = die
else:
    checkpoints.write_atomically = die
published(Path(sys.argv[1]), tiny_models.tokenizer())
"""


@pytest.mark.parametrize("moment", ["manifest", "rename"])
def test_a_kill_while_publishing_leaves_nothing_that_can_be_found(tmp_path: Path, tokenizer: Any, moment: str) -> None:
    before = published(tmp_path, tokenizer)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".staging-*"))) == 1
    assert resolve("sft", tmp_path) == before
    assert [c.id for c in checkpoints.checkpoints(tmp_path)] == [before.id]
    assert sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == [before.id]


def test_sweep_leaves_the_folders_of_living_processes_and_of_other_machines(tmp_path: Path) -> None:
    """Another machine, or another container, that shares the store counts its processes on its own: there the number
    of a living process means nothing, and only age tells."""
    mine = staging(tmp_path)
    gone = tmp_path / mine.name.replace(f"-{os.getpid()}-", "-4194305-")  # above the kernel's greatest process id
    host, namespace = mine.name.split("-")[1:3]
    elsewhere = tmp_path / mine.name.replace(host, "f" * 12).replace(f"-{os.getpid()}-", "-4194305-")
    container = tmp_path / mine.name.replace(f"-{namespace}-", "-1-").replace(f"-{os.getpid()}-", "-4194305-")
    forgotten = tmp_path / f".staging-{'e' * 12}-1-1-aa"
    unnumbered = tmp_path / ".staging-by-hand"
    for folder in (gone, elsewhere, container, forgotten, unnumbered):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
    long_ago = time.time() - 8 * 24 * 3600
    for path in (forgotten / "model.safetensors", forgotten):
        os.utime(path, (long_ago, long_ago))
    assert sweep(tmp_path) == 2
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, container, unnumbered])


FOREIGN: dict[str, bytes] = {
    "newer": json.dumps(GOLDEN | {"format": 2, "novelty": 1}).encode(),
    "foreign": b'{"name": "a web page"}',
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[1]",
    "wrong types": json.dumps(GOLDEN | {"parents": 5}).encode(),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_one_manifest_that_cannot_be_read_hides_no_other(
    tmp_path: Path, tokenizer: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good = published(tmp_path, tokenizer)
    (tmp_path / "zz-other").mkdir()
    (tmp_path / "zz-other" / "manifest.json").write_bytes(content)
    assert resolve("sft", tmp_path) == good
    assert "zz-other" in caplog.text
    with pytest.raises(UserError, match="zz-other"):
        resolve("zz-other", tmp_path)


def test_resolve_by_id_folder_and_newest_of_a_stage(tmp_path: Path, tokenizer: Any) -> None:
    first, second = published(tmp_path, tokenizer), published(tmp_path, tokenizer)
    other = published(tmp_path, tokenizer, stage="sft-long")
    assert resolve(first.id, tmp_path) == first
    assert resolve(str(first.path), tmp_path / "elsewhere") == first
    assert resolve("sft", tmp_path) == second
    assert resolve("latest:sft", tmp_path) == second
    assert resolve("sft-long", tmp_path) == other


def test_resolve_names_what_there_is(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"no checkpoint 'sft' .*none yet"):
        resolve("sft", tmp_path / "no-store")
    made = published(tmp_path / "store", tokenizer)
    with pytest.raises(UserError, match=f"no checkpoint 'ppo' .*{made.id}"):
        resolve("ppo", tmp_path / "store")
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"has no manifest.json: run `python -m training adopt"):
        resolve(tmp_path / "model", tmp_path / "store")


def test_the_tokenizer_hash_covers_its_files_alone(tmp_path: Path, tokenizer: Any) -> None:
    made = published(tmp_path, tokenizer)
    assert checkpoints.tokenizer_hash(made.path) == made.manifest.tokenizer_hash
    (made.path / "config.json").write_text('{"changed": 1}')
    assert checkpoints.tokenizer_hash(made.path) == made.manifest.tokenizer_hash
    (made.path / "tokenizer.json").write_text("{}")
    assert checkpoints.tokenizer_hash(made.path) != made.manifest.tokenizer_hash
