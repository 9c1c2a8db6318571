"""The examples of the how-tos, run as they stand in the documents."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from docs.reference import ROOT
from evals import catalog, record, run, table
from evals.options import Config
from service import app, auth
from service.keys import add_key
from service.preferences.prompts import import_rows
from service.settings import Settings
from tests.support.answering import answering
from training.artifacts.checkpoints import Checkpoint, resolve
from training.artifacts.errors import UserError
from training.artifacts.layouts import columns, demonstrations
from training.runtime import configuration

pytestmark = pytest.mark.unit
BLOCK = re.compile(r"^```python\n# (\S+?)(?:, in (\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Of one how-to: file -> its whole text, and (file, name) -> what is added to `name` in it."""
    found = BLOCK.findall((ROOT / f"docs/how-to/{page}.md").read_text())
    files = {file: body for file, name, body in found if not name}
    additions = {(file, name): body for file, name, body in found if name}
    for file, name in additions:
        assert name in names_of(ROOT / file), f"{file} has no {name}"
    return files, additions


def names_of(file: Path) -> set[str]:
    """Functions and variables of a module."""
    tree = ast.parse(file.read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def module_of(file: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file's module, as if it were in the tree."""
    name = file.removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    return module


def entries(body: str, names: dict[str, Any]) -> Any:
    """Lines that are added to a dictionary or a tuple, as a dictionary or a tuple."""
    whole = ast.parse(f"{{{body}}}", mode="eval").body if body.lstrip().startswith('"') and '":' in body else None
    text = f"{{{body}}}" if isinstance(whole, ast.Dict) else f"({body})"
    return eval(text, names)


def test_a_stage(tiny_policy: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file

    from tests.support.tiny_models import publish_tiny

    files, additions = examples("stage")
    module = module_of("training/stages/average.py", files["training/stages/average.py"], monkeypatch)
    added = entries(additions["training/runtime/configuration.py", "STAGES"], {})
    assert set(added) == {"average"}
    monkeypatch.setattr(configuration, "TABLES", configuration.TABLES | added)
    other = publish_tiny(tmp_path / "checkpoints", seed=7)
    assert module.main(["--models", str(tiny_policy.path), other.id, "--home", str(tmp_path)]) == 0
    made = resolve("average", tmp_path / "checkpoints")
    assert made.manifest.parents[-1] == other.id
    weights = [load_file(c.path / "model.safetensors") for c in (tiny_policy, other, made)]
    for name, mean in weights[2].items():
        torch.testing.assert_close(mean, (weights[0][name] + weights[1][name]) / 2)
    with pytest.raises(UserError, match="at least two"):
        module.main(["--models", other.id, "--home", str(tmp_path)])


def test_a_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Thirty lines appear in table, gate and report; a score that is not declared fails loudly."""
    files, additions = examples("suite")
    module = module_of("evals/suites/repetition.py", files["evals/suites/repetition.py"], monkeypatch)
    assert len(files["evals/suites/repetition.py"].splitlines()) <= 34
    added = entries(additions["evals/catalog.py", "SUITES"], {"repetition": module})
    suites = (*catalog.SUITES, *added)
    for user in (catalog, run, record, table):
        monkeypatch.setattr(user, "SUITES", suites)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(40)))
    data = (f"prompts={prompts}",)
    config = Config(("good",), ("bad",), ("repetition",), data=data, home=tmp_path, out=tmp_path / "out")
    models = {
        "good": lambda prompt: "One. one." if prompt.endswith("7") else "One. Two.",
        "bad": lambda prompt: "One. Two." if prompt.endswith("7") else "One. one.",
    }
    with answering(models) as url:
        assert run.main(dataclasses.replace(config, url=url)) == 0  # PASS: the candidate hardly repeats itself
        assert run.main(dataclasses.replace(config, url=url, checkpoint=("bad",), baseline=("good",))) == 1  # FAIL
    verdicts = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert [row["metric"] for row in verdicts["bad.chat"]["rows"]] == ["repetition.prompts.repeats"]
    assert "says a sentence twice" in (tmp_path / "out" / "table.md").read_text()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Repetition" in page
    assert "says a sentence twice" in page


def test_a_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, additions = examples("route")
    module = module_of("service/routes/waiting.py", files["service/routes/waiting.py"], monkeypatch)
    added = entries(additions["service/app.py", "ROUTERS"], {"waiting": module})
    monkeypatch.setattr(app, "ROUTERS", (*app.ROUTERS, *added))
    built = app.create_app(Settings(database=f"sqlite:///{tmp_path}/service.db"))
    assert auth.undeclared(built) == []
    with TestClient(built, base_url="http://127.0.0.1:8000") as client:
        import_rows(built.state.store, [{"prompt": "one"}, {"prompt": "two"}])
        with built.state.store.session() as session:
            keys = {scope: add_key(session, "test", [scope])[1] for scope in ("export", "admin")}
        headers = {scope: {"Authorization": f"Bearer {key}"} for scope, key in keys.items()}
        assert client.get("/admin/waiting").status_code == 401
        assert client.get("/admin/waiting", headers=headers["export"]).status_code == 403
        assert client.get("/admin/waiting", headers=headers["admin"]).json() == {"prompts": 2}


def test_a_data_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, additions = examples("data-format")
    names = {"Layout": columns.Layout, "column_text": columns.column_text}
    added = entries(additions["training/artifacts/layouts/demonstrations.py", "LAYOUTS"], names)
    file = tmp_path / "riddles.jsonl"
    rows = [{"riddle": "What has keys?", "solution": "A piano."}, {"riddle": "Who?", "solution": ""}, {"text": "no"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"this kind of data needs|none of the"):
        demonstrations.load(str(file))
    monkeypatch.setattr(demonstrations, "LAYOUTS", (*demonstrations.LAYOUTS, *added))
    loaded = demonstrations.load(str(file))
    assert [[m["content"] for m in record.messages] for record in loaded.records] == [["What has keys?", "A piano."]]
    assert sum(loaded.skipped.values()) == 2


def test_a_choices_file_as_the_page_describes_it(tmp_path: Path) -> None:
    from evals.tasks.files import kind_of, read

    page = (ROOT / "docs/how-to/suite.md").read_text()
    columns = re.search(r"rows of `(\w+)`, `(\w+)` and `(\w+)`", page)
    assert columns is not None
    file = tmp_path / "trivia.jsonl"
    file.write_text(json.dumps(dict(zip(columns.groups(), ("Who?", ["Ada", "Bo"], 1), strict=True))) + "\n")
    rows, skipped = read(kind_of("trivia"), file)
    assert (len(rows), dict(skipped)) == (1, {})
    assert "tax" in {suite.name for suite in catalog.SUITES}
