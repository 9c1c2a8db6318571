"""Lineage: from a checkpoint to the exact votes behind it, and from a vote to all that learned from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from service import aliases
from service.__main__ import main
from service.labelers import add_labeler
from service.preferences import answers, export, prompts, tasks
from service.preferences.answers import Judgement
from service.store.database import Store
from service.store.models import Audit
from training.artifacts.checkpoints import MANIFEST
from training.artifacts.comparisons import Response
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

pytestmark = pytest.mark.unit
Command = Callable[..., str]


class Home:
    """A folder with manifests and frozen files, and the store that its votes are in.

    sft-1 made reward-1, which votes v0 and v1 trained, and both made ppo-1; ppo-2 was made from ppo-1, other-1 alone.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.frozen = folder / "rankings.jsonl"
        prompts.import_rows(store, [{"id": f"p{i}", "prompt": f"Question {i}?", "user": f"u{i}"} for i in range(3)])
        with store.session() as session:
            person = add_labeler(session, "Ada Lovelace", "training")[0]
            self.labeler, self.pseudonym = person.id, person.pseudonym
        self.votes = [self.vote("p0"), self.vote("p1")]
        with store.session() as session:
            export.export_file(session, self.frozen)
        self.later = self.vote("p2")
        self.publish("sft-1")
        self.publish("reward-1", "sft-1", kind="reward", comparisons=self.frozen)
        self.publish("ppo-1", "sft-1", "reward-1")
        self.publish("other-1", validation=self.frozen)
        self.publish("ppo-2", "ppo-1", "gone-1")

    def vote(self, prompt: str) -> str:
        responses = [Response("red", "sft-1", {}, "stop"), Response("green", "ppo-1", {}, "stop")]
        with self.store.session() as session:
            task, token = tasks.open_task(
                session, self.labeler, "compare", prompt, responses, guideline="1", propensity=0.5, minutes=5
            )
            return answers.answer(session, task.id, self.labeler, token, Judgement(ranks=[1, 2])).id

    def publish(self, id: str, *parents: str, kind: str = "policy", **files: Path) -> None:
        folder = self.folder / "checkpoints" / id
        folder.mkdir(parents=True)
        number = len(list(folder.parent.iterdir()))
        fields = {
            "id": id, "stage": id.split("-")[0], "kind": kind, "parents": parents,
            "created": f"2026-01-31T10:15:{number:02}+00:00", "tokenizer_hash": "0", "template_hash": None,
            "stop_ids": [], "context": 64,
            "data": {
                role: {"path": str(file), "sha256": sha256_file(file), "rows": 2, "skipped": {}}
                for role, file in files.items()
            },
        }  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(fields))


@pytest.fixture
def home(tmp_path: Path, local_store: Store) -> Home:
    return Home(tmp_path, local_store)


