"""Stories that a model has told wrongly, to learn from: unlikelihood training.

Text alone teaches what to say, not what never to say. Here the model tells stories, a program finds
the words where they mix characters up, and these words become less likely where they stood
(Welleck et al., 2019, "Neural Text Generation with Unlikelihood Training"; Li et al., 2020, "Don't
Say That!", for contradictions).
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..generation import Generation
from ..model import Model as Engine
from .config import Training
from .dataset import BOS, Batches
from .faults import FaultFinder
from .stories import FOLDER, load_slots

__all__ = ["Mistakes", "Wrong"]

KEPT = 3  # tellings whose mistakes are learnt from
ROWS = 8  # stories in a step
OPENING = 8  # tokens, at most, of a story that the model is given to begin with
LENGTH = 320  # tokens that are told, at most

Story = tuple[list[int], list[int]]
"""Tokens, BOS first, and the places among them where a fault begins."""

Wrong = tuple[Tensor, Tensor, Tensor]
"""Tokens (B, T), and of each fault (F) the row and the place."""


class Mistakes:
    """The faulty stories of the last few tellings.

    Args:
        settings: of the run; ``tell_every``, ``told``, ``prompts``, ``seed``.
        data: where the openings of half of the stories come from.
        kept: those of a checkpoint.
    """

    def __init__(
        self, settings: Training, data: Batches, kept: Sequence[Sequence[Story]] = ()
    ) -> None:
        self._settings, self._data = settings, data
        self._find = FaultFinder(load_slots(FOLDER / "slots.txt")).find
        self.kept = [list(told) for told in kept]

    def due(self, step: int) -> bool:
        """Whether stories are told before that step."""
        return step % self._settings.tell_every == 0

    def tell(self, engine: Engine, step: int) -> float:
        """Tells stories; returns the share in which there is a fault.

        Half of them begin with the prompts of the sample stories, the others as the training text
        does; half are told with a ``top_p`` of 0.9, which users have, the others without.
        """
        count = self._settings.told
        rng = random.Random(f"{self._settings.seed}/{step}")
        asked = self._prompts(count, step, rng)
        rng.shuffle(asked)
        stories: list[Generation] = []
        for i, top_p in enumerate((0.9, 1.0)):
            stories += engine.generate_many(
                asked[i::2],
                temperature=0.8,
                top_p=top_p,
                seed=rng.getrandbits(48),
                max_new_tokens=min(LENGTH, engine.config.seq_len - OPENING - 1),
            )
        assert engine.tokenizer is not None
        pieces = engine.tokenizer.pieces
        told = [self._looked_at(story, pieces) for story in stories]
        self.kept = [*self.kept, [story for story in told if story[1]]][-KEPT:]
        return len(self.kept[-1]) / count

    def _prompts(self, count: int, step: int, rng: random.Random) -> list[str | list[int]]:
        settings = self._settings
        mine = [settings.prompts[i % len(settings.prompts)] for i in range((count + 1) // 2)]
        rows = self._data.batch(step, count - len(mine), settings.length, settings.seed + 1)
        openings = [_opening(row.tolist(), rng.randint(1, OPENING)) for row in rows]
        return [*mine, *openings]

    def _looked_at(self, told: Generation, pieces: Sequence[bytes]) -> Story:
        tokens = [*told.prompt_ids, *told.token_ids]
        text = b"".join(pieces[token] for token in tokens[1:])
        story, whole = _decoded(text)
        if not whole or told.finish_reason != "stop":  # a clause that is cut off says anything
            story = story[: max(map(story.rfind, "，。！？”")) + 1]
        bytes_at = [0, *itertools.accumulate(len(char.encode()) for char in story)]
        ends = [*itertools.accumulate((len(pieces[token]) for token in tokens[1:]), initial=0)]
        places = {bisect_right(ends, bytes_at[fault.start]) for fault in self._find(story)}
        return tokens, sorted(place for place in places if place >= len(told.prompt_ids))

    def wrong(self, step: int) -> Wrong | None:
        """Some of the faulty stories; None: there are none."""
        told = [stories for stories in self.kept if stories]
        if not told:
            return None
        rng = random.Random(f"{self._settings.seed}/{step}/wrong")
        chosen = [rng.choice(rng.choice(told)) for _ in range(ROWS)]
        tokens = np.full((ROWS, max(len(row) for row, _ in chosen)), BOS, dtype=np.int64)
        for i, (row, _) in enumerate(chosen):
            tokens[i, : len(row)] = row
        faults = [(i, place) for i, (_, places) in enumerate(chosen) for place in places]
        rows, places = torch.tensor(faults).unbind(1)
        return torch.from_numpy(tokens), rows, places


def _opening(row: list[Any], length: int) -> list[int]:
    """The first tokens of the first story that begins in a row; BOS alone: none does."""
    story = itertools.islice(itertools.dropwhile(lambda token: token != BOS, row), 1, 1 + length)
    return [BOS, *itertools.takewhile(lambda token: token != BOS, story)]


def _decoded(text: bytes) -> tuple[str, bool]:
    """The text up to a broken character, and whether there is none."""
    try:
        return text.decode(), True
    except UnicodeDecodeError as error:
        return text[: error.start].decode(), False
