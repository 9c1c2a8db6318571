#!/usr/bin/env bash
# Adds to each image of bases.env the digest that its tag has now, and writes it where Kubernetes names the image:
# `bash deploy/images/pin.sh`. Needs skopeo and the registries. A second run follows a tag that moved.
set -euo pipefail
cd "$(dirname "$0")"
command -v skopeo >/dev/null || { echo "error: skopeo is not installed: install it (apt-get install skopeo)" >&2; exit 2; }
while IFS='=' read -r name image; do
  case $name in ''|'#'*) continue ;; esac
  tagged=${image%@*}
  digest=$(skopeo inspect --format '{{.Digest}}' "docker://$tagged") ||
    { echo "error: no digest of $tagged: see the line above" >&2; exit 2; }
  # The same image with another digest, or with none.
  grep -rlF "$tagged" bases.env ../kubernetes | while read -r file; do
    sed -i -E "s|${tagged//./\\.}(@sha256:[0-9a-f]{64})?([[:space:]]*)\$|$tagged@$digest\2|" "$file"
  done
  echo "$name $tagged@$digest"
done < <(cat bases.env)
