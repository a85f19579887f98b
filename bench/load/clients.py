"""What a crowd does to an engine: clients in a closed loop, or arrivals at random times."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

#: Tokens of a request's prompt, and of what it wants.
PROMPT, NEW = 24, 60


class Refused(Exception):
    """The engine's queue is full."""


class Engine(Protocol):
    """One that answers many at once."""

    name: str

    async def tell(self, prompt: list[int], on_piece: Callable[[], None]) -> int:
        """Continues a prompt by NEW tokens and returns their number."""
        ...

    async def close(self) -> None: ...


@dataclass
class Record:
    """What the clients saw."""

    seconds: float = 0
    tokens: int = 0
    finished: int = 0
    refused: int = 0
    first: list[float] = field(default_factory=list)  # seconds to the first piece
    gaps: list[float] = field(default_factory=list)  # between a piece and the next

    def summary(self) -> dict[str, float]:
        """Throughput, and percentiles in milliseconds."""
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "finished": self.finished,
            "refused": self.refused,
            **{
                f"{name}_p{p}": 1000 * percentile(values, p / 100)
                for name, values in (("first", self.first), ("gap", self.gaps))
                for p in (50, 99)
            },
        }


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all do not exceed; NaN of none."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def prompt(generator: random.Random) -> list[int]:
    """One that has no beginning in common with others."""
    return [1, *(generator.randrange(300, 3000) for _ in range(PROMPT - 1))]


async def one_request(engine: Engine, ids: list[int], record: Record) -> None:
    """Tells one story and notes when its pieces came."""
    start = last = time.perf_counter()
    begun = False

    def on_piece() -> None:
        nonlocal last, begun
        now = time.perf_counter()
        (record.gaps if begun else record.first).append(now - last)
        last, begun = now, True

    try:
        tokens = await engine.tell(ids, on_piece)
        record.tokens += tokens
        record.finished += 1
    except Refused:
        record.refused += 1
    record.seconds = max(record.seconds, time.perf_counter() - start)


async def closed_loop(engine: Engine, clients: int, seconds: float, seed: int) -> Record:
    """Each client asks again as soon as it is answered."""
    record, generator = Record(), random.Random(seed)
    start = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - start < seconds:
            await one_request(engine, prompt(generator), record)

    await asyncio.gather(*(client() for _ in range(clients)))
    record.seconds = time.perf_counter() - start
    return record


async def poisson(engine: Engine, requests_per_second: float, seconds: float, seed: int) -> Record:
    """Requests come at random times, whether or not the ones before are answered."""
    record, generator = Record(), random.Random(seed)
    start = time.perf_counter()
    tasks, when = [], 0.0
    while (when := when + generator.expovariate(requests_per_second)) < seconds:
        await asyncio.sleep(max(0.0, start + when - time.perf_counter()))
        tasks.append(asyncio.create_task(one_request(engine, prompt(generator), record)))
    await asyncio.gather(*tasks)
    record.seconds = time.perf_counter() - start
    return record
