"""From each format to each: nothing is lost, and what cannot be held is refused."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tinyzh
from tinyzh import (
    FileError,
    InvalidArgument,
    MissingPackage,
    Model,
    SamplingParams,
    Special,
    TokenizerError,
)
from tinyzh.formats.conversion import DTYPES, convert, format_of_name
from tinyzh.formats.huggingface_writer import write_folder
from tinyzh.formats.pieces import Pieces
from tinyzh.formats.verification import verify
from zoo import NAMES, SHAPES, get

pytest.importorskip("google.protobuf", reason="writes folders; pip install 'tinyzh[hub]'")
pytest.importorskip("gguf", reason="reads and writes GGUF; pip install 'tinyzh[gguf]'")

TARGETS = {"v0": "m.bin", "v1": "m.bin", "v2": "m.bin", "tz": "m.tz", "hf": "m", "gguf": "m.gguf"}


def rope_tables(path: Path) -> slice:
    """Where a v0 file has the two tables that no reader needs."""
    config = tinyzh.Model(path, tokenizer=False).config
    size = 4 * config.seq_len * config.head_size
    behind = 0 if config.tied else 4 * config.vocab_size * config.dim
    end = path.stat().st_size - behind
    return slice(end - size, end)


@pytest.mark.parametrize("middle", ["hf", "gguf", "tz", "v1"])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_is_every_bit(name: str, middle: str, tmp_path: Path) -> None:
    kept = get(name, tmp_path)
    source = kept.path
    if name == "built-in":  # int8: as fp32 first
        source = tmp_path / "start.bin"
        convert(kept.path, source, "v0")
    convert(source, tmp_path / TARGETS[middle], middle, tokenizer=kept.tokenizer)
    convert(tmp_path / TARGETS[middle], tmp_path / "again.bin", "v0")
    before, after = bytearray(source.read_bytes()), bytearray((tmp_path / "again.bin").read_bytes())
    tables = rope_tables(source)
    before[tables] = after[tables] = b""
    assert len(before) > 10_000
    assert before == after


@pytest.mark.parametrize("first", TARGETS)
@pytest.mark.parametrize("second", TARGETS)
def test_each_from_each(first: str, second: str, tmp_path: Path) -> None:
    kept = get("grouped queries", tmp_path)
    a, b = tmp_path / "a" / TARGETS[first], tmp_path / "b" / TARGETS[second]
    a.parent.mkdir()
    b.parent.mkdir()
    convert(kept.path, a, first)
    done = convert(a, b, second)
    verify(a, done)
    assert b in done.files or b == done.files[0].parent
    with Model(a) as before, Model(b) as after:
        assert after.config == before.config
        rounded = second == "v2" and first != "v2"
        for name, array in before.weights.items():
            if rounded and array.ndim == 2:
                assert np.abs(array - after.weights[name]).max() <= np.abs(array).max() / 127
            else:
                assert array.tobytes() == after.weights[name].tobytes(), name
        # The tokenizer has come along, whatever kind of file it is in now.
        for text in ("从前，有一只小兔子", "🐰 abc"):
            assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
            assert after.tokenizer.decode(after.tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("format", "dtype"),
    [(f, d) for f, dtypes in DTYPES.items() for d in dtypes if d != "auto"],
)
def test_each_dtype_is_near_the_original(format: str, dtype: str, tmp_path: Path) -> None:
    kept = get("hidden 2268", tmp_path)
    target = tmp_path / "out" / TARGETS[format]
    target.parent.mkdir()
    result = verify(kept.path, convert(kept.path, target, format, dtype=dtype))
    assert (result.weights == 0) == (dtype == "float32" or format == "tz")
    assert result.same_choice > 0.9
    assert (result.tensors, result.tokens) == (11, 256)


@pytest.mark.parametrize("target", ["v0", "v1", "v2"])
@pytest.mark.parametrize("change", [{"rope_theta": 500000.0}, {"norm_eps": 1e-6}])
def test_formats_without_eps_and_theta_refuse(
    target: str, change: dict[str, float], tmp_path: Path
) -> None:
    kept = get("grouped queries", tmp_path)
    with Model(kept.path) as model:
        changed = dataclasses.replace(model.config, **change)
        with Model.from_arrays(changed, model.weights) as other:
            write_folder(tmp_path / "hf", other.config, other.weights, None)
    name = next(iter(change))
    with pytest.raises(InvalidArgument, match=name):
        convert(tmp_path / "hf", tmp_path / "new.bin", target)
    assert not (tmp_path / "new.bin").exists()
    for format, path in (("tz", "m.tz"), ("gguf", "m.gguf"), ("hf", "hf2")):
        convert(tmp_path / "hf", tmp_path / path, format)
        with Model(tmp_path / path, tokenizer=False) as again:
            assert getattr(again.config, name) == pytest.approx(change[name], rel=1e-7)


# ---- special tokens and defaults -----------------------------------------------------------------

DEFAULTS = {
    "temperature": 0.3,
    "top_p": 0.8,
    "top_k": 7,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
}
SPECIALS = {
    "another beginning": Special.of(5, 6, 7),
    "one token for both": Special.of(0, 0),
    "three ends": Special.of(1, 2, 3, 4),
    "no beginning": Special.of(1, 2, add_bos=False),
}


@pytest.fixture
def folder_with(tmp_path: Path) -> Callable[..., Path]:
    """``folder_with(special, defaults)``: a folder that says so."""

    def write(special: Special, defaults: dict[str, Any] | None = None) -> Path:
        kept = get("grouped queries", tmp_path)
        with Model(kept.path) as model:
            pieces = Pieces.of(model.tokenizer)
            write_folder(
                tmp_path / "own", model.config, model.weights, pieces,
                special=special, defaults=defaults or {},
            )  # fmt: skip
        return tmp_path / "own"

    return write


@pytest.mark.parametrize("special", SPECIALS.values(), ids=SPECIALS)
@pytest.mark.parametrize("format", ["hf", "gguf"])
def test_special_tokens_and_defaults_travel(
    folder_with: Callable[..., Path], tmp_path: Path, format: str, special: Special
) -> None:
    source, target = folder_with(special, DEFAULTS), tmp_path / "out" / TARGETS[format]
    target.parent.mkdir()
    assert convert(source, target, format).notes == []
    with Model(source) as before, Model(target) as after:
        assert before.special == after.special == special
        assert before.defaults == after.defaults == SamplingParams(**DEFAULTS)
        ids = before.tokenizer.encode("从前", bos=False)
        for model in (before, after):
            begun = [special.bos] if special.add_bos else []
            assert model.tokenizer.encode("从前") == begun + ids
            assert model.tokenizer.encode("") == [special.bos]


@pytest.mark.parametrize("special", SPECIALS.values(), ids=SPECIALS)
def test_a_tokenizer_json_alone_says_it_too(
    folder_with: Callable[..., Path], tmp_path: Path, special: Special
) -> None:
    pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    source = folder_with(special)
    (source / "tokenizer.model").unlink()
    for format in ("hf", "gguf"):
        convert(source, tmp_path / TARGETS[format], format)
        with Model(source) as before, Model(tmp_path / TARGETS[format]) as after:
            assert after.special == before.special == special
            for text in ("从前", ""):
                assert after.tokenizer.encode(text) == before.tokenizer.encode(text)


def test_greedy_defaults(folder_with: Callable[..., Path], tmp_path: Path) -> None:
    source = folder_with(Special(), {"temperature": 0.0})
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(source, tmp_path / "hf", "hf")
    for path in (source, tmp_path / "hf", tmp_path / "m.gguf"):
        with Model(path) as model:
            assert model.defaults.temperature == 0


def test_what_gguf_has_no_place_for_is_said(
    folder_with: Callable[..., Path], tmp_path: Path
) -> None:
    source = folder_with(Special.of(1, 2, 3, 4, 5), {"max_new_tokens": 40})
    ends, default = convert(source, tmp_path / "m.gguf", "gguf").notes
    assert "three tokens that end a text: [5] no longer do; pass stop_tokens=[5]" in ends
    assert "no place for the default max_new_tokens=40" in default
    assert Model(tmp_path / "m.gguf").special == Special.of(1, 2, 3, 4)


@pytest.mark.parametrize("format", ["v0", "v1", "v2", "tz"])
def test_a_file_that_cannot_say_how_texts_begin_is_not_written(
    folder_with: Callable[..., Path], tmp_path: Path, format: str
) -> None:
    for special, words in (
        (Special.of(5, 6), f"begin with token 5, and {format} knows only 1, BOS: write it as hf"),
        (Special(add_bos=False), "begin with no token before them, and"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            convert(folder_with(special), tmp_path / "new", format)
        assert not (tmp_path / "new").exists()
    source = folder_with(Special.of(1, 3), {"top_k": 7})
    ends, defaults = convert(source, tmp_path / "new", format).notes[:2]
    assert "cannot say that texts end with 1, 3: there it is 1 and 2; pass stop_tokens=[3]" in ends
    assert defaults == f"{format} has no place for the model's defaults: pass top_k=7"


def test_a_tokenizer_bin_has_no_text_where_its_reserved_pieces_are(tmp_path: Path) -> None:
    pieces = Pieces(["a", "<s>", "</s>"], [0.0] * 3, [1, 3, 3])
    with pytest.raises(TokenizerError, match=r"piece 0 is the text 'a', and a tokenizer\.bin"):
        pieces.bin()


def test_the_tokenizer_lies_beside_a_file_under_its_name(tmp_path: Path) -> None:
    kept = get("built-in", tmp_path)
    done = convert(kept.path, tmp_path / "new.bin", "v0", tokenizer=kept.tokenizer)
    assert [path.name for path in done.files] == [
        "new.bin",
        "new.tokenizer.model",
        "new.tokenizer.bin",
    ]
    assert (tmp_path / "new.tokenizer.model").read_bytes() == kept.tokenizer.read_bytes()
    ours = kept.tokenizer.with_suffix(".bin").read_bytes()
    assert (tmp_path / "new.tokenizer.bin").read_bytes() == ours
    again = convert(tmp_path / "new.bin", tmp_path / "more.bin", "v1")
    assert [p.name for p in again.files[1:]] == ["more.tokenizer.model", "more.tokenizer.bin"]
    # One that is there already, and is the right one, is not written once more.
    (tmp_path / "tokenizer.bin").write_bytes(ours)
    assert convert(tmp_path / "new.bin", tmp_path / "third.bin", "v1").files[1:] == []


def test_a_tokenizer_beside_it_that_only_looks_right_is_not_taken_for_it(tmp_path: Path) -> None:
    """It has the pieces, and cuts texts by another rule."""
    kept = get("grouped queries", tmp_path)
    pieces = Pieces.of(tinyzh.BinTokenizer(kept.tokenizer))
    beside = tmp_path / "m.tokenizer.model"
    beside.write_bytes(dataclasses.replace(pieces, dummy_prefix=False).model())
    with pytest.raises(FileError, match="exists; force=True"):
        convert(kept.path, tmp_path / "m.bin", "v1")
    verify(kept.path, convert(kept.path, tmp_path / "m.bin", "v1", force=True))
    assert not beside.exists()


def test_a_tokenizer_that_puts_no_space_in_front(tmp_path: Path) -> None:
    kept = get("grouped queries", tmp_path)
    with Model(kept.path) as model:
        pieces = dataclasses.replace(Pieces.of(model.tokenizer), dummy_prefix=False)
    (tmp_path / "own.model").write_bytes(pieces.model())
    for format, target in (("gguf", "m.gguf"), ("hf", "hf")):
        convert(kept.path, tmp_path / target, format, tokenizer=tmp_path / "own.model")
        with Model(tmp_path / target) as again:
            assert not again.tokenizer.adds_dummy_prefix
            assert again.tokenizer.encode("从前") == [1, *again.tokenizer.encode("从前", bos=False)]
            assert len(again.tokenizer.encode("从前")) == 3


def test_files_have_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    convert(get("built-in", tmp_path).path, tmp_path / "hf", "hf")
    modes = {path.stat().st_mode for path in (tmp_path / "hf").iterdir()}
    assert modes == {(tmp_path / "any").stat().st_mode}


def test_without_a_tokenizer(tmp_path: Path) -> None:
    shape = SHAPES["grouped queries"]
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    path = checkpoints.save(tmp_path / "bare.bin", data)
    assert convert(path, tmp_path / "new.bin", "v1").notes == []
    done = convert(path, tmp_path / "new.gguf", "gguf")
    assert "without a tokenizer: no tokenizer with" in done.notes[0]
    with pytest.raises(TokenizerError, match=r"new\.gguf: its tokenizer is of the kind 'none'"):
        Model(tmp_path / "new.gguf")
    convert(path, tmp_path / "hf", "hf")
    with pytest.raises(TokenizerError, match=r"no tokenizer\.model and no tokenizer\.json"):
        Model(tmp_path / "hf")


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES["grouped queries"]
    tensors = checkpoints.random_tensors(shape)
    tensors["w1"][0, 0, 0] = 1e5
    path = checkpoints.save(tmp_path / "large.bin", checkpoints.v0(shape, tensors))
    for format, target in (("hf", "hf"), ("gguf", "m.gguf")):
        with pytest.raises(InvalidArgument, match=r"layers\.0\.w1 has a weight of 100000"):
            convert(path, tmp_path / target, format, dtype="float16")
        assert not (tmp_path / target).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.bin"]
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        MissingPackage, match=r"gguf is not installed: pip install 'tinyzh\[gguf\]'"
    ):
        convert(path, tmp_path / "new", "gguf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.bin"]


def test_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = get("grouped queries", tmp_path)
    convert(kept.path, tmp_path / "hf", "hf")
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(MissingPackage, match=r"file: protobuf is not installed: pip install proto"):
        convert(kept.path, tmp_path / "hf2", "hf")
    assert not (tmp_path / "hf2").exists()
    # A tokenizer that cannot be read is not left behind in silence.
    (tmp_path / "hf" / "tokenizer.model").unlink()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    (note,) = convert(tmp_path / "hf", tmp_path / "m.tz", "tz").notes
    assert note.startswith("without a tokenizer: ")
    assert "tokenizers is not installed: pip install 'tinyzh[hub]'" in note


# ---- what is there already -----------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    kept = get("built-in", tmp_path)
    for format, name in TARGETS.items():
        folder = tmp_path / format
        folder.mkdir()
        convert(kept.path, folder / name, format)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(FileError, match=r"exists; force=True replaces it"):
            convert(kept.path, folder / name, format)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
        convert(kept.path, folder / name, format, force=True)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    (tmp_path / "empty").mkdir()
    convert(kept.path, tmp_path / "empty", "hf")


@pytest.mark.parametrize("kind", ["bin", "model"])
def test_a_tokenizer_beside_it_is_not_replaced_unasked(tmp_path: Path, kind: str) -> None:
    """Though the file itself is not there."""
    kept = get("grouped queries", tmp_path)
    (tmp_path / "out").mkdir()
    beside = tmp_path / "out" / f"m.tokenizer.{kind}"
    beside.write_bytes(b"precious")
    with pytest.raises(FileError, match=rf"m\.tokenizer\.{kind}: exists; force=True"):
        convert(kept.path, tmp_path / "out" / "m.bin", "v1")
    assert names(tmp_path / "out") == [beside.name]
    assert beside.read_bytes() == b"precious"
    convert(kept.path, tmp_path / "out" / "m.bin", "v1", force=True)
    assert names(tmp_path / "out") == ["m.bin", "m.tokenizer.bin"]
    Model(tmp_path / "out" / "m.bin").close()


def test_files_of_the_source_are_never_replaced(tmp_path: Path) -> None:
    kept = get("grouped queries", tmp_path)
    hf = tmp_path / "hf"
    convert(kept.path, hf, "hf")
    before = {path.name: path.read_bytes() for path in hf.iterdir()}
    (tmp_path / "link.gguf").symlink_to(hf / "model.safetensors")
    for source, target, format in (
        (hf, hf / "model.safetensors", "gguf"),
        (hf, hf / "tokenizer.model", "tz"),
        (hf / "model.safetensors", hf, "hf"),
        (hf, hf, "hf"),
        (hf, tmp_path / "link.gguf", "gguf"),
        (kept.path, kept.path, "v1"),
        (kept.path, kept.tokenizer, "v1"),
    ):
        with pytest.raises(InvalidArgument, match="which is never replaced: give another name"):
            convert(source, target, format, force=True)
    assert {path.name: path.read_bytes() for path in hf.iterdir()} == before
    for source in (hf, kept.path):  # beside them there is room
        for name in ("new.gguf", "new.gguf"):
            convert(source, hf / name, "gguf", force=True)
    (tmp_path / "hf" / "m.bin").write_bytes(kept.path.read_bytes())
    for _ in range(2):
        convert(hf / "m.bin", hf / "m.tz", "tz", force=True, tokenizer=kept.tokenizer)
    assert {path.name: path.read_bytes() for path in hf.iterdir()}.items() >= before.items()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_only_files_are_replaced(tmp_path: Path) -> None:
    kept = get("built-in", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, format, words in (
        ("pipe", "v0", "is a device, and a file is to be written"),
        ("device", "gguf", "is a device, and a file"),
        ("folder", "tz", "is a folder, and a file"),
        ("file", "hf", "is a file, and a folder"),
        ("pipe", "hf", "is a device, and a folder"),
    ):
        with pytest.raises(FileError, match=f"{name}: {words}"):
            convert(kept.path, tmp_path / name, format, force=True)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["device", "file", "folder", "pipe"]


def test_nothing_of_another_model_is_left_in_a_folder(tmp_path: Path) -> None:
    """It would be read with the new one's weights."""
    kept = get("built-in", tmp_path)
    target = tmp_path / "hf"
    convert(kept.path, target, "hf")
    others = ["pytorch_model.bin", "model-00001-of-00002.safetensors", "tokenizer.bin"]
    for name in [*others, "model.safetensors.index.json", "README.md", "model.bin"]:
        (target / name).write_bytes(b"{}")
    shape = SHAPES["grouped queries"]
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    bare = checkpoints.save(tmp_path / "bare" / "m.bin", data)
    verify(bare, convert(bare, target, "hf", force=True))
    assert names(target) == [
        "README.md", "config.json", "generation_config.json", "model.bin", "model.safetensors"
    ]  # fmt: skip
    with pytest.raises(TokenizerError):
        Model(target)


