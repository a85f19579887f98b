"""Near duplicates: stories that share most of their shingles (runs of five characters)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .extra import require

__all__ = ["near_duplicates"]

SHINGLE = 5
DOUBT = 0.15  # MinHash is seldom wrong by more: four standard deviations
PERMUTATIONS, BANDS = 128, 32  # finds 99.9 % of the pairs at 0.7, 98 % at 0.6


def near_duplicates(
    keys: Sequence[str], threshold: float, watched: Iterable[str] | None = None
) -> list[int]:
    """The indices of the texts that are too similar to one before them that is kept.

    MinHash finds pairs that may be similar; the Jaccard similarity of their shingles, exactly
    computed, decides, so that no text goes by chance. ``watched`` are the keys once more, behind
    a progress bar.
    """
    watched = keys if watched is None else watched
    rensa = require("rensa")
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(map(_shingles, watched), PERMUTATIONS, 1)
    one_shot = rensa.RMinHashLSH(threshold, PERMUTATIONS, BANDS)
    flagged = one_shot.query_duplicate_flags_matrix_one_shot(matrix)
    suspects = [i for i, flag in enumerate(flagged) if flag]

    # Only suspects go into the index, and of them only those that are kept, so that a story
    # with a thousand copies is compared once each.
    index = rensa.RMinHashLSH(threshold, PERMUTATIONS, BANDS)
    kept: dict[int, Any] = {}
    gone: list[int] = []
    for i in suspects:
        shingles = _shingles(keys[i])
        digest = rensa.RMinHash(PERMUTATIONS, 1)
        digest.update(shingles)
        likely = (j for j in index.query(digest) if digest.jaccard(kept[j]) > threshold - DOUBT)
        if any(_jaccard(shingles, _shingles(keys[j])) >= threshold for j in likely):
            gone.append(i)
        else:
            kept[i] = digest
            index.insert(i, digest)
    return gone


def _shingles(key: str) -> set[str]:
    return {key[i : i + SHINGLE] for i in range(max(1, len(key) - SHINGLE + 1))}


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)
