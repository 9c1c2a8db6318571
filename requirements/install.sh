#!/usr/bin/env bash
# Makes .venv with the locked packages: for the GPU when `nvidia-smi -L` lists one, else for the CPU.
# ALIGNLOOP_PACKAGES=cpu|gpu decides by hand; PYTHON names the interpreter. Does nothing when all is in place.
set -euo pipefail
cd "$(dirname "$0")/.."

variant=${ALIGNLOOP_PACKAGES:-}
if [ -z "$variant" ]; then
  if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then variant=gpu; else variant=cpu; fi
fi
lock=requirements/$variant.txt
[ -f "$lock" ] || { echo "error: ALIGNLOOP_PACKAGES must be cpu or gpu, not '$variant'" >&2; exit 2; }

wanted="$variant $(cat "$lock" requirements/install.sh | sha256sum | cut -d' ' -f1)"
[ "$(cat .venv/installed 2>/dev/null || true)" = "$wanted" ] && exit 0

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
  then python=$candidate; break; fi
done
[ -n "$python" ] || { echo "error: Python 3.11 or 3.12 with venv is needed: install it, or set PYTHON" >&2; exit 2; }

echo "Setting up .venv with the $variant packages (once; a few minutes)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
rm -f .venv/installed
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
# torch first and by its exact build: a plain `torch` would bring gigabytes of CUDA packages to a CPU machine.
if [ "$variant" = cpu ]; then
  torch=torch==2.13.0+cpu
  pip install --quiet --no-deps "$torch" 2>/dev/null ||
    pip install --no-deps "$torch" --index-url https://download.pytorch.org/whl/cpu
else
  pip install --no-deps torch==2.13.0
fi
# uv downloads in parallel. --no-deps: the lock file is complete and leaves three packages out on purpose.
# --compile-bytecode: each of the many processes would otherwise compile what it imports, where it may not write.
pip install --quiet uv==0.13.8
.venv/bin/uv pip install --python .venv/bin/python --compile-bytecode --no-deps --requirement "$lock"
echo "$wanted" > .venv/installed
