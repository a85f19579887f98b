"""Writes the seed corpus of fuzz_checkpoint: tiny checkpoints of each version, and broken ones.

    python tests/fuzz/make_corpus.py [directory]

The same files on every run; the layouts are those of docs/formats.md.
"""

import struct
import sys
from pathlib import Path

import numpy as np

MAGIC = 0x616B3432
NAMES = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"]


def sizes(dims):
    """Elements of one layer of each tensor, and its number of layers."""
    c = dict(zip(NAMES, dims, strict=True))
    dim, hidden, layers, vocab = c["dim"], c["hidden_dim"], c["n_layers"], c["vocab_size"]
    kv_dim = dim // c["n_heads"] * c["n_kv_heads"]
    return {
        "tok_emb": (1, vocab * dim), "wcls": (1, vocab * dim),
        "rms_att": (layers, dim), "rms_ffn": (layers, dim), "rms_final": (1, dim),
        "wq": (layers, dim * dim), "wk": (layers, kv_dim * dim),
        "wv": (layers, kv_dim * dim), "wo": (layers, dim * dim),
        "w1": (layers, hidden * dim), "w2": (layers, dim * hidden), "w3": (layers, hidden * dim),
        "rope": (1, c["seq_len"] * (dim // c["n_heads"])),
    }  # fmt: skip


def floats(rng, count):
    return rng.uniform(-1, 1, count).astype("<f4").tobytes()


def tensors(rng, dims, names, group_size=0):
    """The bytes of these tensors, all layers each; as int8 and scales if there is a group size."""
    out = b""
    for name in names.split():
        layers, count = sizes(dims)[name]
        for _ in range(layers):
            if group_size and not name.startswith("rms"):
                out += rng.integers(-127, 128, count).astype("i1").tobytes()
                count_of_scales = count // group_size
                out += (np.abs(rng.standard_normal(count_of_scales)) / 100).astype("<f4").tobytes()
            else:
                out += floats(rng, count)
    return out


def v0(dims, tied=True):
    rng = np.random.default_rng(0)
    header = list(dims)
    if not tied:
        header[5] = -header[5]
    names = "tok_emb rms_att wq wk wv wo rms_ffn w1 w2 w3 rms_final rope" + (
        "" if tied else " wcls"
    )
    return struct.pack("<7i", *header) + tensors(rng, dims, names)


def later(version, dims, tied=True, group_size=0):
    rng = np.random.default_rng(version)
    header = struct.pack("<Ii7iB", MAGIC, version, *dims, tied)
    if version == 2:
        header += struct.pack("<i", group_size)
    names = "rms_att rms_ffn rms_final tok_emb wq wk wv wo w1 w2 w3" + ("" if tied else " wcls")
    return header.ljust(256, b"\0") + tensors(rng, dims, names, group_size)


def patched(data, offset, fmt, value):
    out = bytearray(data)
    struct.pack_into(fmt, out, offset, value)
    return bytes(out)


def corpus():
    tiny = (4, 3, 1, 2, 1, 5, 2)
    grouped = (8, 6, 2, 4, 2, 7, 3)
    good = {
        "v0_tied": v0(tiny),
        "v0_untied": v0(grouped, tied=False),
        "v1_tied": later(1, tiny),
        "v1_untied": later(1, grouped, tied=False),
        "v2_tied": later(2, tiny, group_size=4),
        "v2_untied": later(2, grouped, tied=False, group_size=8),
        "v2_straddling": later(2, (8, 11, 1, 2, 2, 5, 2), group_size=8),
    }
    yield from good.items()
    yield "bad_empty", b""
    yield "bad_v0_header_cut", good["v0_tied"][:27]
    yield "bad_v1_header_cut", good["v1_tied"][:255]
    for name in "v0_tied", "v1_tied", "v2_tied":
        yield f"bad_{name}_cut", good[name][:-1]
        yield f"bad_{name}_long", good[name] + b"\0"
    for i, field in enumerate(NAMES):
        yield f"bad_v0_{field}", patched(good["v0_tied"], 4 * i, "<i", -(2**31))
        yield f"bad_v2_{field}", patched(good["v2_tied"], 8 + 4 * i, "<i", 2**31 - 1)
    yield "bad_version", patched(good["v1_tied"], 4, "<i", 3)
    yield "bad_flag", patched(good["v1_tied"], 36, "B", 2)
    yield "bad_padding", patched(good["v1_tied"], 255, "B", 1)
    yield "bad_group_size", patched(good["v2_tied"], 37, "<i", 3)
    yield "bad_scale", patched(good["v2_tied"], len(good["v2_tied"]) - 4, "<f", float("nan"))
    yield "foreign_html", b"<!DOCTYPE html><html><head><title>404</title></head></html>"
    yield (
        "foreign_lfs",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 373361692\n",
    )
    yield "foreign_gguf", b"GGUF\3\0\0\0" + bytes(16)
    yield "foreign_safetensors", struct.pack("<Q", 13) + b'{"tok_emb":{}}'
    yield "foreign_pickle", b"\x80\x02}q\0."
    yield "foreign_tar", b"a".ljust(257, b"\0") + b"ustar\0" + bytes(32)
    yield "foreign_sentencepiece", b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"
    pieces = (b"<unk>", b"\n<s>\n", b"\n</s>\n", "从".encode())
    yield (
        "foreign_tokenizer",
        struct.pack("<I", 27) + b"".join(struct.pack("<fi", -1.0, len(p)) + p for p in pieces),
    )


def main():
    default = Path(__file__).parent / "corpus" / "checkpoint"
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in corpus():
        assert len(data) <= 4096, name
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
