#!/usr/bin/env bash
# Makes .tools with the locked packages of deploy.txt. Does nothing when all is in place. Anew:
# `uv pip compile requirements/deploy.in --python-version 3.11 --no-header --no-annotate --output-file requirements/deploy.txt`.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=$(sha256sum < requirements/deploy.txt)
[ "$(cat .tools/installed 2>/dev/null || true)" = "$wanted" ] && exit 0
for candidate in ${PYTHON:-} python3.11 python3.12 python3; do
  if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "${python:-}" ] || { echo "error: Python 3.11 or newer with venv is needed: install it, or set PYTHON" >&2; exit 2; }
"$python" -m venv .tools
.tools/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement requirements/deploy.txt
echo "$wanted" > .tools/installed
