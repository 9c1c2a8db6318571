"""Checkpoints in an object store: whole and unchanged, or one sentence. On folders and in memory; S3 is in test_s3."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.object_stores import files_of, publish
from tests.support.signals import take_ctrl_c
from training.artifacts.checkpoints import MANIFEST, checkpoints
from training.artifacts.errors import UserError
from training.registry import contents, places, pull, push
from training.registry.places import Place
from training.runtime import cleaning, locks

pytestmark = pytest.mark.unit


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/place"
        return
    yield f"memory://{tmp_path}/place"
    MemoryFileSystem.store.clear()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    publish(tmp_path / "a", "sft-1")
    publish(tmp_path / "a", "ppo-1", "sft-1", "gone-1")
    return tmp_path / "a"


def do_push(home: Path, url: str, *names: str, **options: Any) -> list[str]:
    return push.push(push.Config(url, names, home=home, **options))


def do_pull(home: Path, url: str, *names: str, **options: Any) -> list[str]:
    return [one.id for one in pull.pull(pull.Config(url, names, home=home, **options))]


def edit(url: str, name: str, change: Callable[[bytes], bytes] | None) -> None:
    """Change a file of a place, or delete it."""
    files, root = fsspec.core.url_to_fs(url)
    if change is None:
        files.rm(f"{root}/{name}")
    else:
        files.pipe_file(f"{root}/{name}", change(files.cat_file(f"{root}/{name}")))


def test_a_checkpoint_and_its_parents_arrive_as_they_were(
    home: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do_push(home, url, "ppo") == ["ppo-1"]
    assert "left out: the parents gone-1, sft-1 (--parents takes them)" in capsys.readouterr().err
    assert do_push(home, url, "ppo-1", parents=True) == ["sft-1", "ppo-1"]
    assert "left out: gone-1, no longer in" in capsys.readouterr().err
    assert pull.show(Place(url)) == ["ppo-1", "sft-1"]
    assert do_pull(tmp_path / "b", url, "ppo-1") == ["ppo-1"]
    assert "sft-1 (a parent, --parents takes it)" in capsys.readouterr().err
    assert do_pull(tmp_path / "b", url, "ppo-1", parents=True) == ["ppo-1", "sft-1"]
    assert "left out: gone-1 (not in the place)" in capsys.readouterr().err
    for id in ("ppo-1", "sft-1"):
        assert files_of(tmp_path / "b/checkpoints" / id) == files_of(home / "checkpoints" / id)
    assert sorted(path.name for path in (tmp_path / "b/checkpoints").iterdir()) == ["ppo-1", "sft-1"]


def with_contents(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda old: json.dumps(json.loads(old) | changes).encode()


def with_file(name: str, **facts: Any) -> Callable[[bytes], bytes]:
    def change(old: bytes) -> bytes:
        fields = json.loads(old)
        sha256 = hashlib.sha256(b"x").hexdigest()
        fields["files"][name] = {"sha256": sha256, "bytes": 1} | fields["files"].get(name, {}) | facts
        return json.dumps(fields).encode()

    return change


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes] | None, str]] = {
    "no manifest": (MANIFEST, None, "its push is not finished"),
    "another manifest": (MANIFEST, lambda old: old.replace(b"64", b"65"), "not the one that was pushed"),
    "no contents": ("files.json", None, "has no files.json"),
    "half contents": ("files.json", lambda old: old[:-40], "files.json is damaged"),
    "deep contents": ("files.json", lambda old: b"[" * 100_000, "files.json is damaged"),
    "contents of another": ("files.json", with_contents(id="sft-2"), "it is of 'sft-2'"),
    "newer contents": ("files.json", with_contents(format=2), "this version reads 1: update"),
    "a weight missing": ("model.safetensors", None, "model.safetensors is cut off or missing"),
    "a weight cut off": ("model.safetensors", lambda old: old[:-1], "model.safetensors is cut off or missing"),
    "another weight": ("model.safetensors", lambda old: b"wEights", "model.safetensors has another sha256"),
    "another file": ("config.json", lambda old: b"[]", "config.json has another sha256"),
    "escape": ("files.json", with_file("../../escaped"), "is not a name of a checkpoint's file"),
    "escape inside": ("files.json", with_file("more/../../x"), "is not a name of a checkpoint's file"),
    "absolute": ("files.json", with_file("/tmp/escaped"), "is not a name of a checkpoint's file"),
    "control": ("files.json", with_file("a\x1b[2Jb"), "is not a name of a checkpoint's file"),
    "half a character": ("files.json", with_file("a\ud800"), "is not a name of a checkpoint's file"),
    "long": ("files.json", with_file("x" * 256), "is not a name of a checkpoint's file"),
    "file and folder": ("files.json", with_file("config.json/x"), "'config.json' is a file and a folder"),
    "pickle": ("files.json", with_file("model.bin"), "holds pickled weights"),
    "bad hash": ("files.json", with_file("config.json", sha256="../x"), "no hash and size of 'config.json'"),
    "bad size": ("files.json", with_file("config.json", bytes=-1), "no hash and size of 'config.json'"),
    "huge": ("files.json", with_file("config.json", bytes=10**18), "make room"),
    "weights of another": (
        "files.json", with_file("model.safetensors", sha256="0" * 64), "is not the file of its manifest"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_does_not_arrive(home: Path, url: str, kind: str, tmp_path: Path) -> None:
    do_push(home, url, "sft-1")
    name, change, sentence = DAMAGE[kind]
    edit(url, f"sft-1/{name}", change)
    with pytest.raises(UserError, match=sentence) as caught:
        do_pull(tmp_path / "b", url, "sft-1")
    assert "\n" not in str(caught.value)
    assert list(checkpoints(tmp_path / "b/checkpoints")) == []
    assert not (tmp_path / "escaped").exists()
    do_push(home, url, "sft-1", replace=True)
    assert do_pull(tmp_path / "b", url, "sft-1") == ["sft-1"]
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(home / "checkpoints/sft-1")


def test_a_manifest_of_another_checkpoint_or_of_absent_files_is_refused(home: Path, url: str, tmp_path: Path) -> None:
    def pushed_with(**fields: Any) -> None:
        do_push(home, url, "sft-1", replace=True)
        manifest = json.dumps(json.loads((home / "checkpoints/sft-1" / MANIFEST).read_text()) | fields).encode()
        edit(url, f"sft-1/{MANIFEST}", lambda _: manifest)
        facts = {"sha256": hashlib.sha256(manifest).hexdigest(), "bytes": len(manifest)}
        edit(url, "sft-1/files.json", with_file(MANIFEST, **facts))

    for fields, sentence in (
        ({"id": "sft-2"}, "is of 'sft-2'"),
        ({"weights": {"gone.safetensors": "0" * 64}}, "it has no 'gone.safetensors', which its manifest names"),
        ({"weights": ["x"]}, "it names no manifest.json"),
        ({"tokenizer_hash": "0"}, "its tokenizer is not the one of its manifest"),
        ({"format": 2}, "update AlignLoop"),
        ({"unknown": 1}, "is not a manifest"),
    ):
        pushed_with(**fields)
        with pytest.raises(UserError, match=sentence):
            do_pull(tmp_path / "b", url, "sft-1")
        assert list(checkpoints(tmp_path / "b/checkpoints")) == []


def test_only_whole_checkpoints_of_ids_are_pushed(home: Path, url: str, tmp_path: Path) -> None:
    folder = home / "checkpoints/sft-1"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    with pytest.raises(UserError, match="is a symbolic link"):
        do_push(home, url, "sft-1")
    (folder / "link").unlink()
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match=r"model\.safetensors is not the file of its manifest"):
        do_push(home, url, "sft-1")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no 'model\.safetensors'"):
        do_push(home, url, "sft-1")
    (home / "checkpoints/ppo-1").rename(home / "checkpoints/ppo-2")
    with pytest.raises(UserError, match="holds the checkpoint ppo-1: name the folder so"):
        do_push(home, url, "ppo-2")
    assert pull.show(Place(url)) == []
    for name in ("../sft-1", "/sft-1", ".", "", "policy/production", "a\nb", "x" * 300):
        with pytest.raises(UserError, match="is not the id of a checkpoint"):
            do_pull(tmp_path / "b", url, name)


def test_another_checkpoint_of_the_same_id_is_refused_on_both_sides(home: Path, url: str, tmp_path: Path) -> None:
    do_push(home, url, "sft-1")
    publish(tmp_path / "b", "sft-1", weights=b"others")
    with pytest.raises(UserError, match="is another checkpoint than the one of this home"):
        do_push(tmp_path / "b", url, "sft-1")
    with pytest.raises(UserError, match="use another --home"):
        do_pull(tmp_path / "b", url, "sft-1")
    assert (tmp_path / "b/checkpoints/sft-1/model.safetensors").read_bytes() == b"others"


def test_urls_that_lead_nowhere_are_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("ftp://host/x", "s3://", "s3://key:secret@bucket/x", "simplecache::s3://bucket/x", "file:///",
                  "s3:/bucket/x", "s3:bucket", "file:/srv/x", "~/x", "/srv/a::b", "file:///srv/a::b"):  # fmt: skip
        with pytest.raises(UserError, match="a place is a URL such as") as caught:
            do_push(home, wrong, "sft-1")
        assert "secret" not in str(caught.value)
    for scheme, package in (("s3", "s3fs==20"), ("gs", '"gcsfs<=20')):
        monkeypatch.setitem(sys.modules, package[:4] if scheme == "s3" else "gcsfs", None)
        with pytest.raises(UserError, match=f"pip install {package}"):
            do_push(home, f"{scheme}://bucket/x", "sft-1")


class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """In memory, behind a network that fails and with listings that lag."""

    protocol = "memory"
    failures = 0
    cachable = False

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        if path.endswith("model.safetensors") and Faulty.failures > 0:
            Faulty.failures -= 1
            raise ConnectionResetError("Connection reset by peer")
        return super().cat_file(path, start=start, end=end, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        return []


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(places, "url_to_fs", lambda url, **_: (Faulty(), url.removeprefix("memory:/")))
    monkeypatch.setattr(places, "WAITS", (0.0, 0.0))
    yield "memory://faulty/place"
    MemoryFileSystem.store.clear()


def test_requests_are_tried_again_a_few_times_and_listings_are_not_asked(
    home: Path, faulty: str, tmp_path: Path
) -> None:
    do_push(home, faulty, "sft-1")
    Faulty.failures = 2
    assert do_pull(tmp_path / "b", faulty, "sft-1") == ["sft-1"]
    Faulty.failures = 100
    with pytest.raises(UserError, match="Connection reset by peer: try the same command again, it resumes"):
        do_pull(tmp_path / "c", faulty, "sft-1")
    assert Faulty.failures == 97
    arrived = files_of(tmp_path / "c/checkpoints/.pulling-sft-1/files")
    assert "config.json" in arrived
    Faulty.failures = 0
    assert do_pull(tmp_path / "c", faulty, "sft-1") == ["sft-1"]


def test_a_file_whose_arrival_was_cut_off_is_brought_again(home: Path, url: str, tmp_path: Path) -> None:
    do_push(home, url, "sft-1")
    arriving = tmp_path / "b/checkpoints/.pulling-sft-1/files"
    (arriving / "more").mkdir(parents=True)
    (arriving / "config.json").write_text("[]")
    (arriving / "more/stray").write_text("of another")
    (arriving / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    do_pull(tmp_path / "b", url, "sft-1")
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(home / "checkpoints/sft-1")
    assert not (tmp_path / "elsewhere").exists()


def test_a_pull_by_another_process_is_waited_for_and_leftovers_are_cleaned(
    home: Path, url: str, tmp_path: Path
) -> None:
    do_push(home, url, "sft-1")
    arriving = tmp_path / "b/checkpoints/.pulling-sft-1"
    lock = locks.try_lock(arriving)
    assert lock is not None
    with lock, pytest.raises(UserError, match="another process pulls sft-1"):
        do_pull(tmp_path / "b", url, "sft-1")
    (left,) = cleaning.find(tmp_path / "b")
    assert (left.path, left.what) == (arriving, "a pull that was stopped")
    assert cleaning.delete(left)


def test_two_pulls_and_two_pushes_at_once_leave_whole_checkpoints(home: Path, url: str, tmp_path: Path) -> None:
    def together(work: Callable[[], Any]) -> None:
        errors: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except UserError as error:
                if "another process pulls" not in str(error):
                    errors.append(error)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    together(lambda: do_push(home, url, "sft-1"))
    together(lambda: do_pull(tmp_path / "b", url, "sft-1"))
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(home / "checkpoints/sft-1")


def test_ctrl_c_leaves_no_checkpoint(tmp_path: Path) -> None:
    publish(tmp_path / "a", "sft-1", weights=b"0" * 2**20)
    url = f"file://{tmp_path}/place"
    do_push(tmp_path / "a", url, "sft-1")
    (tmp_path / "place/sft-1/model.safetensors").unlink()
    os.mkfifo(tmp_path / "place/sft-1/model.safetensors")  # a read that does not end
    command = [sys.executable, "-m", "training", "pull", url, "sft-1", "--home", str(tmp_path / "b")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=take_ctrl_c)
    waiting = tmp_path / "b/checkpoints/.pulling-sft-1/files/model.safetensors"
    for _ in range(300):
        if waiting.exists():
            break
        threading.Event().wait(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "stopped, no partial files left: run the same command to resume"
    assert list(checkpoints(tmp_path / "b/checkpoints")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_on_both_sides(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "a", "sft-1", weights=os.urandom(2**20))
    do_push(tmp_path / "a", f"file://{tmp_path}/place", "sft-1")
    with pytest.raises(UserError, match="has room for"):
        do_pull(small_disk, f"file://{tmp_path}/place", "sft-1")
    monkeypatch.setattr(pull, "_check_room", lambda *_: None)  # another process fills it meanwhile
    with pytest.raises(OSError, match="No space left"):  # `run_command` says it in one line
        do_pull(small_disk, f"file://{tmp_path}/place", "sft-1")
    assert list(checkpoints(small_disk / "checkpoints")) == []
    with pytest.raises(OSError, match="No space left"):
        do_push(tmp_path / "a", f"file://{small_disk}/place", "sft-1")
    assert not list(small_disk.rglob("*.partial"))
    assert pull.show(Place(f"file://{small_disk}/place")) == []


def test_names_of_files_are_checked_whatever_they_are() -> None:
    file = contents.File("0" * 64, 1)
    for name in ("", ".", "..", "a/..", "a//b", "a/", "./a", "a\\b", "files.json"):
        with pytest.raises(UserError, match="is not a name"):
            contents.check(contents.Contents("x-1", {name: file, MANIFEST: file}), {}, "there")
