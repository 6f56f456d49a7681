"""Where the experiments leave their files, and how they are written and read back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from analysis import machine
from shared.settings import ROOT, entries, usable_cores

FOLDER: Final = ROOT / "analysis" / "results"  # git-ignored
Data = TypeVar("Data", bound=msgspec.Struct)


def described_machine() -> dict[str, Any]:
    """The machine, with the cores that this process may use."""
    return {**machine.describe(), "usable_cores": usable_cores()}


def now() -> str:
    """ISO 8601 UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def save(path: Path, data: msgspec.Struct) -> Path:
    """Write data as readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
    return path


def load(path: Path, kind: type[Data]) -> Data:
    """Read what `save` wrote. Raises ValueError naming the file if it is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a file of this experiment: {error}") from None


def numbers(text: str, least: int) -> list[int]:
    """A comma list of whole numbers, each `least` or more. Raises ValueError in words."""
    parts = entries(text)
    if not parts or not all(part.isdigit() and int(part) >= least for part in parts):
        raise ValueError(f"{text!r}: expected whole numbers of {least} or more, like 1,2,4")
    return [int(part) for part in dict.fromkeys(parts)]
