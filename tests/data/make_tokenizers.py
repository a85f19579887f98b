"""Makes the small tokenizers of this folder, each as SentencePiece's .model and llama2.c's .bin.

    python tests/data/make_tokenizers.py

zh     identity normalisation, spaces kept, byte fallback: rules that a tokenizer.bin can follow.
nfkc   SentencePiece's defaults (nmt_nfkc, spaces squeezed), byte fallback: rules that it cannot.
       The table of nmt_nfkc takes 240 KB in a .model, so the committed one holds the part about
       Latin-1, punctuation and full-width forms; tests/text/ compares it with the whole.

The text is the project's own: the story templates, and the few English lines below.  The same
SentencePiece release writes the same files again.
"""

from __future__ import annotations

import io
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parent.parent / "python" / "tinyzh" / "train" / "templates"
VOCAB_SIZE = 640
CHARACTERS = 280  # the most frequent ones become pieces, the others fall back to bytes

ENGLISH = """
Once upon a time, there was a little rabbit who lived at the edge of the forest.
The rabbit liked to play with her friends, and they played in the sun all day.
One day she saw a big red ball. "What is that?" said the little girl.
"It is my ball," said the boy. "Do you want to play with me?"
They were very happy, and then they went home to tell mom and dad about the day.
The end. But the next day the sun was up again, so the friends came back to the park.
"""


def lines() -> Iterator[str]:
    """The templates without their markup, then the English text often enough to be learnt."""
    for path in sorted(TEMPLATES.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = re.sub(r"<[^>]*>|^[#+?*]+ ", "", line)
            yield from filter(None, re.split(r"[{}|]", text))
    for _ in range(40):
        yield from ENGLISH.strip().splitlines()


def frequent(texts: list[str]) -> list[str]:
    """The texts with line breaks for all but the CHARACTERS most frequent characters."""
    counts: dict[str, int] = {}
    for character in "".join(texts):
        counts[character] = counts.get(character, 0) + 1
    kept = set(sorted(counts, key=lambda c: (-counts[c], c))[:CHARACTERS])
    return [t for text in texts if (t := "".join(c if c in kept else "\n" for c in text)).strip()]


def train(texts: list[str], **options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(part for text in texts for part in text.split("\n") if part),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        character_coverage=1.0,
        byte_fallback=True,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def llama2c(model: bytes) -> bytes:
    """The tokenizer.bin that llama2.c's exporter makes of a .model."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    entries = []
    for token in range(processor.vocab_size()):
        piece = processor.id_to_piece(token)
        if token in (processor.bos_id(), processor.eos_id()):
            piece = f"\n{piece}\n"
        entries.append((processor.get_score(token), piece.replace("▁", " ").encode()))
    longest = max(len(piece) for _, piece in entries)
    return struct.pack("<I", longest) + b"".join(
        struct.pack("<fi", score, len(piece)) + piece for score, piece in entries
    )


def nfkc_rules() -> str:
    """The part of nmt_nfkc that Chinese and English text meets, in the format of a rule file."""
    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc",
        add_dummy_prefix=False,
        escape_whitespaces=False,
        remove_extra_whitespaces=False,
    )
    blocks = [range(0x01, 0x100), range(0x2000, 0x2070), range(0x2581, 0x2582),
              range(0x3000, 0x3040), range(0xFF00, 0xFFF0)]  # fmt: skip
    rules = []
    for code in (code for block in blocks for code in block):
        narrow = normalizer.normalize(chr(code))
        if narrow != chr(code):
            rules.append(f"{code:X}\t{' '.join(f'{ord(c):X}' for c in narrow)}\n")
    return "".join(rules)


def main() -> None:
    texts = frequent(list(lines()))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the .model records the name of the rule file: one without a folder
        Path("nfkc.tsv").write_text(nfkc_rules(), encoding="utf-8")
        models = {
            "zh": train(texts, normalization_rule_name="identity", remove_extra_whitespaces=False),
            "nfkc": train(texts, normalization_rule_tsv="nfkc.tsv"),
        }
        os.chdir(HERE)
    for name, model in models.items():
        (HERE / f"{name}.model").write_bytes(model)
        (HERE / f"{name}.bin").write_bytes(llama2c(model))


if __name__ == "__main__":
    main()
