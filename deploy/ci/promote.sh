#!/usr/bin/env bash
# Promotes $FILES, with $ARGUMENTS; from the overlay of GIVEN_URL and GIVEN_TOKEN, else from the one that start.sh started.
set -euo pipefail
scratch=${RUNNER_TEMP:-.}
if [ -n "${GIVEN_URL:-}" ]; then
    export OVERLAY_URL=$GIVEN_URL OVERLAY_TOKEN=${GIVEN_TOKEN:-}
fi
report=$scratch/promote.json
promote=
told=
# A job that is cancelled signals this shell alone; what it started is told to end in order, and waited for.
trap 'told=yes; [ -z "$promote" ] || kill -TERM "$promote" 2>/dev/null || true' INT TERM
# shellcheck disable=SC2086 # patterns, and a list of arguments
"$scratch/overlay-ci/bin/overlay" promote --json ${ARGUMENTS:-} $FILES >"$report" &
promote=$!
[ -z "$told" ] || kill -TERM "$promote" 2>/dev/null || true # by a signal that came before there was a promote
told=
code=0
wait "$promote" || code=$?
while [ -n "$told" ]; do # a signal ends a wait; the next one has the exit code, also of what has ended meanwhile
    told=
    before=$code
    code=0
    wait "$promote" || code=$?
    [ "$code" != 127 ] || code=$before # bash 3.2 says it once only
done
trap - INT TERM
cat "$report"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    end=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    { echo "report<<$end"; cat "$report"; echo "$end"; } >>"$GITHUB_OUTPUT"
fi
if [ -z "${GIVEN_URL:-}" ] && [ -n "${STARTED_OVERLAY:-}" ]; then
    kill "$STARTED_OVERLAY" 2>/dev/null || true
fi
exit "$code"
