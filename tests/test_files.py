"""Files that are none, and files of every kind that somebody may give by mistake."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tinyzh
from mistakes import KINDS
from tinyzh import (
    BinTokenizer,
    FileError,
    FileMissing,
    Model,
    SentencePieceTokenizer,
    TinyzhError,
    TokenizerError,
)

# ---- paths ---------------------------------------------------------------------------------------


def opened_by(path: str) -> str:
    """What Model says of a path, in a process that is ended where it would wait for ever."""
    program = """
import sys, tinyzh
try:
    tinyzh.Model(sys.argv[1])
except tinyzh.TinyzhError as error:
    print(type(error).__name__, error)
"""
    package = Path(tinyzh.__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-c", program, path],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stderr == ""
    return told.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert opened_by(f"{tmp_path}/pipe") == (
        f"FileError {tmp_path}/pipe: is a pipe (FIFO); give the path of a regular file\n"
    )
    for opener in (SentencePieceTokenizer, BinTokenizer):
        with pytest.raises(FileError, match="is a pipe"):
            opener(tmp_path / "pipe")
    with pytest.raises(FileError, match="/dev/null: is a device; give the path of a regular"):
        Model("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(FileError, match="is a socket"):
            Model(tmp_path / "s")


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("a\0b", FileError, r"'a\\x00b' is no path"),
        ("x" * 5000, FileError, "x: File name too long$"),
        ("someone/stories", FileMissing, "no such file; if .* tinyzh pull someone/stories, or"),
        ("someone/stories:small.bin", FileMissing, "tinyzh pull someone/stories:small.bin"),
        ("someone/stories.bin", FileMissing, "someone/stories.bin: no such file$"),
        ("stories", FileMissing, "stories: no such file$"),
        ("https://hub/a/b.bin", FileMissing, "https://hub/a/b.bin: an address, and no file; down"),
    ],
)
def test_paths_of_nothing(path: str, error: type[TinyzhError], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        Model(path)
    assert len(str(raised.value)) < 500


def test_a_folder_that_is_there_is_no_owner_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(FileMissing, match=r"models/story: no such file$"):
        Model("models/story")


# ---- what is in them -----------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "words"), KINDS.values(), ids=KINDS)
def test_tokenizers_are_called_what_they_are(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "tokenizer").write_bytes(data)
    for opener in (SentencePieceTokenizer, BinTokenizer):
        with pytest.raises(TokenizerError, match=words) as raised:
            opener(tmp_path / "tokenizer")
        assert "\n" not in str(raised.value)
        assert ".cc" not in str(raised.value)


def test_a_tokenizer_that_is_none_says_so_once(tmp_path: Path) -> None:
    """Not the library too, which would write to standard error."""
    (tmp_path / "tokenizer.model").write_bytes(b"")
    program = "import sys, tinyzh; tinyzh.SentencePieceTokenizer(sys.argv[1])"
    package = Path(tinyzh.__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "tokenizer.model"],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
    )
    assert told.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert told.stderr.splitlines()[-1].endswith(
        "tokenizer.model: not a SentencePiece model but empty (0 bytes); put the tokenizer.model "
        "of this model there"
    )
