"""Reading: every kind of file gives its stories, and what is wrong is named."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from tinyzh.errors import FileError, FileMissing, InvalidArgument
from tinyzh.train.reading import HEAD, LAYOUTS, Layout, find_files, read_stories, read_texts

STORIES = ["从前有一只猫。", "有一天，下雨了。\n大家都回家。", "小鸟飞走了。"]
LINES = [story.replace("\n", "") for story in STORIES]


def stories(path: Path, text: str | bytes, **options: object) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return [story.strip() for story in read_stories(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_every_kind_of_file(tmp_path: Path, zipped: str) -> None:
    objects = [{"story": STORIES[0]}, {"text": STORIES[1], "id": 3}, STORIES[2]]
    lines = "\n".join(json.dumps(item, ensure_ascii=False) for item in objects)
    assert stories(tmp_path / f"a.txt{zipped}", "\n".join(LINES)) == LINES
    assert stories(tmp_path / f"b.txt{zipped}", "\n\n".join(STORIES) + "\n") == STORIES
    assert stories(tmp_path / f"c.json{zipped}", json.dumps(objects)) == STORIES
    assert stories(tmp_path / f"d.jsonl{zipped}", lines + "\n\n") == STORIES


def test_layout_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "甲\n乙\n\n丙\n"
    assert stories(path, text) == ["甲\n乙", "丙"]
    assert stories(path, text, layout="lines") == ["甲", "乙", "丙"]
    assert stories(path, text, layout="file") == ["甲\n乙\n\n丙"]
    assert stories(path, "甲\n乙", layout="blocks") == ["甲\n乙"]
    # Many lines with a stray blank one are a story each.
    many = [f"故事{i}" for i in range(100)]
    assert stories(path, "\n".join([*many[:50], "", *many[50:]])) == many
    with pytest.raises(InvalidArgument, match="layout is 'pages'"):
        stories(path, text, layout="pages")


PARAGRAPHS = [f"有一天，小猫{i}出门了。\n\n它走了很远。\n\n\u3000它回家了。" for i in range(30)]


def test_paragraphs_of_a_story_stay_together(tmp_path: Path) -> None:
    """Where some runs of blank lines are longer, those separate stories."""
    path = tmp_path / "a.txt"
    assert stories(path, "\n\n\n".join(PARAGRAPHS)) == PARAGRAPHS
    assert stories(path, "\n \n\t\n\n".join(PARAGRAPHS)) == PARAGRAPHS
    assert len(stories(path, "\n\n\n".join(PARAGRAPHS), layout="blocks")) == 90
    # A stray one among stories of one paragraph does not make two long stories of them.
    for count in (30, 300):
        short = [f"小猫{i}" + "走啊走" * 30 for i in range(count)]
        half = count // 2
        assert stories(path, "\n\n".join([*short[:half], "", *short[half:]])) == short


def test_the_layout_that_was_found_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    told: list[Layout] = []
    for text in ("甲\n乙", "甲\n\n乙", "甲\n\n乙\n\n\n丙"):
        stories(path, text, tell_layout=told.append)
    stories(path, "甲", layout="file", tell_layout=told.append)
    stories(tmp_path / "a.json", '["甲"]', tell_layout=told.append)
    assert told == list(LAYOUTS) == ["lines", "blocks", "gaps", "file"]


def test_standard_input_is_read_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, encoding in (("从前\n\n后来", "utf-8-sig"), ("从前\n\n后来", "gb18030")):
        stdin = io.TextIOWrapper(io.BytesIO(data.encode(encoding)))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert read_texts(["-"], encoding=encoding) == ["从前", "后来"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(FileError, match=r"standard input: not utf-8 text .*with --encoding"):
        read_texts(["-"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(FileError, match="standard input: it is closed"):
        read_texts(["-"])


def test_a_line_across_the_head_of_a_long_file(tmp_path: Path) -> None:
    many = [f"{i:06}从前" * 3 for i in range(HEAD // 20)]
    assert sum(map(len, many)) > HEAD
    assert stories(tmp_path / "a.txt", "\n".join(many)) == many


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\f", "\x1c"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, character: str) -> None:
    """From the beginning of a file to its end, whatever else Python might split it at."""
    many = [f"{i:06}从前{character}有" for i in range(HEAD // 5)]
    assert stories(tmp_path / "a.txt", "\n".join(many)) == many
    assert stories(tmp_path / "a.txt", "\n\n".join(many[:9])) == many[:9]


def test_other_fields_and_encodings(tmp_path: Path) -> None:
    lines = json.dumps({"zh": "从前"})
    assert stories(tmp_path / "a.jsonl", lines, fields=("zh",)) == ["从前"]
    assert stories(tmp_path / "a.txt", "\ufeff从前") == ["从前"]
    gb = "从前有一天".encode("gb18030")
    assert stories(tmp_path / "b.txt", gb, encoding="gb18030") == ["从前有一天"]
    with pytest.raises(FileError, match=r"b\.txt: not utf-8 text .* gb18030"):
        stories(tmp_path / "b.txt", gb)
    for name, data in (("c.txt", "从前"), ("c.json", '["从前"]'), ("c.jsonl", '"从前"')):
        with pytest.raises(FileError, match=rf"{name}: not utf-16 text \(UTF-16 stream does not"):
            stories(tmp_path / name, data, encoding="utf-16")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1", r"a\.json:1: not JSON"),
        ("a.json", '{"text": "x"}', "expected a list of stories, found an object"),
        ("a.json", '["x", 3]', "story 2: expected a string or an object, found a number"),
        ("a.jsonl", '"x"\n{', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"zh": "x"}', r"a\.jsonl:1: no text under text or story, only zh: .*--field"),
        ("a.jsonl", "null", "found null"),
        ("a.json", "[" * 10**5, r"a\.json: cannot be read \(lists or objects too deep"),
        ("a.jsonl", '"x"\n' + "[" * 10**5, r"a\.jsonl:2: cannot be read \(lists or objects"),
        ("a.json", f"[{'9' * 5000}]", r"a\.json: cannot be read \(Exceeds the limit"),
        ("a.txt.gz", None, r"a\.txt\.gz: Not a gzipped file"),
    ],
    ids=range(10),
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    path.write_text("x" if text is None else text, encoding="utf-8")
    with pytest.raises(FileError, match=message):
        list(read_stories(path))


def test_a_damaged_gz_is_called_so(tmp_path: Path) -> None:
    """Whatever comes out of it, characters or none."""
    whole = gzip.compress("".join(map(chr, range(0x4E00, 0x6E00))).encode())
    for at in (10, 12, 200, 4000, len(whole) - 6, len(whole) - 1):
        path = tmp_path / f"{at}.txt.gz"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(FileError, match=rf"{at}\.txt\.gz: (damaged \(.|CRC|Incorrect)"):
            list(read_stories(path))
    path.write_bytes(whole[:3000])
    with pytest.raises(FileError, match="damaged"):
        list(read_stories(path))


@pytest.mark.parametrize("encoding", ["utf9", "hex", "undefined"])
def test_an_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InvalidArgument, match=f"encoding is '{encoding}', which Python does not"):
        stories(tmp_path / "a.txt", "甲", encoding=encoding)


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/c/1.jsonl.gz", "b/notes.md", "a.json", "out/train.jsonl.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def found(*inputs: str, leave_out: Path | None = None) -> list[str]:
        paths = find_files([tmp_path / name for name in inputs], leave_out=leave_out)
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert found("b") == ["b/2.txt", "b/c/1.jsonl.gz"]
    assert found("*.json", "b/2.txt", "b") == ["a.json", "b/2.txt", "b/c/1.jsonl.gz"]
    assert "out/train.jsonl.gz" in found(".")
    assert "out/train.jsonl.gz" not in found(".", leave_out=tmp_path / "out")
    # A folder whose name means something in patterns; folders that a pattern matches.
    for name in ("old [1]/3.txt", "old [1]/d/4.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert found("old [1]") == ["old [1]/3.txt", "old [1]/d/4.json"]
    assert found("ol*") == found("old [1]")
    assert found("b*") == ["b/2.txt", "b/c/1.jsonl.gz"]
    with pytest.raises(FileMissing, match=r"none\.txt: no such file"):
        found("none.txt")
    with pytest.raises(FileMissing, match=r"\*\.csv: no such file"):
        found("*.csv")
    with pytest.raises(InvalidArgument, match=r"cannot read a \.md file"):
        found("b/notes.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match="empty: no stories"):
        found("empty")
