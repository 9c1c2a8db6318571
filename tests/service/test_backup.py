"""Backups: what was accepted before one is there after its restoration, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.__main__ import main
from service.backups import databases
from service.labelers import add_labeler
from service.preferences import answers, prompts, tasks
from service.preferences.answers import Judgement
from service.store.database import Store
from service.store.models import Answer, Key, Labeler, Prompt
from tests.service.conftest import empty_postgresql
from training.artifacts.checkpoints import MANIFEST
from training.artifacts.comparisons import Response
from training.artifacts.errors import UserError, run_command

Command = Callable[..., str]
Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture(params=[
    pytest.param("sqlite", marks=pytest.mark.unit), pytest.param("postgresql", marks=pytest.mark.integration),
])  # fmt: skip
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database to restore into, of the kind of `store`."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new/restored.db"
        return
    with empty_postgresql() as url:
        yield url


@pytest.fixture
def stocked(empty: str, tmp_path: Path) -> Iterator[Store]:
    """A store of the kind of `empty`, with 50 prompts and a labeler."""
    if empty.startswith("sqlite"):
        yield from _filled(f"sqlite:///{tmp_path}/service.db")
        return
    with empty_postgresql() as url:
        yield from _filled(url)


def _filled(url: str) -> Iterator[Store]:
    store = Store(url)
    store.migrate()
    prompts.import_rows(store, [{"id": f"p{i}", "prompt": f"Question {i}?"} for i in range(50)])
    with store.session() as session:
        add_labeler(session, "Ada", "a")
    yield store
    store.close()


@pytest.fixture
def command(stocked: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`backup` of `stocked`, or another command with a database; returns what it said."""

    def run(*words: str, database: str | None = None, checkpoints: str = "checkpoints") -> str:
        capsys.readouterr()
        url = database or stocked.engine.url.render_as_string(hide_password=False)
        main([*words, "--database", url, "--checkpoints", str(tmp_path / checkpoints)])
        return capsys.readouterr().err

    return run


def publish(folder: Path, id: str, weights: bytes = b"weights") -> None:
    (folder / id).mkdir(parents=True)
    (folder / id / "model.safetensors").write_bytes(weights)
    fields = {
        "id": id, "stage": id.split("-")[0], "kind": "policy", "parents": [], "created": "2026-01-31T10:15:00+00:00",
        "tokenizer_hash": "0", "template_hash": None, "stop_ids": [], "context": 64,
        "weights": {"model.safetensors": hashlib.sha256(weights).hexdigest()},
    }  # fmt: skip
    (folder / id / MANIFEST).write_text(json.dumps(fields))


def vote(store: Store, prompt: str) -> str:
    responses = [Response("red", "sft-1", {}, "stop"), Response("green", "sft-1", {}, "stop")]
    with store.session() as session:
        labeler = session.scalars(select(Labeler.id)).one()
        task, token = tasks.open_task(
            session, labeler, "compare", prompt, responses, guideline="1", propensity=0.5, minutes=5
        )
        return answers.answer(session, task.id, labeler, token, Judgement(ranks=[1, 2])).id


def test_nothing_that_was_accepted_before_a_backup_is_missing_after_its_restoration(
    stocked: Store, empty: str, command: Command, tmp_path: Path
) -> None:
    publish(tmp_path / "checkpoints", "sft-1")
    before = {vote(stocked, f"p{i}") for i in range(10)}
    accepted: list[str] = []
    done = threading.Event()

    def keep_voting() -> None:
        for i in range(10, 50):
            accepted.append(vote(stocked, f"p{i}"))
            if done.is_set():
                return

    voting = threading.Thread(target=keep_voting)
    voting.start()
    said = command("backup", str(tmp_path / "kept"))
    done.set()
    voting.join()
    assert "1 checkpoints in" in said
    command("restore", str(tmp_path / "kept"), database=empty, checkpoints="new-checkpoints")
    restored = Store(empty)
    with restored.session() as session:
        found = set(session.scalars(select(Answer.id)))
        assert session.scalar(select(func.count()).select_from(Prompt)) == 50
    assert before <= found <= before | set(accepted)
    assert (tmp_path / "new-checkpoints/sft-1/model.safetensors").read_bytes() == b"weights"
    restored.migrate()
    restored.close()


