"""The short commands, from the command line's words to the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from service.__main__ import main
from service.keys import digest
from service.store.database import Store
from service.store.models import Alias, Audit, Key, Labeler
from training.artifacts.checkpoints import MANIFEST
from training.artifacts.errors import UserError, run_command

pytestmark = pytest.mark.unit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A --home with two policies and a reward model: manifests are all that these commands read."""
    for number, (name, kind) in enumerate((("sft-1", "policy"), ("sft-2", "policy"), ("reward-1", "reward"))):
        fields = {
            "id": name, "stage": name[:-2], "kind": kind, "parents": [], "created": f"2026-01-31T10:15:0{number}+00:00",
            "tokenizer_hash": "0", "template_hash": None, "stop_ids": [], "context": 64,
        }  # fmt: skip
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(json.dumps(fields))
    return tmp_path


def store(home: Path) -> Store:
    return Store(f"sqlite:///{home / 'service.db'}")


def test_a_key_is_printed_once_and_stored_as_a_hash(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "add", "loop", "--scopes", "export", "admin", "--days", "3", "--home", str(home)])
    secret = capsys.readouterr().out.strip()
    with store(home).session() as session:
        key = session.scalars(select(Key)).one()
        assert (key.secret_hash, key.scopes) == (digest(secret), ["admin", "export"])
        assert key.expires is not None
        prefix = key.prefix
    main(["keys", "list", "--home", str(home)])
    listed = capsys.readouterr().out
    assert "loop" in listed
    assert secret not in listed
    main(["keys", "revoke", prefix, "--home", str(home)])
    with store(home).session() as session:
        assert session.scalars(select(Key)).one().revoked is not None
        assert session.scalars(select(Audit.action)).all() == ["add_key", "revoke_key"]


def test_lists_show_ids_whole(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("loop", "a longer name " * 10):
        main(["keys", "add", name, "--scopes", "export", "generate", "score", "--home", str(home)])
    main(["promote", "policy/production", "sft-1", "--no-wait", "--home", str(home)])
    capsys.readouterr()
    with store(home).session() as session:
        ids = session.scalars(select(Key.id)).all()
    main(["keys", "list", "--home", str(home)])
    listed = capsys.readouterr().out
    assert len(ids) == 2
    assert all(id_ in listed for id_ in ids)
    main(["aliases", "list", "--home", str(home)])
    assert "policy/production  sft-1" in capsys.readouterr().out


def test_labelers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["labelers", "add", "Ada", "--group", "heldout", "--home", str(home)])
    token = capsys.readouterr().out.strip()
    with pytest.raises(UserError, match="already"):
        main(["labelers", "add", "Ada", "--home", str(home)])
    main(["labelers", "disable", "Ada", "--home", str(home)])
    with store(home).session() as session:
        labeler = session.scalars(select(Labeler)).one()
        assert (labeler.token_hash, labeler.group) == (digest(token), "heldout")
        assert labeler.disabled is not None
        assert "Ada" not in labeler.pseudonym


def test_promote_by_stage_and_roll_back(home: Path) -> None:
    for checkpoint in ("sft-1", "sft"):
        main(["promote", "policy/production", checkpoint, "--no-wait", "--home", str(home)])
    assert alias(home) == ("sft-2", 2)
    main(["rollback", "policy/production", "--no-wait", "--home", str(home)])
    assert alias(home) == ("sft-1", 3)


def alias(home: Path) -> tuple[str, int]:
    with store(home).session() as session:
        row = session.get_one(Alias, "policy/production")
        return row.checkpoint, row.version


@pytest.mark.parametrize(
    "words, message",
    [
        (["promote", "policy/production", "sft-9"], "no checkpoint 'sft-9'"),
        (["promote", "production", "sft-1"], "is not an alias"),
        (["promote", "reward/production", "sft-1"], "is a policy model"),
        (["rollback", "policy/production"], "no alias 'policy/production'"),
        (["keys", "add", "x", "--scopes", "everything"], "unknown scope 'everything'"),
        (["keys", "revoke", "nothing"], "no key has the id or prefix"),
        (["labelers", "disable", "Eve"], "no labeler 'Eve'"),
        (["import", "prompts", "missing.jsonl"], "does not exist"),
        (["serve", "--host", "0.0.0.0"], "needs a key first"),
        (["serve", "--host", "0.0.0.0", "--open"], "loopback"),
        (["serve", "--with-engines", "sft-9"], "no checkpoint 'sft-9'"),
        (["serve", "--engine", "sft-1=http://127.0.0.1:9"], "--engine needs --with-engines"),
        (["engines", "--engine", "sft-1:9000"], "is not ID=URL"),
        (["engines", "--serve", "sft-9"], "no checkpoint 'sft-9'"),
        (["keys", "list", "--database", "nonsense"], "is not a database URL"),
    ],
)
def test_mistakes_are_one_sentence(home: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([*words, "--home", str(home)])


def test_a_wrong_setting_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNLOOP_PORT", "99999")
    with pytest.raises(UserError, match="ALIGNLOOP_PORT"):
        main(["keys", "list", "--home", str(home)])


def test_the_environment_gives_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNLOOP_DATABASE", f"sqlite:///{home / 'elsewhere.db'}")
    main(["labelers", "add", "Ada", "--home", str(home)])
    assert (home / "elsewhere.db").is_file()
    assert not (home / "service.db").exists()


def test_an_export_to_a_place_that_takes_no_file_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "file").write_text("")
    for place in ("/proc/x.json", "/proc/x/y.json", str(home / "file" / "x.json"), str(home)):
        assert run_command(lambda place=place: main(["export", place, "--home", str(home)])) == 2  # type: ignore[misc]
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert error.startswith("error: ")
    assert {path.name for path in home.iterdir() if not path.name.startswith("service.db")} == {"checkpoints", "file"}
