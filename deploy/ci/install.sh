#!/usr/bin/env bash
# Installs overlay from this checkout into a virtual environment of its own: $RUNNER_TEMP/overlay, else .overlay-ci.
# What it depends on is pinned by hash (requirements-promote.txt): whoever can replace one of those could publish.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${RUNNER_TEMP:-.}/overlay-ci
[ -x "$venv/bin/overlay" ] && exit 0
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$here/requirements-promote.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$here/../.."
"$venv/bin/overlay" --version
