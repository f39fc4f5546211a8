#!/usr/bin/env bash
# Installs overlay, built from the checkout that this file lies in, into a virtual environment of its own: overlay-ci in
# $RUNNER_TEMP, else in the current folder. With --attest among $ARGUMENTS (promote's) also what makes attestations.
# For Linux and macOS. All that comes from an index is pinned by hash: whoever can replace one of those could publish.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
venv=${RUNNER_TEMP:-.}/overlay-ci
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
if [ ! -x "$venv/bin/overlay" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "overlay needs Python 3.11 or newer, and $python is not: name another one (the input python, or PYTHON)." >&2
        exit 1
    }
    "$python" -m venv "$venv"
    "${pip[@]}" --require-hashes --requirement "$here/requirements-promote.txt"
    "${pip[@]}" --no-deps --no-build-isolation "$here/../.."
    "$venv/bin/overlay" --version
fi
case " ${ARGUMENTS:-} " in
    *" --attest "*) "${pip[@]}" --require-hashes --requirement "$here/requirements-attest.txt" ;;
esac
