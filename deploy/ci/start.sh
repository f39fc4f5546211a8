#!/usr/bin/env bash
# Starts an overlay with $FILES staged, waits until it answers, and tells the steps after this one where it is:
# OVERLAY_URL and OVERLAY_TOKEN, and with AS_INDEX=yes also PIP_INDEX_URL and UV_DEFAULT_INDEX.
set -euo pipefail
shopt -s nullglob
scratch=${RUNNER_TEMP:-.}
# shellcheck disable=SC2206 # a pattern, and a list of them
files=($FILES)
[ "${#files[@]}" != 0 ] || { echo "Nothing matches $FILES." >&2; exit 2; }
staged=()
for file in "${files[@]}"; do
    case $file in *.whl | *.tar.gz) staged+=("$file") ;; esac
done
[ "${#staged[@]}" != 0 ] || { echo "$FILES names no wheel and no sdist." >&2; exit 2; }
OVERLAY_ADMIN_TOKEN=ovl_$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
[ -z "${GITHUB_ACTIONS:-}" ] || echo "::add-mask::$OVERLAY_ADMIN_TOKEN"
[ -n "${OVERLAY_UPSTREAM_UPLOAD_URL:-}" ] || unset OVERLAY_UPSTREAM_UPLOAD_URL
export OVERLAY_ADMIN_TOKEN
log=$(mktemp "$scratch/overlay-log.XXXXXX") # there before it is read, and no other overlay's
RUNNER_TRACKING_ID='' nohup "$scratch/overlay-ci/bin/overlay" serve --port 0 --with "${staged[@]}" >"$log" 2>&1 </dev/null &
server=$!
for _ in $(seq 600); do
    url=$(sed -n 's/^overlay listens on \(.*\)\/ in front of .*/\1/p' "$log")
    [ -z "$url" ] || break
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { kill "$server" || true; cat "$log" >&2; exit 1; }
cat "$log"
{
    echo "OVERLAY_URL=$url"
    echo "OVERLAY_TOKEN=$OVERLAY_ADMIN_TOKEN"
    echo "STARTED_OVERLAY=$server" # not OVERLAY_…, which would be a setting
    if [ "${AS_INDEX:-}" = yes ]; then
        echo "PIP_INDEX_URL=$url/simple/"
        echo "UV_DEFAULT_INDEX=$url/simple/"
    fi
} >>"${GITHUB_ENV:-$scratch/overlay.env}"
[ -z "${GITHUB_OUTPUT:-}" ] || echo "url=$url" >>"$GITHUB_OUTPUT"
