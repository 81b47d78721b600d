"""The two ways in: ``python -m callback_middleware``, and the console script."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - ours


def test_it_runs_as_a_module() -> None:
    ran = run("-m", "callback_middleware", "--help")
    assert ran.returncode == 0
    assert "work" in ran.stdout


def test_the_console_script_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["callback-middleware"]
    monkeypatch.setattr(sys, "argv", ["callback-middleware", "work", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        pkgutil.resolve_name(script)()
    assert "callback-middleware work [OPTIONS] APP" in capsys.readouterr().out


def test_without_click_it_says_which_extra_to_install() -> None:
    ran = run("-c", "import sys; sys.modules['click'] = None; from callback_middleware.__main__ import main; main()")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "Error: the command needs click, which an extra brings: pip install 'callback_middleware[cli]'\n"
    )


def test_another_module_that_is_missing_is_no_missing_extra() -> None:
    ran = run("-c", "import sys; sys.modules['anyio'] = None; from callback_middleware.__main__ import main; main()")
    assert ran.returncode == 1
    assert "import of anyio halted" in ran.stderr
