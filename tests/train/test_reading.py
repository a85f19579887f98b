"""Reading: every kind of file gives its stories, and what is wrong is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tinyzh.errors import FileError, FileMissing, InvalidArgument
from tinyzh.train.reading import HEAD, find_files, read_stories

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


def test_a_line_across_the_head_of_a_long_file(tmp_path: Path) -> None:
    many = [f"{i:06}从前" * 3 for i in range(HEAD // 20)]
    assert sum(map(len, many)) > HEAD
    assert stories(tmp_path / "a.txt", "\n".join(many)) == many


def test_other_fields_and_encodings(tmp_path: Path) -> None:
    lines = json.dumps({"zh": "从前"})
    assert stories(tmp_path / "a.jsonl", lines, fields=("zh",)) == ["从前"]
    assert stories(tmp_path / "a.txt", "\ufeff从前") == ["从前"]
    gb = "从前有一天".encode("gb18030")
    assert stories(tmp_path / "b.txt", gb, encoding="gb18030") == ["从前有一天"]
    with pytest.raises(FileError, match=r"b\.txt: not utf-8 text .* gb18030"):
        stories(tmp_path / "b.txt", gb)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1", r"a\.json:1: not JSON"),
        ("a.json", '{"text": "x"}', "expected a list of stories, found an object"),
        ("a.json", '["x", 3]', "story 2: expected a string or an object, found a number"),
        ("a.jsonl", '"x"\n{', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"zh": "x"}', r"a\.jsonl:1: no text under text or story, only zh"),
        ("a.jsonl", "null", "found null"),
        ("a.txt.gz", None, r"a\.txt\.gz: Not a gzipped file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    path.write_text("x" if text is None else text, encoding="utf-8")
    with pytest.raises(FileError, match=message):
        list(read_stories(path))


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
    with pytest.raises(FileMissing, match=r"none\.txt: no such file"):
        found("none.txt")
    with pytest.raises(FileMissing, match=r"\*\.csv: no such file"):
        found("*.csv")
    with pytest.raises(InvalidArgument, match=r"cannot read a \.md file"):
        found("b/notes.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match="empty: no stories"):
        found("empty")
