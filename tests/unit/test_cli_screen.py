"""How times look to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.cli import screen

NOON = "2026-11-23T12:00:00.000Z"


def moment(seconds: float) -> str:
    """So many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize("seconds", [0.0, -0.2, -90.0])
def test_what_has_come_due_comes_at_once(seconds: float) -> None:
    assert screen.ahead(moment(seconds)) == "at once"


def test_what_is_to_come_says_in_how_long() -> None:
    assert screen.ahead(moment(3600.2)) == "in 1h00m"


@pytest.mark.parametrize(
    ("at", "zone", "shown"),
    [
        (NOON, "Europe/Berlin", "Mon 2026-11-23 13:00 Europe/Berlin"),
        (NOON, "Asia/Tokyo", "Mon 2026-11-23 21:00 Asia/Tokyo"),
        ("2026-11-23T23:30:05.250Z", "Asia/Tokyo", "Tue 2026-11-24 08:30:05 Asia/Tokyo"),
        (NOON, "Atlantis/Capital", "Mon 2026-11-23 12:00 UTC"),
    ],
)
def test_a_moment_has_its_date_and_its_zone(at: str, zone: str, shown: str) -> None:
    assert screen.dated(at, zone) == shown


def test_a_time_of_another_day_has_its_date() -> None:
    yesterday = datetime.now().astimezone() - timedelta(days=1)

    assert screen.clock(yesterday.isoformat()) == yesterday.strftime("%Y-%m-%d %H:%M:%S")
