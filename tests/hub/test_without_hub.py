"""Without huggingface_hub everything else works, and pulling says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tinyzh
from tinyzh.cli import main


def test_pull_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(tinyzh.MissingPackage, match=r"pip install 'tinyzh\[hub\]'"):
        tinyzh.Model.from_pretrained("owner/name")
    assert main(["pull", "owner/name"]) == 1
    assert "pip install 'tinyzh[hub]'" in capsys.readouterr().err


def test_nothing_else_imports_it() -> None:
    code = "import sys, tinyzh.cli, tinyzh.hub; print('huggingface_hub' in sys.modules)"
    package = Path(tinyzh.__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
    )
    assert told.stdout == b"False\n", told.stderr
