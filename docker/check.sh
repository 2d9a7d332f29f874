#!/usr/bin/env bash
# Build the cpu image without a Docker engine, start it, and have a photo answered through its port.
#   make docker-check            needs root, buildah, and debootstrap for the base
#   BASE=IMAGE make docker-check uses an image that buildah can reach instead of a fresh Debian
# The image and its base stay in buildah's storage, so that a second run is short; `buildah rmi --all` removes them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
PORT=${PORT:-8191}
work=$(mktemp -d)
container='' server=''
below() { local child; for child in $(pgrep -P "$1"); do below "$child"; echo "$child"; done; }
stop() {  # as a container engine does: SIGTERM to its first process, tini; buildah itself passes no signal on
  for pid in $(below "$server"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != tini ] || kill -TERM "$pid"
  done
  wait "$server"
}
cleanup() {
  if [ -n "$server" ]; then
    mapfile -t started < <(below "$server")
    kill -KILL "${started[@]}" "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

for tool in buildah curl python3; do
  command -v "$tool" >/dev/null || { echo "docker-check needs $tool; on Debian: apt-get install buildah debootstrap curl" >&2; exit 1; }
done

if [ -z "${BASE:-}" ]; then
  BASE=localhost/bindchat-base
  if ! buildah inspect --type image "$BASE" >/dev/null 2>&1; then
    echo "Making $BASE with debootstrap"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base" >/dev/null
    from=$(buildah from scratch)
    buildah add -q "$from" "$work/base" / >/dev/null
    buildah commit -q "$from" "$BASE" >/dev/null
    buildah rm "$from" >/dev/null
    rm -rf "$work/base"
  fi
fi

# The build asks the same package index as this machine: its pip settings, and what they name on this disk.
python3 docker/pip_settings.py "$work/pip.conf" > "$work/volumes"
mapfile -t volumes < "$work/volumes"
# The version by git's tags, which `make setup` installs the reader of; without it the newest release, as everywhere.
version=$(.venv/bin/python -m setuptools_scm 2>/dev/null || true)
echo "Building the image"
buildah bud --quiet --format docker --file docker/Dockerfile --target cpu --tag bindchat:cpu --build-arg "BASE=$BASE" \
  --build-arg "VERSION=$version" \
  --build-arg "REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${volumes[@]}" . >/dev/null

echo "Starting it on port $PORT"
container=$(buildah from --pull-never bindchat:cpu)
buildah run --user 10001:10001 --env BINDCHAT_PORT="$PORT" --env BINDCHAT_HOST=127.0.0.1 \
  --env BINDCHAT_API_KEYS=docker-check "$container" -- \
  /usr/bin/tini -s -- /opt/bindchat/docker/entrypoint.sh serve > "$work/log" 2>&1 &
server=$!
started_s=$SECONDS
for _ in $(seq 300); do
  curl -fs "http://127.0.0.1:$PORT/ready" >/dev/null && { ready_s=$((SECONDS - started_s)); break; }
  kill -0 "$server" || { cat "$work/log" >&2; exit 1; }
  read -rt 1 <> <(:) || true
done
[ -n "${ready_s:-}" ] || { cat "$work/log" >&2; echo "the server was not ready in five minutes" >&2; exit 1; }
status=$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/v1/models")
[ "$status" = 401 ] || { echo "without a key the server answered $status, not 401" >&2; exit 1; }
answer=$(curl -fs -H 'Authorization: Bearer docker-check' "http://127.0.0.1:$PORT/v1/chat/completions" \
  -F prompt='What is this?' -F image=@docs/samples/cat.jpg) || { cat "$work/log" >&2; exit 1; }
echo "$answer"
label=$(buildah inspect --type image --format '{{index .OCIv1.Config.Labels "org.opencontainers.image.version"}}' bindchat:cpu)
shown=$(curl -fs -H 'Authorization: Bearer docker-check' "http://127.0.0.1:$PORT/version")
[[ "$shown" == *"\"$label\""* ]] || { echo "the image is labelled $label and says of itself $shown" >&2; exit 1; }
grep -qi cat <<< "$answer" || { echo "the answer does not name the cat" >&2; exit 1; }
stop || { echo "on SIGTERM the container ended with $?, not 0" >&2; exit 1; }
server=''
echo "docker-check passed after $SECONDS s; ready $ready_s s after its start"
