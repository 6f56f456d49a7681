"""What must hold before the database is opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import apsw
import pytest

from dispatcher import startup
from dispatcher.server import free_port
from dispatcher.startup import CannotStart


def test_two_dispatchers_do_not_share_a_database(tmp_path: Path) -> None:
    path = tmp_path / "baton.db"

    with startup.lock(path), pytest.raises(CannotStart, match=rf"pid {os.getpid()}.*already serves"):
        startup.lock(path)

    startup.lock(path).close()


def test_the_lock_is_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "baton.db"
    path.write_bytes(b"untouched")

    startup.lock(path).close()

    assert path.read_bytes() == b"untouched"


def _mounts(tmp_path: Path, *lines: tuple[str, str]) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text("".join(f"36 35 98:0 / {point} rw - {kind} source rw\n" for point, kind in lines))
    return file


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, ("/", "ext4"), (str(tmp_path), kind))

    with pytest.raises(CannotStart, match="set DATA_DIR to a local disk"):
        startup.check_file_system(tmp_path / "data", mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "tmpfs", "zfs"])
def test_a_local_file_system_is_fine(tmp_path: Path, kind: str) -> None:
    startup.check_file_system(tmp_path, _mounts(tmp_path, ("/", kind)))


def test_the_deepest_mount_counts(tmp_path: Path) -> None:
    mounts = _mounts(tmp_path, (str(tmp_path), "ext4"), ("/", "nfs"), (str(tmp_path) + "x", "nfs"))

    startup.check_file_system(tmp_path, mounts)


def test_a_mount_with_a_blank_in_its_name_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    mounts = _mounts(tmp_path, ("/", "ext4"), (str(folder).replace(" ", "\\040"), "nfs"))

    with pytest.raises(CannotStart):
        startup.check_file_system(folder, mounts)


def test_a_mount_whose_name_is_not_ascii_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / "dåta"
    folder.mkdir()
    mounts = _mounts(tmp_path, ("/", "ext4"), (str(folder), "nfs"))

    with pytest.raises(CannotStart):
        startup.check_file_system(folder, mounts)


def test_where_the_system_does_not_tell_the_folder_is_trusted(tmp_path: Path) -> None:
    startup.check_file_system(tmp_path, tmp_path / "absent")


def test_a_new_database_needs_no_check(tmp_path: Path) -> None:
    startup.check_database(tmp_path / "baton.db")


def test_a_sound_database_passes(tmp_path: Path) -> None:
    path = tmp_path / "baton.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (a)")
    connection.close()

    startup.check_database(path)


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, None])
def test_a_damaged_database_is_refused_and_left_alone(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "baton.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (a); CREATE INDEX i ON t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(200)])
    connection.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\xff" * 8192
    path.write_bytes(damage or bytes(content))
    before = path.read_bytes()

    with pytest.raises(CannotStart, match=r"(?s)is damaged.*restore a backup"):
        startup.check_database(path)

    assert path.read_bytes() == before


def test_who_cannot_listen_is_told_which_setting_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CannotStart, match=f"listen on 127.0.0.1:{port} .* set DISPATCHER_PORT to another"):
            free_port("127.0.0.1", port)
    with pytest.raises(CannotStart, match="set DISPATCHER_HOST to an address of this machine"):
        free_port("192.0.2.1", 0)  # nobody's: kept for documents
