#!/bin/sh
# Makes .venv from the pinned requirements when it is missing or stale. `venv.sh dev` adds what
# tests and lint need. Quiet when there is nothing to do; one line says what is wrong otherwise.
set -eu
cd "$(dirname "$0")/.."
files="requirements.txt"
if [ "${1:-}" = dev ]; then files="requirements.txt requirements-dev.txt"; fi

is_current() { # every file asked for is stamped with its present content
    for file in $files; do
        cmp -s "$file" ".venv/stamp-$file" || return 1
    done
}
if is_current && .venv/bin/python -c "" 2>/dev/null; then exit 0; fi

for python in "${BATON_PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    python=""
done
if [ -z "$python" ]; then
    echo "Baton needs Python 3.11 or newer: install it, or name one with BATON_PYTHON=/path/to/python3" >&2
    exit 2
fi
# Of the same version the system's own is taken: it was compiled with profiles, as what people build
# themselves is not by default, and drains a quarter more tasks (docs/measured.md).
same='import ensurepip, sys, venv; print(sys.version_info[:2])'
if [ -z "${BATON_PYTHON:-}" ] && version=$("$python" -c "$same" 2>/dev/null) &&
    [ "$(/usr/bin/python3 -c "$same" 2>/dev/null)" = "$version" ]; then
    python=/usr/bin/python3
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "this Python has no venv module: on Debian and Ubuntu run 'apt install python3-venv'" >&2
    exit 2
fi

exec 9> .venv.lock # two scripts started together make it once
flock 9 2>/dev/null || true
if is_current; then exit 0; fi
echo "preparing .venv (once; about half a minute)" >&2
.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$python" -m venv --clear .venv
for file in $files; do
    if ! .venv/bin/python -m pip install --disable-pip-version-check -r "$file" > .venv/install.log 2>&1; then
        tail -n 5 .venv/install.log >&2
        echo "the packages in $file could not be installed: is there a network? then run this again" >&2
        exit 2
    fi
    cp "$file" ".venv/stamp-$file"
done
