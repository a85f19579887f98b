"""Corpora: what is left out, what goes where, and that nothing leaks."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tinyzh.errors import FileMissing, InvalidArgument
from tinyzh.train.clean import comparison_key
from tinyzh.train.corpus import CorpusOptions, CorpusReport, build_corpus, read_corpus
from tinyzh.train.stories import builtin

# No near duplicates, one process, no plot: what needs no other package and no time.
PLAIN = CorpusOptions(near_duplicates=0, processes=1, plot=False)


def texts(count: int) -> list[str]:
    """Different stories, similar to each other as if there were no other words."""
    rng = random.Random(5)
    return ["从前，" + "".join(rng.choices("猫狗鸟鱼花草", k=30)) + "。" for _ in range(count)]


def build(
    out: Path, *inputs: Path, builtin: int = 0, seed: int = 1, **options: Any
) -> CorpusReport:
    changed = dataclasses.replace(PLAIN, **options)
    return build_corpus(inputs, out, builtin=builtin, seed=seed, options=changed, progress=False)


def write(path: Path, stories: list[str]) -> Path:
    path.write_text(json.dumps(stories), encoding="utf-8")
    return path


def halves(folder: Path) -> tuple[list[str], list[str]]:
    return list(read_corpus(folder, "train")), list(read_corpus(folder, "valid"))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    good = texts(3)
    bad = ["", "，。", "短。", "长" * 50, "Once upon a time there was a cat.", good[0] + "！"]
    path = write(tmp_path / "a.json", good[:1] + bad + good[1:])
    report = build(tmp_path / "c", path, chinese=0.5, min_chars=5, max_chars=40, valid=0)
    assert report.files == 1
    assert report.read == 9
    assert report.empty == 2
    assert report.too_short == report.too_long == report.not_chinese == 1
    assert report.exact_duplicates == 1
    train, valid = halves(tmp_path / "c")
    assert sorted(train) == sorted(good)
    assert valid == []
    split = report.splits["train"]
    assert split.stories == 3
    assert split.characters == sum(map(len, good))
    assert split.distinct_characters == len(set("".join(good)))
    assert json.loads((tmp_path / "c" / "report.json").read_text("utf-8")) == json.loads(
        json.dumps(report.to_dict())
    )
    shown = str(report)
    assert "-1 exact duplicates" in shown
    assert "near duplicates" not in shown


def test_the_layout_of_each_file_is_reported(tmp_path: Path) -> None:
    one, two = texts(2)
    for name, text in (("a", f"{one}\n{two}"), ("b", f"{one}甲\n\n{two}乙"), ("c", f"{one}丙")):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    report = build(tmp_path / "c", *(tmp_path / f"{name}.txt" for name in "abc"))
    layouts = {Path(name).name: layout for name, layout in report.layouts.items()}
    assert layouts == {"a.txt": "lines", "b.txt": "blocks", "c.txt": "lines"}
    shown = str(report)
    assert "5 stories read from 3 files" in shown
    assert f"{tmp_path / 'a.txt'}, {tmp_path / 'c.txt'}: one story a line" in shown
    assert f"{tmp_path / 'b.txt'}: stories between blank lines" in shown


def test_stories_are_cleaned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ["从前,有\u200b一只猫.\r\n它叫咪咪!"])
    build(tmp_path / "a", path, valid=0)
    assert halves(tmp_path / "a")[0] == ["从前,有一只猫.\n它叫咪咪!"]
    build(tmp_path / "b", path, valid=0, full_width=True)
    assert halves(tmp_path / "b")[0] == ["从前，有一只猫。\n它叫咪咪！"]


def test_the_split_goes_by_the_story_alone(tmp_path: Path) -> None:
    some, more = texts(400)[:300], texts(400)
    build(tmp_path / "a", write(tmp_path / "a.json", some), valid=0.1)
    build(tmp_path / "b", write(tmp_path / "b.json", more[::-1]), valid=0.1, seed=9)
    train, valid = halves(tmp_path / "a")
    assert len(train) + len(valid) == 300
    assert 10 < len(valid) < 60
    train_of_more, valid_of_more = halves(tmp_path / "b")
    assert set(valid) < set(valid_of_more)
    assert set(train) < set(train_of_more)
    # Written in another way it is the same story, so it cannot come back in the other half.
    other = [text.replace("，", ", ") for text in valid]
    build(tmp_path / "c", write(tmp_path / "c.json", other + some), valid=0.1)
    train, valid = halves(tmp_path / "c")
    assert not {comparison_key(text) for text in train} & {comparison_key(t) for t in valid}
    assert sorted(map(comparison_key, valid)) == sorted(map(comparison_key, other))


def test_a_small_corpus_has_a_story_for_validation(tmp_path: Path) -> None:
    build(tmp_path / "c", write(tmp_path / "a.json", texts(5)), valid=0.001)
    train, valid = halves(tmp_path / "c")
    assert (len(train), len(valid)) == (4, 1)


def test_repeated_stories_are_in_the_training_half_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", texts(50))
    build(tmp_path / "c", path, repeat=3, valid=0.2)
    train, valid = halves(tmp_path / "c")
    assert len(set(valid)) == len(valid)
    assert len(train) == 3 * len(set(train)) == 3 * (50 - len(valid))


def test_repeated_stories_are_varied(tmp_path: Path) -> None:
    """Other names and full-width punctuation in some, and what was read in the others."""
    story = '从前，有一个小女孩名叫莉莉. 莉莉说:"你好!" 莉莉笑了。'
    path = write(tmp_path / "a.json", [story])
    build(tmp_path / "c", path, repeat=40, vary=0.5, valid=0)
    train, _ = halves(tmp_path / "c")
    varied = [text for text in train if text != story]
    assert 10 < len(varied) < 30
    assert len(set(varied)) > 5
    assert all("莉莉" not in text and "”" in text and "." not in text for text in varied)


def test_near_duplicates_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("rensa", reason="finds near duplicates; pip install 'tinyzh[train]'")
    story = "".join(random.Random(1).choices("猫狗鸟鱼花草树山水云", k=200))
    path = write(tmp_path / "a.json", [story, story[:100] + "某" + story[101:], story[::-1]])
    report = build(tmp_path / "c", path, near_duplicates=0.7, valid=0)
    assert report.near_duplicates == 1
    assert sorted(halves(tmp_path / "c")[0]) == sorted([story, story[::-1]])


def test_drawn_stories_are_split_by_template(tmp_path: Path) -> None:
    report = build(tmp_path / "c", builtin=1500)
    train, valid = halves(tmp_path / "c")
    assert report.drawn == len(train) + len(valid) == len({*train, *valid}) == 1500
    held = set(report.valid_templates)
    assert report.templates > 3000
    assert 0.02 < len(held) / report.templates < 0.08  # one in twenty
    # Every sentence that only held-out templates have is in the validation half only.
    templates, _ = builtin()
    written: dict[str, set[bool]] = {}
    for template in templates:
        for sentence in sentences(template.literals):
            written.setdefault(sentence, set()).add(template.title in held)
    only_held = [s for s, where in written.items() if where == {True}]
    only_train = [s for s, where in written.items() if where == {False}]
    assert len(only_held) > 100
    assert not [s for s in only_held if any(s in text for text in train)]
    assert not [s for s in only_train if any(s in text for text in valid)]
    assert sum(any(s in text for text in valid) for s in only_held) > 50


def sentences(literals: str) -> list[str]:
    """Long ones, which no other template can put together of its choices by chance."""
    return [s for s in literals.replace("。", "。 ").split() if len(s) > 20]


def test_drawn_stories_do_not_depend_on_processes(tmp_path: Path) -> None:
    for name, processes in (("a", 1), ("b", 2)):
        build(tmp_path / name, builtin=900, seed=4, processes=processes)
    build(tmp_path / "c", builtin=900, seed=5)
    for half in ("train.jsonl.gz", "valid.jsonl.gz"):
        a, b, c = ((tmp_path / name / half).read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_drawn_stories_beside_read_ones(tmp_path: Path) -> None:
    build(tmp_path / "a", builtin=400)
    build(tmp_path / "b", tmp_path / "a", builtin=400)  # all of these were in it before
    train, valid = halves(tmp_path / "b")
    assert len({*train, *valid}) == len(train) + len(valid) == 800


def test_the_output_is_not_its_own_input(tmp_path: Path) -> None:
    write(tmp_path / "a.json", texts(20))
    for _ in range(2):
        report = build(tmp_path / "corpus", tmp_path)
        assert report.read == 20
        assert report.exact_duplicates == 0


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the plot; pip install 'tinyzh[train]'")
    build(tmp_path / "c", builtin=50, plot=True)
    assert (tmp_path / "c" / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no stories: expected files"):
        build(tmp_path / "c")
    with pytest.raises(InvalidArgument, match=r"no stories left of 2 read: 2 shorter than 10 "):
        build(tmp_path / "c", write(tmp_path / "a.json", ["短", "短短"]))
    assert not (tmp_path / "c").exists()
    with pytest.raises(FileMissing, match=r"train\.jsonl\.gz: no such file; make the corpus"):
        next(read_corpus(tmp_path / "c"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("valid", 1.5), ("chinese", -1), ("min_chars", 0), ("max_chars", 3), ("repeat", 0),
     ("processes", 0)],
)  # fmt: skip
def test_options_out_of_their_range_are_named(option: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=f"{option} is {value}: expected"):
        dataclasses.replace(PLAIN, **{option: value})


def test_the_files_are_lines_of_json(tmp_path: Path) -> None:
    build(tmp_path / "c", write(tmp_path / "a.json", texts(10)), valid=0)
    with gzip.open(tmp_path / "c" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [list(json.loads(line)) for line in file] == [["text"]] * 10
