"""The report in headless Chromium (Debian's package `chromium`): no word on the console, light and dark differ."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobs.commands.report import run
from tests.harness.reporting import Laid, lay_run
from tests.unit.jobs.report.test_report import DEATH

pytestmark = pytest.mark.soak

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1120,3200"]


def opened(page: Path, picture: Path, *flags: str) -> list[str]:
    """What the console said while `page` was drawn."""
    command = ["chromium", *FLAGS, "--enable-logging=stderr", f"--screenshot={picture}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_report_opens_without_a_word_on_the_console_in_light_and_in_dark(tmp_path: Path) -> None:
    page = Path(run(lay_run(tmp_path / "out", Laid(lines=DEATH, quarantine=[("a", "null", 1)]))).report)
    light, dark = tmp_path / "light.png", tmp_path / "dark.png"
    assert opened(page, light) == []
    assert opened(page, dark, "--blink-settings=preferredColorScheme=0") == []
    assert light.stat().st_size > 50_000
    assert light.read_bytes() != dark.read_bytes()


def test_a_page_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><link rel='icon' href='data:,'><script>nothing()</script>")
    assert opened(page, tmp_path / "page.png")