def test_a_second_backup_copies_only_new_checkpoints_and_the_newest_is_restored(
    stocked: Store, empty: str, command: Command, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    publish(tmp_path / "checkpoints", "sft-1")
    command("backup", str(kept))
    first = (kept / "checkpoints/sft-1").stat().st_ino
    publish(tmp_path / "checkpoints", "sft-2")
    vote(stocked, "p0")
    assert "2 checkpoints in" in command("backup", str(kept))
    assert (kept / "checkpoints/sft-1").stat().st_ino == first
    command("restore", str(kept), database=empty, checkpoints="brought-back")
    restored = Store(empty)
    with restored.session() as session:
        assert session.scalar(select(func.count()).select_from(Answer)) == 1
    restored.close()
    assert {path.name for path in (tmp_path / "brought-back").iterdir()} == {"sft-1", "sft-2"}


def test_a_store_in_use_is_never_overwritten(stocked: Store, command: Command, tmp_path: Path) -> None:
    command("backup", str(tmp_path / "kept"))
    with pytest.raises(UserError, match="tables: move it away, or give an empty one"):
        command("restore", str(tmp_path / "kept"))


@pytest.mark.unit
class TestOnSqlite:
    @pytest.fixture
    def empty(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/new/restored.db"

    def test_a_damaged_backup_restores_nothing(self, empty: str, command: Command, tmp_path: Path) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        command("backup", str(tmp_path / "kept"))
        (folder,) = (tmp_path / "kept").glob("2*")
        whole = (folder / "database.sqlite").read_bytes()
        faults = {
            "is damaged: its sha256": lambda: (folder / "database.sqlite").write_bytes(whole[:-1]),
            "is not whole": lambda: (folder / "database.sqlite").unlink(),
            "missing or damaged: restore another backup, or copy": lambda: (
                tmp_path / "kept/checkpoints/sft-1" / MANIFEST
            ).write_text("{}"),
        }
        for message, damage in faults.items():
            (folder / "database.sqlite").write_bytes(whole)
            damage()
            with pytest.raises(UserError, match=message):
                command("restore", str(folder), database=empty, checkpoints="brought-back")
        (folder / "backup.json").write_text("{")
        with pytest.raises(UserError, match="is damaged"):
            command("restore", str(folder), database=empty, checkpoints="brought-back")
        (folder / "backup.json").unlink()
        with pytest.raises(UserError, match="holds no backup"):
            command("restore", str(tmp_path / "kept"), database=empty, checkpoints="brought-back")
        assert not (tmp_path / "brought-back").exists()

    def test_damaged_weights_are_neither_backed_up_nor_restored(
        self, empty: str, command: Command, tmp_path: Path
    ) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        weights = tmp_path / "checkpoints/sft-1/model.safetensors"
        weights.write_bytes(b"other")
        with pytest.raises(UserError, match="is damaged: its sha256 is not the manifest's"):
            command("backup", str(tmp_path / "kept"))
        assert not list((tmp_path / "kept").glob("*/backup.json"))
        assert not list((tmp_path / "kept/checkpoints").iterdir())
        weights.write_bytes(b"weights")
        command("backup", str(tmp_path / "kept"))
        (tmp_path / "kept/checkpoints/sft-1/model.safetensors").write_bytes(b"other")
        with pytest.raises(UserError, match="is damaged"):
            command("restore", str(tmp_path / "kept"), database=empty, checkpoints="brought-back")
        assert not list((tmp_path / "brought-back").glob("*"))
        # The database waits for the checkpoints: the same command works once they are mended.
        (tmp_path / "kept/checkpoints/sft-1/model.safetensors").write_bytes(b"weights")
        command("restore", str(tmp_path / "kept"), database=empty, checkpoints="brought-back")

    def test_what_is_not_a_store_is_one_sentence(self, command: Command, empty: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no store: correct --home or --database"):
            command("backup", str(tmp_path / "kept"), database=empty)
        with pytest.raises(UserError, match="holds no backup"):
            command("restore", str(tmp_path), database=empty)
        command("backup", str(tmp_path / "kept"))
        file = next((tmp_path / "kept").glob("2*/database.sqlite"))
        with pytest.raises(UserError, match="is not a copy of a database of postgresql"):
            databases.restore(file, "postgresql://x@127.0.0.1:1/y")

    def test_backups_are_the_owners_alone(self, stocked: Store, command: Command, tmp_path: Path) -> None:
        with stocked.session() as session:
            assert session.scalars(select(Key)).all() == []
        command("backup", str(tmp_path / "kept"))
        (folder,) = (tmp_path / "kept").glob("2*")
        assert folder.stat().st_mode & 0o077 == 0

    def test_what_is_not_a_whole_backup_is_one_sentence(self, empty: str, command: Command, tmp_path: Path) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        (tmp_path / "checkpoints/sft-1/config.json").write_text("{}")
        command("backup", str(tmp_path / "kept"))
        (folder,) = (tmp_path / "kept").glob("2*")
        whole = json.loads((folder / "backup.json").read_text())
        for changes in (
            {"checkpoints": ["sft-1"]}, {"checkpoints": {"../sft-1": "0"}}, {"checkpoints": {"": "0"}}, {"rows": 3},
            {"database": 7}, {"sha256": None}, {"created": []}, {"database": "../service.db"}, {"format": 9},
        ):  # fmt: skip
            (folder / "backup.json").write_text(json.dumps(whole | changes))
            with pytest.raises(UserError, match=r"is damaged|is not whole|update AlignLoop"):
                command("restore", str(folder), database=empty, checkpoints="brought-back")
        (folder / "backup.json").write_text(json.dumps(whole))
        (tmp_path / "kept/checkpoints/sft-1/config.json").write_text("[]")
        with pytest.raises(UserError, match="sft-1 is missing or damaged"):
            command("restore", str(folder), database=empty, checkpoints="brought-back")
        (tmp_path / "kept/checkpoints/sft-1/config.json").write_text("{}")
        publish(tmp_path / "kept/checkpoints", "sft-9")  # of a later backup, and damaged
        (tmp_path / "kept/checkpoints/sft-9/model.safetensors").write_bytes(b"other")
        command("restore", str(folder), database=empty, checkpoints="brought-back")
        assert [path.name for path in (tmp_path / "brought-back").iterdir()] == ["sft-1"]

    def test_a_backup_onto_or_into_itself_is_refused(self, command: Command, tmp_path: Path) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        (tmp_path / "link").symlink_to(tmp_path)
        for folder in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints/kept", tmp_path / "link"):
            with pytest.raises(UserError, match="would be a copy of itself"):
                command("backup", str(folder))
        assert not list(tmp_path.rglob("backup.json"))

    def test_a_checkpoint_in_a_folder_of_another_name_is_restored_as_it_was(
        self, empty: str, command: Command, tmp_path: Path
    ) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        (tmp_path / "checkpoints/sft-1").rename(tmp_path / "checkpoints/renamed")
        command("backup", str(tmp_path / "kept"))
        command("restore", str(tmp_path / "kept"), database=empty, checkpoints="brought-back")
        assert (tmp_path / "brought-back/renamed/model.safetensors").read_bytes() == b"weights"

    def test_what_a_killed_backup_left_goes_with_the_next(self, command: Command, tmp_path: Path) -> None:
        publish(tmp_path / "checkpoints", "sft-1")
        killed = (
            "import os, sys; from service.backups import checkpoints; from service.__main__ import main; "
            "checkpoints._copy_file = lambda *_: os.kill(os.getpid(), 9); main(sys.argv[1:])"
        )
        words = ["backup", str(tmp_path / "kept"), "--home", str(tmp_path)]
        assert subprocess.run([sys.executable, "-c", killed, *words], stderr=subprocess.DEVNULL).returncode == -9
        assert list(tmp_path.glob("kept/checkpoints/.staging-*"))
        assert list(tmp_path.glob("kept/.staging-*"))
        with pytest.raises(UserError, match="holds no backup"):
            command("restore", str(tmp_path / "kept"), database=f"sqlite:///{tmp_path}/other.db")
        command("backup", str(tmp_path / "kept"))
        assert not list(tmp_path.glob("kept/**/.staging-*"))

    def test_two_backups_at_once_are_both_whole(self, empty: str, command: Command, tmp_path: Path) -> None:
        for number in range(5):
            publish(tmp_path / "checkpoints", f"sft-{number}", os.urandom(2**20))
        words = [sys.executable, "-m", "service", "backup", str(tmp_path / "kept"), "--home", str(tmp_path)]
        started = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        ends = [(process.communicate()[1], process.returncode) for process in started]
        assert [status for _, status in ends] == [0, 0, 0], ends
        for number, folder in enumerate(sorted((tmp_path / "kept").glob("2*"))):
            url = f"sqlite:///{tmp_path}/restored-{number}.db"
            command("restore", str(folder), database=url, checkpoints=f"back-{number}")
        assert number == 2


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts folders: a small disk of so many KiB, or a folder itself, read-only."""
    folders: list[Path] = []

    def mount(folder: Path, kilobytes: int | None = None) -> Path:
        folder.mkdir(exist_ok=True)
        words = ["--bind", str(folder)] if kilobytes is None else ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"]
        if subprocess.run(["mount", *words, str(folder)], capture_output=True).returncode != 0:
            pytest.skip("only root may mount")
        folders.append(folder)
        if kilobytes is None:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        return folder

    yield mount
    for folder in reversed(folders):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command of the service: its status, and the lines that it wrote."""

    def run_one(*words: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = run_command(lambda: main(words))
        return status, "".join(capsys.readouterr()).strip().splitlines()

    return run_one


def test_a_full_disk_is_one_line_and_leaves_no_backup(
    stocked: Store, run: Run, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    publish(tmp_path / "checkpoints", "sft-1", os.urandom(2**21))
    url = stocked.engine.url.render_as_string(hide_password=False)
    for kilobytes in (32, 1024):  # no room for the database, then none for the checkpoint
        small = mounted(tmp_path / f"small{kilobytes}", kilobytes)
        status, lines = run("backup", str(small), "--database", url, "--checkpoints", str(tmp_path / "checkpoints"))
        assert (status, len(lines)) == (2, 1), lines
        assert not list(small.rglob("backup.json"))
        assert not list(small.rglob(".staging-*"))


def test_a_home_that_cannot_be_written_is_said_and_what_only_reads_works(
    stocked: Store, run: Run, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    url = stocked.engine.url.render_as_string(hide_password=False)
    on_disk = url.startswith("sqlite")
    home = tmp_path / "home"
    publish(home / "checkpoints", "sft-1")
    if on_disk:
        stocked.close()
        shutil.copy(tmp_path / "service.db", home)
    mounted(home)
    place = ["--home", str(home)] + ([] if on_disk else ["--database", url])
    for words in (["trace", "sft-1"], ["labelers", "list"], ["audit"], ["backup", str(tmp_path / "kept")]):
        if words[0] == "trace" and not on_disk:
            assert run("promote", "policy/production", "sft-1", "--no-wait", *place)[0] == 0
        status, lines = run(*words, *place)
        if on_disk:
            assert (status, len(lines)) == (2, 1), lines
            assert "cannot be written" in lines[0]
        else:
            assert status == 0, lines
    status, lines = run("backup", str(home / "kept"), "--database", url, "--checkpoints", str(home / "checkpoints"))
    assert (status, len(lines)) == (2, 1), lines
    kept = tmp_path / "fresh"
    publish(tmp_path / "more", "sft-2")
    assert run("backup", str(kept), "--database", url, "--checkpoints", str(tmp_path / "more"))[0] == 0
    status, lines = run("restore", str(kept), "--home", str(home), "--database", f"sqlite:///{tmp_path}/unused.db")
    if on_disk:
        assert (status, len(lines)) == (2, 1), lines
        assert "Read-only file system" in lines[0]
        assert not (tmp_path / "unused.db").exists()


@pytest.mark.integration
def test_a_damaged_dump_of_postgresql_changes_nothing(run: Run, tmp_path: Path) -> None:
    with empty_postgresql() as source, empty_postgresql() as target:
        for store in _filled(source):
            vote(store, "p0")
        words = ["--checkpoints", str(tmp_path / "checkpoints")]
        assert run("backup", str(tmp_path / "kept"), "--database", source, *words)[0] == 0
        (folder,) = (tmp_path / "kept").glob("2*")
        file, facts = folder / "database.pgdump", json.loads((folder / "backup.json").read_text())
        whole = file.read_bytes()
        for damaged in (whole[: len(whole) // 2], whole[:-200], b"not a dump"):
            file.write_bytes(damaged)  # with the right hash: as if it had been written so
            facts["sha256"] = hashlib.sha256(damaged).hexdigest()
            (folder / "backup.json").write_text(json.dumps(facts))
            status, lines = run("restore", str(folder), "--database", target, *words)
            assert (status, len(lines)) == (2, 1), lines
            assert databases.rows_of(target) == {}
        file.write_bytes(whole)
        facts["sha256"] = hashlib.sha256(whole).hexdigest()
        (folder / "backup.json").write_text(json.dumps(facts))
        assert run("restore", str(folder), "--database", target, *words)[0] == 0
