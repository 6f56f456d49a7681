"""Writes what is generated: docs/lifecycle.md, docs/settings.md, docs/cli.md, and .env.

`python -m analysis.generate`; with --check it writes nothing and exits 1 if a file is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shared import lifecycle, settings
from shared.cli import reference
from shared.settings import ROOT


def texts(root: Path = ROOT) -> dict[Path, str]:
    """What each generated file should contain."""
    return {
        root / "docs" / "lifecycle.md": lifecycle.markdown(),
        root / "docs" / "settings.md": settings.markdown(),
        root / "docs" / "cli.md": reference.markdown(),
        root / ".env": settings.env_text(),
    }


def stale(root: Path = ROOT) -> list[Path]:
    """The generated files that do not contain what they should."""
    return [path for path, text in texts(root).items() if not path.exists() or path.read_text() != text]


def main() -> None:
    """Write, or with --check only look."""
    check = "--check" in sys.argv[1:]
    for path in (out_of_date := stale()):
        print(f"{path.relative_to(ROOT)} {'is out of date: run make docs' if check else 'written'}")
    if check:
        sys.exit(1 if out_of_date else 0)
    for path, text in texts().items():
        if path in out_of_date:
            path.write_text(text)


if __name__ == "__main__":
    main()