@pytest.fixture
def trace(home: Home, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> str:
        capsys.readouterr()
        main(["trace", *words, "--home", str(home.folder), "--database", str(home.store.engine.url)])
        return capsys.readouterr().out

    return run


def test_a_checkpoint_leads_to_the_exact_votes_behind_it(home: Home, trace: Command) -> None:
    assert trace("ppo-2", "--votes").split() == sorted(home.votes)
    assert home.later not in trace("ppo-2", "--json")
    found = json.loads(trace("ppo-2", "--json"))
    assert [step["id"] for step in found["steps"]][:2] == ["ppo-2", "ppo-1"]
    steps = {step["id"]: step for step in found["steps"]}
    assert steps.keys() == {"ppo-2", "ppo-1", "gone-1", "reward-1", "sft-1"}
    assert steps["sft-1"]["children"] == ["ppo-1", "reward-1"]
    assert (steps["gone-1"]["stage"], steps["gone-1"]["children"]) == (None, ["ppo-2"])
    (data,) = steps["reward-1"]["data"]
    assert (data["state"], data["votes"]["count"]) == ("whole", 2)
    assert data["votes"]["labelers"] == {home.pseudonym: 2}
    assert data["votes"]["guidelines"] == {"1": 2}
    shown = trace("ppo-2")
    assert "gone-1: no longer in the store" in shown
    assert f"by {home.pseudonym} 2; guideline 1 2" in shown
    assert "Ada" not in shown


def test_every_parent_comes_after_all_that_it_made(home: Home, trace: Command) -> None:
    home.publish("ppo-3", "sft-1", "ppo-2")
    order = [step["id"] for step in json.loads(trace("ppo-3", "--json"))["steps"]]
    assert order.index("ppo-2") < order.index("ppo-1") < order.index("reward-1") < order.index("sft-1")


def test_a_file_that_changed_or_went_names_no_votes(home: Home, trace: Command) -> None:
    home.frozen.write_text(home.frozen.read_text() + "\n")
    assert trace("ppo-1", "--votes").split() == []
    assert "CHANGED since it was read" in trace("ppo-1")
    assert f"not looked into: {home.frozen} is changed or missing" in trace(home.votes[0])
    home.frozen.unlink()
    assert "MISSING" in trace("ppo-1")


def test_a_vote_leads_to_all_that_learned_from_it(home: Home, trace: Command) -> None:
    found = json.loads(trace(home.votes[0], "--json"))
    assert [one["id"] for one in found["learned"]] == ["reward-1", "ppo-1", "ppo-2"]
    assert [one["through"] for one in found["learned"]] == [[], ["reward-1"], ["ppo-1"]]
    assert found["learned"][0]["file"] == str(home.frozen)
    assert (found["vote"]["labeler"], found["vote"]["stands"]) == (home.pseudonym, True)
    assert json.loads(trace(found["vote"]["task"], "--json")) == found
    assert json.loads(trace(home.later, "--json"))["learned"] == []
    assert "no checkpoint of the store learned from it" in trace(home.later)


def test_a_vote_of_another_store_is_found_in_the_frozen_set(home: Home, trace: Command) -> None:
    row = json.loads(home.frozen.read_text().splitlines()[0]) | {"id": "elsewhere"}
    own = home.folder / "own.jsonl"
    own.write_text(json.dumps(row) + "\n")
    home.publish("dpo-1", "sft-1", **{"comparisons/2": own})
    found = json.loads(trace("elsewhere", "--json"))
    assert (found["vote"], [one["id"] for one in found["learned"]]) == (None, ["dpo-1"])


def test_what_nobody_knows_is_one_sentence(trace: Command) -> None:
    with pytest.raises(UserError, match="'nothing' is not a checkpoint, an alias, a task or an answer"):
        trace("nothing")


def test_the_gates_verdict_is_kept_with_the_promotion(home: Home, trace: Command) -> None:
    verdict = {"outcome": "PASS", "checkpoints": ["ppo-1", "sft-1"], "checks": []}
    file = home.folder / "gate.json"
    file.write_text(json.dumps(verdict))
    common = ["--no-wait", "--home", str(home.folder), "--database", str(home.store.engine.url)]
    main(["promote", "policy/candidate", "ppo-1", "--gate", str(file), *common])
    main(["promote", "policy/production", "ppo-1", *common])
    with home.store.session() as session:
        assert session.scalars(select(Audit.detail)).all()[0]["gate"]["baseline"] == "sft-1"
        assert aliases.serve(session, "policy/candidate", 1, "supervisor")
    shown = trace("policy/candidate")
    assert "ppo-1: policy of ppo, 2026-01-31 10:15, answers policy/candidate" in shown
    assert "gate PASS against sft-1" in shown
    assert "policy/production" in shown
    assert "without the gate" in shown


def test_over_http_and_as_a_page(
    home: Home, app_client: Callable[..., TestClient], make_key: Callable[..., dict[str, str]], trace: Command
) -> None:
    client = app_client(open=True)
    key = make_key("admin")
    behind = client.get("/admin/trace/checkpoints/ppo-2", headers=key)
    assert behind.json() == json.loads(trace("ppo-2", "--json"))
    ahead = client.get(f"/admin/trace/votes/{home.votes[1]}", headers=key)
    assert ahead.json() == json.loads(trace(home.votes[1], "--json"))
    assert client.get("/admin/trace/votes/nothing", headers=key).status_code == 404
    assert client.get("/admin/trace/checkpoints/nothing", headers=key).status_code == 404
    assert client.get("/admin/trace/checkpoints/ppo-2", headers=make_key("export")).status_code == 403
    missing = client.get("/trace/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "no checkpoint &#39;nothing&#39;" in missing.text
    page = client.get("/trace/ppo-2").text
    assert "reward-1" in page
    assert home.pseudonym in page
    assert home.votes[0] not in page


def test_a_promoted_checkpoint_that_is_gone_is_said(
    home: Home, app_client: Callable[..., TestClient], trace: Command
) -> None:
    common = ["--no-wait", "--home", str(home.folder), "--database", str(home.store.engine.url)]
    main(["promote", "policy/production", "other-1", *common])
    shutil.rmtree(home.folder / "checkpoints/other-1")
    for name in ("policy/production", "other-1"):
        shown = trace(name)
        assert "other-1: no longer in the store" in shown
        assert "promote  policy/production" in shown
    page = app_client(open=True).get("/trace/policy/production")
    assert (page.status_code, "No longer in the store" in page.text) == (200, True)


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc", ".", "~", "x" * 5000, "%2e%2e/x", "a\x00b", "\ud800", "latest:"]
)
def test_no_name_leads_out_of_the_store(
    name: str, home: Home, app_client: Callable[..., TestClient], trace: Command, tmp_path: Path
) -> None:
    home.publish("../x")
    with pytest.raises(UserError) as caught:
        trace(name)
    assert "\n" not in str(caught.value)
    if "\ud800" not in name and name not in (".", ".."):  # which no client sends as they are
        answered = app_client(open=True).get("/trace/" + quote(name, safe=""))
        assert answered.status_code in (307, 400, 404)


def test_manifests_written_by_hand_break_no_trace(home: Home, trace: Command, tmp_path: Path) -> None:
    def rewrite(folder: str, **fields: object) -> None:
        file = home.folder / "checkpoints" / folder / MANIFEST
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    odd = {"path": "~nobody-here/x.jsonl", "sha256": "0", "rows": "many", "skipped": [1]}
    long = {"path": "x" * 5000 + ".jsonl", "sha256": "0"}
    rewrite("other-1", data={"comparisons": odd, "validation": long}, parents=["other-1", "../other-1", "ppo-2"])
    rewrite("ppo-2", parents=["other-1", "ppo-1"])
    steps = json.loads(trace("other-1", "--json"))["steps"]
    assert steps[0]["id"] == "other-1"
    assert {step["id"]: step["stage"] for step in steps}["../other-1"] is None
    assert [data["state"] for data in steps[0]["data"]] == ["missing", "missing"]
    assert "ppo-2" in trace(home.votes[0])
    for fields in ({"parents": [["x"]]}, {"data": []}, {"weights": ["x"]}, {"id": 7}, {"stage": None}):
        home.publish("bad-1")
        rewrite("bad-1", **fields)
        with pytest.raises(UserError, match="is not a checkpoint"):
            trace("bad-1")
        shutil.rmtree(home.folder / "checkpoints/bad-1")
