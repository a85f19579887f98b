"""Training a tokenizer: SentencePiece byte-pair encoding, and the same as llama2.c's file.

Identity normalisation, spaces kept, digits single and bytes for rare characters: rules that a
``tokenizer.bin`` can follow, so that both files give the same ids.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from ..errors import InvalidArgument, TokenizerError
from ..formats.pieces import Pieces
from .corpus import read_corpus
from .extra import track

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = ["TokenizerReport", "train_tokenizer"]

RESERVED = 3 + 256  # <unk>, <s>, </s> and the bytes
SMALLEST = RESERVED + 2  # with ▁, which SentencePiece adds by itself, and one character
MOST_CHARACTERS = 0.8  # of the room; the rest is for pieces of several characters
COVERAGE = 0.9995  # what is rarer becomes bytes, where there is not room for all
LONGEST_STORY = 1 << 22  # bytes; SentencePiece would leave out everything above 4,192
COUNTED = 20_000  # stories whose tokens are counted for the report
SHOWN = 40  # characters named in the report


@dataclass
class TokenizerReport:
    """What the training chose; characters that are no piece are written as bytes."""

    out: str
    asked: int
    vocab_size: int
    stories: int
    characters: int
    distinct_characters: int
    kept_characters: int
    character_coverage: float
    byte_characters: list[tuple[str, int]]
    characters_per_token: float

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"tokenizer in {self.out}: {self.vocab_size:,} pieces",
            f"  trained on {self.stories:,} stories, {self.characters:,} characters; "
            f"{self.characters_per_token:.2f} characters a token",
            f"  {self.kept_characters:,} of {self.distinct_characters:,} different characters are "
            f"pieces (coverage {self.character_coverage:.6f})",
        ]
        if self.vocab_size < self.asked:
            lines.append(f"  the text has not enough for {self.asked:,} pieces: more text has more")
        if self.byte_characters:
            shown = "".join(c for c, _ in self.byte_characters[:SHOWN])
            more = "…" if len(self.byte_characters) > SHOWN else ""
            lines.append(f"  written as bytes: {shown}{more}")
        return "\n".join(lines)


def train_tokenizer(
    corpus: Path,
    out: Path,
    *,
    vocab_size: int = 3000,
    sample: int = 800_000,
    seed: int = 1,
    progress: bool = True,
) -> TokenizerReport:
    """Train on the stories of a corpus; writes ``tokenizer.model`` and ``tokenizer.bin``.

    Of the different characters the rarest become bytes, as many as it takes to leave room for
    pieces of several characters; and a text too small for ``vocab_size`` pieces gets fewer. The
    report, also in ``tokenizer.json``, says both.

    Args:
        corpus: a folder made by :func:`tinyzh.train.corpus.build_corpus`.
        sample: how many stories to train on, drawn by ``seed``, if there are more.

    Raises:
        InvalidArgument: no room for any character.
        FileMissing: there is no corpus.
    """
    if not SMALLEST <= vocab_size <= 1 << 16:
        raise InvalidArgument(
            f"vocab_size is {vocab_size}: expected {SMALLEST} to {1 << 16} "
            f"({SMALLEST - 1} go to <unk>, <s>, </s>, the bytes and the space)"
        )
    read = track(read_corpus(corpus), "reading", unit="stories", show=progress)
    texts = [text.replace("\n", "") for text in _sample(read, sample, seed)]
    if not texts:
        raise InvalidArgument(f"{corpus}: no stories in the training split")
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    counts.pop(" ", None)  # a space is ▁
    kept = _keep(counts, vocab_size - SMALLEST + 1)
    model = _train(texts, set(kept), vocab_size)

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, data in (("tokenizer.model", model), ("tokenizer.bin", Pieces.of_model(model).bin())):
        with replacing(out / name) as path:
            path.write_bytes(data)
    sp = _load(model)
    some = texts[:COUNTED]
    tokens = sum(map(len, sp.encode(some)))
    total = sum(counts.values())
    report = TokenizerReport(
        out=str(out),
        asked=vocab_size,
        vocab_size=sp.vocab_size(),
        stories=len(texts),
        characters=sum(map(len, texts)),
        distinct_characters=len(counts),
        kept_characters=len(kept),
        character_coverage=sum(counts[c] for c in kept) / max(1, total),
        byte_characters=counts.most_common()[len(kept) :],
        characters_per_token=sum(map(len, some)) / max(1, tokens),
    )
    with replacing(out / "tokenizer.json") as path:
        text = json.dumps(report.to_dict(), ensure_ascii=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
    return report


def _load(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model)


def _sample(texts: Iterable[str], count: int, seed: int) -> list[str]:
    """At most ``count`` of the texts, each with the same chance (Vitter's algorithm R)."""
    texts = iter(texts)
    kept = list(islice(texts, count))
    rng = random.Random(f"{seed}/tokenizer")
    for number, text in enumerate(texts, count):
        if (place := rng.randrange(number + 1)) < count:
            kept[place] = text
    return kept


def _keep(counts: Counter[str], room: int) -> list[str]:
    """The characters that become pieces, the most frequent first."""
    most = max(1, int(MOST_CHARACTERS * room))
    wanted = COVERAGE * sum(counts.values())
    kept: list[str] = []
    for character, count in counts.most_common(most):
        if wanted <= 0 and len(counts) > most:
            break
        kept.append(character)
        wanted -= count
    return kept


def _train(texts: Sequence[str], kept: set[str], vocab_size: int) -> bytes:
    """The model file, of as many pieces up to ``vocab_size`` as the text has."""
    from sentencepiece import SentencePieceTrainer

    # Texts are cut at the characters that are left to bytes. (The trainer's own way, a coverage
    # below 1, allows no less than 0.98, and picks characters only approximately.)
    cut = re.compile(f"[^{re.escape(''.join(sorted(kept | {' '})))}]+")

    def sentences() -> Iterator[str]:
        for text in texts:
            yield from filter(str.strip, cut.split(text))

    while True:
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=sentences(),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=1.0,
                byte_fallback=True,
                split_digits=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=LONGEST_STORY,
                minloglevel=2,
            )
            return model.getvalue()
        except RuntimeError as error:
            limit = re.search(r"Vocabulary size too high .*<= (\d+)", str(error))
            if not limit or int(limit[1]) >= vocab_size:
                raise TokenizerError(f"SentencePiece could not train: {error}") from error
            vocab_size = int(limit[1])
