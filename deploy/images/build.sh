#!/usr/bin/env bash
# Builds alignloop-gateway, alignloop-engines and alignloop-trainer: `bash deploy/images/build.sh cpu [TAG]` (or gpu).
# BUILDER: docker (by default) or buildah. The bases are those of bases.env.
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=${1:-}
case $packages in
  cpu|gpu) ;;
  *) echo "error: the variant must be cpu or gpu, not '$packages': bash deploy/images/build.sh cpu" >&2; exit 2 ;;
esac
tag=${2:-$packages}
builder=${BUILDER:-docker}
command -v "$builder" >/dev/null || { echo "error: $builder is not installed: install it, or set BUILDER" >&2; exit 2; }
set -a
# shellcheck source=/dev/null
. deploy/images/bases.env
set +a
for target in gateway engines trainer; do
  # Health checks are of Docker's format: OCI's own has none.
  "$builder" build $([ "$builder" = buildah ] && echo --format docker) --target "$target" --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" --build-arg "PACKAGES=$packages" \
    --tag "alignloop-$target:$tag" --file deploy/images/Dockerfile ${BUILD_OPTIONS:-} .
done