def test_a_tokenizer_that_was_there_is_spoken_of(tmp_path: Path) -> None:
    kept = get("grouped queries", tmp_path)
    (tmp_path / "m.tokenizer.bin").write_bytes(kept.tokenizer.read_bytes())
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "m.bin").write_bytes(kept.path.read_bytes())
    (note,) = convert(tmp_path / "bare" / "m.bin", tmp_path / "m.bin", "v1").notes
    assert note == f"{tmp_path}/m.tokenizer.bin was there and will be taken for its tokenizer"


def test_a_folder_is_replaced_when_all_of_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = get("built-in", tmp_path)
    target = tmp_path / "hf"
    convert(kept.path, target, "hf")
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = get("grouped queries", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fails)  # of all that comes behind the weights
        for place in (target, tmp_path / "new"):
            with pytest.raises(FileError, match=f"{place}: cannot be written: No space left on"):
                convert(other.path, place, "hf", force=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert names(tmp_path) == ["hf", "model.bin", "model.tokenizer.bin"]
    convert(other.path, target, "hf", force=True)
    assert Model(target).config.dim == 48
    assert names(tmp_path) == ["hf", "model.bin", "model.tokenizer.bin"]


def test_a_folder_that_lies_on_another_disk(tmp_path: Path) -> None:
    """Where files are moved to from beside it, not from beside the link."""
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other disk to write to")
    kept = get("built-in", tmp_path)
    with tempfile.TemporaryDirectory(dir=other) as there:
        (tmp_path / "hf").symlink_to(there)
        for _ in range(2):
            verify(kept.path, convert(kept.path, tmp_path / "hf", "hf", force=True))
        assert "model.safetensors" in names(Path(there))
        assert not [name for name in names(Path(there)) if name.startswith(".")]


@pytest.mark.parametrize("format", TARGETS)
def test_folders_on_the_way_are_made(tmp_path: Path, format: str) -> None:
    kept = get("built-in", tmp_path)
    target = tmp_path / "a" / "b" / TARGETS[format]
    verify(kept.path, convert(kept.path, target, format))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match=r"file: (File exists|Not a directory)"):
        convert(kept.path, tmp_path / "file" / TARGETS[format], format)


