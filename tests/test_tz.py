"""tz, tinyzh's own container: the same bits as quantising at load, and what is damaged is found."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import tinyzh
from checkpoints import Shape
from tinyzh import _core
from tinyzh.cli import main, terminal
from tinyzh.cli.terminal import Terminal

DTYPES = ("float32", "int8", "int4")
SHAPE = Shape(64, 172, 2, 4, 2, 50, 32, tied=False)  # 172: groups of 64 and 32 straddle rows
IDS = [1, 7, 30, 4, 49, 12]
CORPUS = Path(__file__).parent / "fuzz" / "corpus" / "tz"


def source(folder: Path, layout: str, shape: Shape = SHAPE) -> Path:
    tensors = checkpoints.random_tensors(shape, 3)
    data = {
        "v0": lambda: checkpoints.v0(shape, tensors),
        "v1": lambda: checkpoints.v1(shape, tensors),
        "v2": lambda: checkpoints.v2(shape, tensors, 32),
    }[layout]()
    return checkpoints.save(folder / f"{layout}.bin", data)


def logits(path: Path, dtype: str = "auto") -> bytes:
    with tinyzh.Model(path, tokenizer=False, dtype=dtype) as model:
        return model.logits(IDS).tobytes()


def convert(path: Path, target: Path, *options: str) -> Path:
    assert main(["convert", str(path), str(target), *options]) == 0
    return target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["v0", "v1", "v2"])
def test_same_bits_as_at_load(tmp_path: Path, layout: str, dtype: str) -> None:
    path = source(tmp_path, layout)
    target = convert(path, tmp_path / "m.tz", "--format", "tz", "--dtype", dtype)
    assert logits(target) == logits(path, dtype)
    with tinyzh.Model(target, tokenizer=False) as model:
        assert model.dtype == dtype
        assert model.memory()["weights"] == 0, "used in place"
    with tinyzh.Model(target.read_bytes(), tokenizer=False) as model:
        assert model.logits(IDS).tobytes() == logits(target)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, 1, 1, 1, 1, 4, 40),
        Shape(30, 41, 2, 5, 1, 50, 40),
        Shape(40, 63, 3, 4, 2, 300, 40, tied=False),
    ],
    ids=lambda shape: f"{shape.dim}x{shape.hidden_dim}",
)
def test_odd_sizes_on_every_instruction_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Shape
) -> None:
    """Each writes the same file, and computes from it what it computes from the original."""
    path = source(tmp_path, "v0", shape)
    ids = np.random.default_rng(1).integers(0, shape.vocab_size, 40)
    for dtype in DTYPES:
        files, results = set(), set()
        for isa in _core.instruction_sets():
            monkeypatch.setenv("TINYZH_ISA", isa)
            target = convert(path, tmp_path / f"{dtype}_{isa}.tz", "--format=tz", "--dtype", dtype)
            files.add(target.read_bytes())
            for file, kind in ((path, dtype), (target, "auto")):
                with tinyzh.Model(file, tokenizer=False, dtype=kind) as model:
                    assert (model.isa, model.dtype) == (isa, dtype)
                    story = model.generate([1], seed=5, temperature=1.2)
                    story.wait()
                    results.add((model.logits(ids).tobytes(), tuple(story.token_ids)))
        assert len(files) == 1
        assert len(results) == 1


def test_auto_keeps_the_files_own(tmp_path: Path) -> None:
    for layout, dtype in (("v0", "float32"), ("v2", "int8")):
        target = convert(source(tmp_path, layout), tmp_path / f"{layout}.tz", "--format", "tz")
        assert _core.Source(str(target)).checkpoint["format"] == "tinyzh tz"
        assert logits(target) == logits(target, dtype)


def test_fp32_converts_on(tmp_path: Path) -> None:
    path = source(tmp_path, "v0")
    tz = convert(path, tmp_path / "m.tz", "--format", "tz")
    for layout in ("v0", "v1", "v2"):
        there = convert(tz, tmp_path / f"from_tz_{layout}.bin", "--format", layout)
        straight = convert(path, tmp_path / f"from_v0_{layout}.bin", "--format", layout)
        assert there.read_bytes() == straight.read_bytes()
    int4 = convert(tz, tmp_path / "int4.tz", "--format", "tz", "--dtype", "int4")
    again = convert(int4, tmp_path / "again.tz", "--format", "tz")
    assert again.read_bytes() == int4.read_bytes()
    assert logits(int4) == logits(path, "int4")


def test_a_packed_file_keeps_its_dtype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source(tmp_path, "v0")
    target = convert(path, tmp_path / "m.tz", "--format", "tz", "--dtype", "int4")
    for other in ("float32", "int8"):
        with pytest.raises(tinyzh.InvalidArgument, match=f"dtype is {other}.*int4.*dtype auto"):
            tinyzh.Model(target, tokenizer=False, dtype=other)
    capsys.readouterr()
    assert main(["convert", str(target), str(tmp_path / "x.bin"), "--format", "v0"]) == 2
    assert "convert the checkpoint it was made of" in capsys.readouterr().err
    assert not (tmp_path / "x.bin").exists()


def test_dtype_is_for_tz(tmp_path: Path) -> None:
    path = source(tmp_path, "v0")
    options = ["--format", "v0", "--dtype", "int4"]
    assert main(["convert", str(path), str(tmp_path / "x.bin"), *options]) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bytes_are_those_of_the_documentation(tmp_path: Path, dtype: str) -> None:
    path = source(tmp_path, "v0")
    data = convert(path, tmp_path / "m.tz", "--format", "tz", "--dtype", dtype).read_bytes()
    assert data[:12] == b"\x89TZH\r\n\x1a\n\x01\0\0\0"
    dims = (64, 172, 2, 4, 2, 50, 32)
    assert struct.unpack_from("<7iI", data, 16) == (*dims, 0)
    assert struct.unpack_from("<fId", data, 48) == (np.float32(1e-5), DTYPES.index(dtype), 10000.0)
    group, entries, table, length = struct.unpack_from("<IIQQ", data, 64)
    assert (group, entries, table, length) == (0, 21, 256, len(data))
    assert data[88:256] == struct.pack("<I", tinyzh.numerics_version) + bytes(164)
    head = data[:12] + bytes(4) + data[16 : table + 64 * entries]
    assert zlib.crc32(head) == struct.unpack_from("<I", data, 12)[0]
    end = table + 64 * entries
    for i in range(entries):
        offset, size, crc = struct.unpack_from("<QQI", data, table + 64 * i + 24)
        assert offset == -(-end // 64) * 64
        end = offset + size
        assert zlib.crc32(data[offset:end]) == crc
    assert end == len(data)
    tensor, layer, kind, rows, cols = struct.unpack_from("<5I", data, table)
    assert (tensor, layer, kind, rows, cols) == (0, 0, 1 + DTYPES.index(dtype), 50, 64)
    # Row 17 by the rules of the documentation: row 1 of the second panel of sixteen.
    row = checkpoints.random_tensors(SHAPE, 3)["tok_emb"][17]
    offset = struct.unpack_from("<Q", data, table + 24)[0]
    if dtype == "float32":
        assert data[offset + 17 * 256 : offset + 18 * 256] == row.tobytes()
    if dtype == "int8":
        value = np.frombuffer(data, np.int8, 1, offset + 16 * 64 + 64 * 1 + 4 * 1 + 2)[0]
        scale = np.frombuffer(data, np.float32, 64, offset + 64 * 64)[17]
        assert scale == np.abs(row).max() / np.float32(127)
        assert value == np.rint(row[6] / scale)
    if dtype == "int4":
        record = offset + 304 * (2 * 1 + 1)  # columns 32 to 63
        packed = [data[record + 64 * i + 4 * 1 + c] for i in range(4) for c in range(4)]
        halves = np.array([[b & 15 for b in packed], [b >> 4 for b in packed]])
        q = halves.reshape(2, 4, 4).transpose(1, 0, 2).reshape(32)
        scale = np.frombuffer(data, np.float16, 1, record + 256 + 2 * 1)[0].astype(np.float64)
        error = np.abs(scale * (q - data[record + 288 + 1] / 16) - row[32:])
        assert error.mean() < 0.4 * scale, (
            "rounding errs by a quarter of a step, anything else by more"
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_verify_finds_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    path = source(tmp_path, "v0")
    target = convert(path, tmp_path / "m.tz", "--format", "tz", "--dtype", dtype)
    assert main(["info", str(target), "--verify"]) == 0
    assert "all as they should be" in capsys.readouterr().out
    data = bytearray(target.read_bytes())
    offset = struct.unpack_from("<Q", data, 256 + 64 * 4 + 24)[0]  # wq of layer 1
    data[offset + 9] ^= 16
    target.write_bytes(data)
    assert main(["info", str(target)]) == 0, "the data are not read"
    capsys.readouterr()
    assert main(["info", str(target), "--verify"]) == 1
    error = capsys.readouterr().err
    assert "wq, layer 1" in error
    assert error.count("\n") == 1
    data[300] ^= 1
    target.write_bytes(data)
    with pytest.raises(tinyzh.CheckpointError, match="header and table have the checksum"):
        tinyzh.Model(target, tokenizer=False)


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source(tmp_path, "v2")
    target = convert(path, tmp_path / "m.tz", "--format", "tz")
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    text = capsys.readouterr().out
    assert "tinyzh tz (int8, groups of 32)" in text
    assert "wk 2 x (32, 64)" in text
    assert f"numerics    version {tinyzh.numerics_version}\n" in text
    assert main(["info", str(path), "--verify", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verified"] is False, "v2 has no checksums"
    assert {"name": "wcls", "layers": 1, "rows": 50, "cols": 64, "quantised": True} in facts[
        "tensors"
    ]


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_files_written_from_the_documentation(file: Path) -> None:
    """The fuzzer's seeds, which know only docs/formats.md: the good open, the bad are refused."""
    if file.name == "bad_data":
        assert tinyzh.Model(file, tokenizer=False).config.dim == 4
        with pytest.raises(tinyzh.CheckpointError, match=r"rms_final, layer 0: .*checksum"):
            _core.verify(str(file))
    elif file.name.startswith("bad_"):
        with pytest.raises(tinyzh.CheckpointError) as caught:
            tinyzh.Model(file, tokenizer=False)
        assert "again" in str(caught.value), "what to do"
    else:
        assert _core.verify(str(file))
        with tinyzh.Model(file, tokenizer=False) as model:
            assert model.dtype == file.name.partition("_")[0]


