#!/usr/bin/env bash
# Builds the CPU images without a daemon and without a registry, then runs gateway and engines of them as a cluster does:
# as user 10001, with a read-only root. `bash deploy/images/build_here.sh`, as root, on Debian with buildah and debootstrap.
# The base is a Debian made by debootstrap instead of the image that bases.env names. BUILD_OPTIONS: see build.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
for command in buildah debootstrap; do
  command -v $command >/dev/null || { echo "error: $command is not installed: apt-get install $command" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "error: a root file system is made here: run it as root" >&2; exit 2; }
export BUILDAH_ISOLATION=chroot
base=localhost/alignloop-base
work=$(mktemp -d)
container=
finish() {
  [ -z "$container" ] || { buildah umount "$container" >/dev/null; buildah rm "$container" >/dev/null; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

if ! buildah inspect --type image $base >/dev/null 2>&1; then
  began=$SECONDS
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-dev,python3-venv bookworm "$work/root" >"$work/log" 2>&1 ||
    { tail -3 "$work/log" >&2; exit 2; }
  made=$(buildah from scratch)
  buildah copy --quiet "$made" "$work/root" / >/dev/null
  buildah commit --quiet --rm "$made" $base >/dev/null
  echo "base: $((SECONDS - began)) s"
fi
began=$SECONDS
PYTHON_IMAGE=$base BUILDER=buildah bash deploy/images/build.sh cpu >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 2; }
echo "images: $((SECONDS - began)) s"
buildah images --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep alignloop-

# buildah's own `run` has no read-only root: the image's files are mounted so, in a namespace of its own.
container=$(buildah from localhost/alignloop-gateway:cpu)
root=$(buildah mount "$container") unshare --mount --pid --fork --mount-proc bash -euo pipefail <<'INSIDE'
mount --bind "$root" "$root"
for folder in tmp data logs; do mount -t tmpfs -o uid=10001,gid=10001,mode=700 tmpfs "$root/$folder"; done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --bind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -o remount,bind,ro "$root"
as_in_a_pod() {
  chroot --userspec 10001:10001 "$root" /usr/bin/env -i PATH=/opt/alignloop/.venv/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 ALIGNLOOP_CHECKPOINTS=/data/checkpoints ALIGNLOOP_LOGS=/logs ALIGNLOOP_PORT=8765 \
    ALIGNLOOP_DATABASE=sqlite:////data/service.db bash -c "cd /opt/alignloop && $1"
}
as_in_a_pod 'id -u && ! touch /opt/alignloop/written 2>/dev/null && echo "the root is read-only"'
as_in_a_pod 'python -c "import vllm, lm_eval, torch; print(\"vllm\", vllm.__version__, \"torch\", torch.__version__)"' 2>/dev/null
as_in_a_pod 'python -m training sft --help >/dev/null && python -m evals run --help >/dev/null && echo "trainer: its commands are there"'
as_in_a_pod 'ALIGNLOOP_HOST=0.0.0.0 python -m service serve' && exit 1 || echo "without a key: exit status $?"
as_in_a_pod 'python -m service migrate && python -m service keys add admin --scopes admin >/tmp/key'
as_in_a_pod '{ ALIGNLOOP_HOST=0.0.0.0 python -m service serve & } && gateway=$! && began=$SECONDS
  until python health.py gateway 2>/dev/null; do kill -0 $gateway && sleep 0.2; done
  echo "gateway: healthy after $((SECONDS - began)) s"; kill $gateway; wait $gateway; echo "gateway: ended with $?"'
as_in_a_pod '{ python -m service engines & } && engines=$! && began=$SECONDS
  until python health.py engines --ready 2>/dev/null; do kill -0 $engines && sleep 0.2; done
  echo "engines: healthy after $((SECONDS - began)) s"; kill $engines; wait $engines; echo "engines: ended with $?"'
INSIDE