@pytest.mark.parametrize("format", TARGETS)
def test_a_vocabulary_that_was_rounded_up(tmp_path: Path, format: str) -> None:
    """In other files each id has a piece, if only one that no text has."""
    shape = dataclasses.replace(SHAPES["grouped queries"], vocab_size=320)
    kept = get("grouped queries", tmp_path)
    with Model(kept.path) as model:
        pieces = Pieces.of(model.tokenizer)
    checkpoints.save(tmp_path / "r.bin", checkpoints.v0(shape, checkpoints.random_tensors(shape)))
    with Model(tmp_path / "r.bin", tokenizer=False) as model:
        write_folder(tmp_path / "hf", model.config, model.weights, pieces)
    done = convert(tmp_path / "hf", tmp_path / "out" / TARGETS[format], format)
    verify(tmp_path / "hf", done)
    with Model(done.target) as model:
        assert model.tokenizer.encode("从前") == [1, *pieces_of(pieces, " 从前")]
        assert model.generate("从", logit_bias={319: 100}, max_new_tokens=2).read() == ""


def pieces_of(pieces: Pieces, text: str) -> list[int]:
    return [list(pieces.texts).index(c.replace(" ", "▁")) for c in text]


def test_the_format_that_a_name_stands_for(tmp_path: Path) -> None:
    names = {"a.gguf": "gguf", "a.tz": "tz", "a/": "hf", "a": "hf", str(tmp_path): "hf"}
    assert {name: format_of_name(name) for name in names} == names
    assert format_of_name("a.bin") is None


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        (f, d)
        for f, d in itertools.product(DTYPES, ["float32", "float16", "int8", "int4", "bfloat16"])
        if d not in DTYPES[f]
    ],
)
def test_a_dtype_that_a_format_does_not_hold(format: str, dtype: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"dtype is '{dtype}': {format} holds"):
        convert(get("built-in", tmp_path).path, tmp_path / "x", format, dtype=dtype)


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="format is 'onnx': expected one of v0, v1"):
        convert(get("built-in", tmp_path).path, tmp_path / "x", "onnx")
