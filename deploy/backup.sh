#!/bin/sh
# Copies the SQLite database into FOLDER while the dispatcher serves it: deploy/backup.sh FOLDER
# The copy is one moment of it, checked and on disk before it gets its name. Settings: .env
set -eu
umask 077
if [ $# -ne 1 ]; then
    echo "usage: deploy/backup.sh FOLDER" >&2
    exit 2
fi
mkdir -p -- "$1"
folder=$(readlink -f -- "$1")
cd "$(dirname "$(readlink -f "$0")")/.."
deploy/venv.sh
url=$(.venv/bin/python -c 'from shared.settings import load_or_exit; print(load_or_exit().database_address)')
if [ ! -f "${url#sqlite:///}" ]; then
    echo "the settings name no SQLite file that exists; for PostgreSQL use pg_dump" >&2
    exit 2
fi
copy="$folder/baton-$(date -u +%Y%m%dT%H%M%SZ).db"
part=$(mktemp "$copy.part.XXXXXX") # of our own: another backup may be under way
trap 'rm -f "$part" "$part-journal"' EXIT
# apsw has the SQLite of the dispatcher; the system's may be one that loses commits.
.venv/bin/python - "${url#sqlite:///}" "$part" <<'END'
import sys
import apsw
served, part = sys.argv[1:]
try:
    apsw.Connection(served, flags=apsw.SQLITE_OPEN_READONLY).execute("VACUUM INTO ?", [part])
    whole = apsw.Connection(part).execute("PRAGMA integrity_check(1)").get == "ok"
except apsw.Error as problem:
    sys.exit(f"no copy was made: {problem}")
if not whole:
    sys.exit(f"the copy is damaged, and so is {served}")
END
sync "$part"
mv "$part" "$copy"
sync "$folder" # the name as well
echo "$copy"
