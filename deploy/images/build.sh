#!/usr/bin/env bash
# Builds alignloop-gateway, alignloop-engines and alignloop-trainer: `bash deploy/images/build.sh cpu [TAG]` (or gpu).
# BUILDER: docker (by default) or buildah. PYTHON_IMAGE: another base than that of bases.env.
# BUILD_OPTIONS: more options, as --volume for a certificate or an index of packages.
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
base=${PYTHON_IMAGE:-$(sed -n 's/^PYTHON_IMAGE=//p' deploy/images/bases.env)}
for target in gateway engines trainer; do
  # Health checks are of Docker's format: OCI's own has none.
  "$builder" build $([ "$builder" = buildah ] && echo --format docker --layers) --target "$target" --build-arg "PYTHON_IMAGE=$base" --build-arg "PACKAGES=$packages" \
    --tag "alignloop-$target:$tag" --file deploy/images/Dockerfile ${BUILD_OPTIONS:-} .
done
