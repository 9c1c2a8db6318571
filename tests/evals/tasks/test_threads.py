"""Tasks are built in a thread per model, side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live_service import ROOT

pytestmark = pytest.mark.unit
SCRIPT = """
import sys, threading
from pathlib import Path
import datasets
from evals.tasks.plan import build_all, specs
file = Path(sys.argv[1])
planned = specs({"mine": str(file)}, [], file.parent)
assert "transformers" not in sys.modules
threading.Thread(target=__import__, args=("transformers",)).start()
while "transformers" not in sys.modules:
    pass
print(len(build_all(planned, [0], file.parent)))
"""


def test_a_library_that_another_thread_is_still_importing_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"query": f"question {n}", "choices": ["a", "b"], "gold": n % 2} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "1", done.stderr
