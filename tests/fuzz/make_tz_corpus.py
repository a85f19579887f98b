"""Writes the seed corpus of fuzz_tz: tiny tz files of each dtype, and broken ones.

    python tests/fuzz/make_tz_corpus.py [directory]

The same files on every run. The layout is that of docs/formats.md; sizes come from its words alone.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np

FLOAT32, INT8, INT4 = range(3)


def shapes(dims, tied):
    """Number, whether a vector, layers, rows and columns of each, in the order of the file."""
    dim, hidden, layers, heads, kv_heads, vocab, _ = dims
    kv_dim = dim // heads * kv_heads
    one_layer = {
        "tok_emb": (vocab, dim), "rms_att": (1, dim), "wq": (dim, dim), "wk": (kv_dim, dim),
        "wv": (kv_dim, dim), "wo": (dim, dim), "rms_ffn": (1, dim), "w1": (hidden, dim),
        "w2": (dim, hidden), "w3": (hidden, dim), "rms_final": (1, dim), "wcls": (vocab, dim),
    }  # fmt: skip
    if tied:
        del one_layer["wcls"]
    for index, (name, (rows, cols)) in enumerate(one_layer.items()):
        single = name in ("tok_emb", "rms_final", "wcls")
        yield index, name.startswith("rms"), 1 if single else layers, rows, cols


def int8_size(rows, cols, group):
    """Bytes of the values and the scales of a matrix in panels."""
    classes = {}
    for row in range(rows):
        classes.setdefault(row * cols % group, []).append(row)
    size = 0
    for phase, members in classes.items():
        ends = [*range(group - phase, cols, group), cols]
        starts = [0, *ends[:-1]]
        quads = sum(-(-end // 4) - start // 4 for start, end in zip(starts, ends, strict=True))
        size += -(-len(members) // 16) * (64 * quads + 64 * len(ends))
    return size


def tensor(rng, dtype, rows, cols, group):
    """The bytes of one layer of a matrix."""
    if dtype == FLOAT32:
        return rng.uniform(-1, 1, rows * cols).astype("<f4").tobytes()
    if dtype == INT8:
        return rng.integers(0, 64, int8_size(rows, cols, group), dtype="u1").tobytes()
    return rng.integers(0, 64, -(-rows // 16) * -(-cols // 32) * 304, dtype="u1").tobytes()


def tz(dims, dtype, group_size=0, tied=True):
    rng = np.random.default_rng(dtype)
    entries, body = [], b""
    count = sum(layers for _, _, layers, *_ in shapes(dims, tied))
    start = 256 + 64 * count
    for index, vector, layers, rows, cols in shapes(dims, tied):
        group = (group_size or cols) if dtype == INT8 and not vector else 0
        for layer in range(layers):
            body += bytes(-(start + len(body)) % 64)
            data = tensor(rng, FLOAT32 if vector else dtype, rows, cols, group)
            head = (index, layer, 0 if vector else 1 + dtype, rows, cols, group)
            place = (start + len(body), len(data), zlib.crc32(data))
            entries.append(struct.pack("<6IQQI20x", *head, *place))
            body += data
    return sealed(
        b"\x89TZH\r\n\x1a\n"
        + struct.pack("<II7iIfId", 1, 0, *dims, tied, 1e-5, dtype, 10000.0)
        + struct.pack("<IIQQI164x", group_size, count, 256, start + len(body), 2)
        + b"".join(entries)
        + body
    )


def sealed(data):
    """With the checksum of header and table; of the header alone where the table does not fit."""
    out = bytearray(data)
    struct.pack_into("<I", out, 12, 0)
    end = 256 + 64 * struct.unpack_from("<I", out, 68)[0]
    struct.pack_into("<I", out, 12, zlib.crc32(out[: end if end <= len(out) else 256]))
    return bytes(out)


def patched(data, offset, fmt, value):
    out = bytearray(data)
    struct.pack_into(fmt, out, offset, value)
    return sealed(out)


def corpus():
    tiny = (4, 3, 1, 2, 1, 5, 2)
    grouped = (8, 6, 2, 4, 2, 7, 3)
    good = {
        "float32": tz(tiny, FLOAT32),
        "float32_untied": tz(grouped, FLOAT32, tied=False),
        "int8": tz(tiny, INT8),
        "int8_untied": tz(grouped, INT8, tied=False),
        "int8_straddling": tz((8, 11, 1, 2, 2, 5, 2), INT8, group_size=8),
        "int4": tz(tiny, INT4),
        "int4_untied": tz(grouped, INT4, tied=False),
    }
    yield from good.items()
    whole = good["int8"]
    yield "bad_cut", whole[:-1]
    yield "bad_long", whole + b"\0"
    yield "bad_header_cut", whole[:255]
    yield "bad_table_cut", whole[:300]
    for name, offset, fmt, value in (
        ("version", 8, "<I", 2),
        ("dim", 16, "<i", -(2**31)),
        ("hidden_dim", 20, "<i", 2**31 - 1),
        ("n_layers", 24, "<i", 2**20),
        ("norm_eps", 48, "<f", float("nan")),
        ("dtype", 52, "<I", 3),
        ("rope_theta", 56, "<d", 0.0),
        ("group_size", 64, "<I", 3),
        ("entries", 68, "<I", 2**32 - 1),
        ("table_offset", 72, "<Q", 2**64 - 256),
        ("file_bytes", 80, "<Q", 2**64 - 1),
        ("numerics", 88, "<I", 0),
        ("zeros", 255, "B", 1),
        ("rows", 256 + 12, "<I", 2**32 - 1),
        ("offset", 256 + 24, "<Q", 2**64 - 64),
        ("bytes", 256 + 32, "<Q", 2**64 - 1),
    ):
        yield f"bad_{name}", patched(whole, offset, fmt, value)
    yield "bad_data", whole[:-1] + bytes([whole[-1] ^ 1])


def main():
    default = Path(__file__).parent / "corpus" / "tz"
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in corpus():
        assert len(data) <= 12288, (name, len(data))
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
