"""Whether the process of this container works: `python health.py gateway|engines [--ready]`; exit status 1 if not.

gateway: it answers /health/live. engines: the supervisor went through its list in the last minute; with `--ready`, no
engine of it starts. Python's own library only: an image has no curl, and a probe must start at once.
"""

import os
import sys
import time
import urllib.request
from pathlib import Path

SILENT_SECONDS = 60
USAGE = "usage: health.py gateway|engines [--ready]"


def gateway() -> str | None:
    """What is wrong, or None."""
    port = os.environ.get("ALIGNLOOP_PORT", "8000")
    # 0.0.0.0 is reached by loopback; an address of its own only by that.
    host = os.environ.get("ALIGNLOOP_HOST", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health/live", timeout=4) as answer:
            return None if answer.status == 200 else f"/health/live answers {answer.status}"
    except OSError as error:
        return f"the gateway does not answer: {error}"


def engines(ready: bool) -> str | None:
    """What is wrong, or None."""
    file = Path(os.environ.get("ALIGNLOOP_LOGS", "runs/logs")) / "supervisor.sign"
    try:
        age, word = time.time() - file.stat().st_mtime, file.read_text()
    except OSError:
        return "the supervisor has not begun"
    if age > SILENT_SECONDS:
        return f"the supervisor is silent for {age:.0f} s"
    return "engines start" if ready and word != "ready" else None


def problem(arguments: list[str]) -> str | None:
    """What is wrong, or None."""
    if arguments[:1] == ["gateway"]:
        return gateway()
    if arguments[:1] == ["engines"]:
        return engines("--ready" in arguments)
    return USAGE


def main(arguments: list[str]) -> int:
    wrong = problem(arguments)
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