def test_another_numerics_version_opens_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = convert(source(tmp_path, "v0"), tmp_path / "m.tz", "--format=tz", "--dtype=int4")
    before = logits(target)
    data = bytearray(target.read_bytes())
    struct.pack_into("<I", data, 88, 1)
    seal(data)
    target.write_bytes(data)
    assert logits(target) == before
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    here = f"this is {tinyzh.numerics_version}: convert the original again"
    assert f"version 1; {here}" in capsys.readouterr().out


def test_another_version_is_refused(tmp_path: Path) -> None:
    target = convert(source(tmp_path, "v0"), tmp_path / "m.tz", "--format=tz")
    data = bytearray(target.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    seal(data)
    with pytest.raises(tinyzh.CheckpointError, match=r"version 2; this program reads version 1"):
        tinyzh.Model(bytes(data), tokenizer=False)


def seal(data: bytearray) -> None:
    """Makes the checksum of header and table right again."""
    entries = struct.unpack_from("<I", data, 68)[0]
    struct.pack_into("<I", data, 12, 0)
    struct.pack_into("<I", data, 12, zlib.crc32(data[: 256 + 64 * entries]))


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path, "v0")
    shown: list[str] = []
    monkeypatch.setenv("TINYZH_THREADS", "1")
    monkeypatch.setattr(Terminal, "progress", lambda self, text: shown.append(text))
    convert(path, tmp_path / "a.tz", "--format=tz", "--dtype=int4")
    assert shown == [""], "a short one has none"
    monkeypatch.setattr(terminal, "_PATIENCE", -1)
    monkeypatch.setattr(terminal, "_BETWEEN", -1)
    shown.clear()
    convert(path, tmp_path / "b.tz", "--format=tz", "--dtype=int4")
    stages = [re.sub(r" \d+ s left", "", text).split() for text in shown[:-1]]
    packing = [["b.tz:", "packing", f"{i / 16:.0%}"] for i in range(1, 17)]
    writing = [["b.tz:", "writing", f"{i / 21:.0%}"] for i in range(1, 22)]
    assert [[name, stage, share] for name, stage, _, share in stages] == packing + writing
    assert [bar.count("█") for _, _, bar, _ in stages[:16]] == [24 * i // 16 for i in range(1, 17)]
    assert {len(bar) for _, _, bar, _ in stages} == {24}
    assert shown[-1] == ""


@pytest.mark.parametrize("stage", ["packing", "writing"])
def test_stopped_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Ctrl-C comes out of the progress, and leaves nothing behind."""
    monkeypatch.setenv("TINYZH_THREADS", "1")
    path = source(tmp_path, "v0")

    def stop(done: int, total: int, name: str) -> None:
        if name == stage and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _core.convert_to_tz(_core.Source(str(path)), str(tmp_path / "m.tz"), "int4", stop)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_exists_is_kept_when_the_new_one_fails(tmp_path: Path) -> None:
    tensors = checkpoints.random_tensors(SHAPE, 3)
    tensors["wq"][0, 0, 0] = np.nan
    path = checkpoints.save(tmp_path / "nan.bin", checkpoints.v0(SHAPE, tensors))
    target = tmp_path / "m.tz"
    target.write_bytes(b"old")
    options = ["--format", "tz", "--dtype", "int4", "--force"]
    assert main(["convert", str(path), str(target), *options]) == 1
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tz", "nan.bin"]
