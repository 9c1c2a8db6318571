"""`make audit` refuses what it should: a planted secret, a forbidden and an unknown licence, a known vulnerability."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.in_thread import served
from tests.support.programs import missing

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".audit/venv/bin/python"


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if PYTHON.exists():
        return
    missing("no tools of the audit: run `make audit` once")


def audit(tmp_path: Path, *arguments: object, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it; `packages` is a folder whose packages are added to the environments that are listed."""
    environment = {**os.environ, **({"PYTHONPATH": str(packages)} if packages else {})}
    command = [PYTHON, ROOT / "requirements/audit.py", "--folder", tmp_path / "lists", *arguments]
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300, env=environment
    )  # fmt: skip


def git_tree(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_planted_secret_is_seen(tmp_path: Path) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPLQ"  # in two parts, or this file would be refused
    clean = git_tree(tmp_path / "clean", settings="NAME = 'alignloop'\n")
    dirty = git_tree(tmp_path / "dirty", settings=f"NAME = 'alignloop'\nKEY = '{key}'\n")
    done = audit(tmp_path, "secrets", "--root", clean)
    assert done.returncode == 0, done.stdout + done.stderr
    done = audit(tmp_path, "secrets", "--root", dirty)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "REFUSED: settings.py, line 2: AWS Access Key" in done.stdout
    assert key not in done.stdout


@pytest.mark.parametrize(
    ("field", "refused"),
    [
        ("License-Expression: MIT AND Apache-2.0", None),
        ("License-Expression: AGPL-3.0-only OR MIT", None),
        ("License-Expression: MIT AND AGPL-3.0-only", "planted: licence MIT AND AGPL-3.0-only is not allowed"),
        ("Classifier: License :: OSI Approved :: MIT License", None),
        ("License: Ours, ask us", "planted: licence 'Ours, ask us' is not known"),
        ("Summary: no licence at all", "planted: licence '' is not known"),
    ],
)
def test_a_planted_licence_is_judged(tmp_path: Path, field: str, refused: str | None) -> None:
    folder = tmp_path / "packages" / "planted-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: planted\nVersion: 1.0\n{field}\n")
    # The tools' own environment stands for ours, which has many more packages.
    done = audit(tmp_path, "licences", "--python", PYTHON, packages=folder.parent)
    assert "planted" in json.loads((tmp_path / "lists/licences.json").read_text())
    assert done.returncode == int(refused is not None), done.stdout + done.stderr
    assert (refused or "REFUSED") in done.stdout or refused is None
    assert "WARNING: licences not checked of packages that are locked but not installed here" in done.stdout


def test_an_accepted_package_that_changes_its_licence_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "packages" / "supervisor-9.0.dist-info"
    folder.mkdir(parents=True)
    fields = "Metadata-Version: 2.4\nName: supervisor\nVersion: 9.0\nLicense: Commercial\n"
    (folder / "METADATA").write_text(fields)
    done = audit(tmp_path, "licences", "--python", PYTHON, packages=folder.parent)
    assert done.returncode == 1
    assert "supervisor was accepted with the licence 'BSD-derived" in done.stdout


def test_every_exception_says_why() -> None:
    policy = tomllib.loads((ROOT / "requirements/audit.toml").read_text())
    for entry in [*policy["licences"]["exceptions"], *policy["secrets"]]:
        assert entry["why"]


async def one_vulnerability(request: web.Request) -> web.StreamResponse:
    """An OSV server that knows of one package."""
    asked = await request.json()
    found = []
    if asked["package"]["name"] == "jinja2":
        affected = {"package": asked["package"], "versions": [asked["version"]]}
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        found = [{"id": "TEST-1", "summary": "planted", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}]
    return web.json_response({"vulns": found} if found else {})


def test_a_known_vulnerability_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "some.txt"
    lock.write_text("attrs==26.1.0\njinja2==3.1.6\n")
    with served("POST", "/v1/query", one_vulnerability) as url:
        done = audit(tmp_path, "vulnerabilities", "--lock", lock, "--osv-url", f"{url}/v1/query")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "REFUSED: jinja2 3.1.6 has TEST-1 (mended in 99.1)" in done.stdout
        assert "2 locked packages asked of osv" in done.stdout
        lock.write_text("attrs==26.1.0\n")
        done = audit(tmp_path, "vulnerabilities", "--lock", lock, "--osv-url", f"{url}/v1/query")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout


def test_without_a_source_of_advisories_that_is_said(tmp_path: Path) -> None:
    lock = tmp_path / "some.txt"
    lock.write_text("attrs==26.1.0\n")
    done = audit(tmp_path, "vulnerabilities", "--lock", lock, "--osv-url", "http://127.0.0.1:9/v1/query")
    assert done.returncode == 0
    assert "WARNING: vulnerabilities not checked: no advisory source reachable" in done.stdout


@pytest.mark.slow  # `make audit` does the same in CI: half a minute of checking against the schema
def test_the_bill_of_materials_names_what_is_locked(tmp_path: Path) -> None:
    done = audit(tmp_path, "bill", "--python", PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "lists/gpu.cdx.json").read_text())
    assert written["bomFormat"] == "CycloneDX"
    assert written["metadata"]["component"]["name"] == "alignloop"
    locked = [line.split("==")[0] for line in (ROOT / "requirements/gpu.txt").read_text().split()]
    assert sorted(component["name"] for component in written["components"]) == sorted(locked)
