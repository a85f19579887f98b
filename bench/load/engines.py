"""tinyzh and, behind a queue, CTranslate2 in this process; llama-server over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tinyzh

from ..neighbours.ctranslate2_engine import model_folder
from ..neighbours.hugging_face import WORDS
from ..shapes import STORY_93M, random_checkpoint
from .clients import NEW, Refused

STREAMS, QUEUE = 64, 256


class Ours:
    """One Model; its readers are tasks."""

    name = "tinyzh"

    def __init__(self, threads: int, cache: Path) -> None:
        data = Path(tinyzh.__file__).parent / "data"
        self.model = tinyzh.Model(
            random_checkpoint(STORY_93M),
            tokenizer=data / "story.tokenizer.bin",
            dtype="int8",
            threads=threads,
            streams=STREAMS,
            queue_limit=QUEUE,
        )

    async def tell(self, prompt: list[int], on_piece: Callable[[], None]) -> int:
        try:
            story = self.model.generate(
                prompt, temperature=0, max_new_tokens=NEW, min_new_tokens=NEW, seed=1
            )
        except tinyzh.QueueFull:
            raise Refused from None
        async for _ in story:
            on_piece()
        return len(story.token_ids)

    async def close(self) -> None:
        self.model.close()


class CTranslate2:
    """Its generator computes a batch to the end: whatever has come meanwhile is the next batch."""

    name = "CTranslate2"
    most = 32  # its best sub-batch

    def __init__(self, threads: int, cache: Path) -> None:
        import ctranslate2

        self._generator = ctranslate2.Generator(
            model_folder("int8", cache), compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self._waiting: list[tuple[list[int], Callable[[int], None]]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch, self._waiting = self._waiting[: self.most], self._waiting[self.most :]

            def step(result: Any, batch: list[Any] = batch) -> bool:
                batch[result.batch_id][1](result.step)
                return False

            self._generator.generate_batch(
                [[WORDS[token] for token in ids] for ids, _ in batch],
                max_batch_size=len(batch),
                beam_size=1,
                sampling_topk=1,
                min_length=NEW,
                max_length=NEW,
                include_prompt_in_result=False,
                end_token=[],
                callback=step,
            )

    async def tell(self, prompt: list[int], on_piece: Callable[[], None]) -> int:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        seen = 0

        def note() -> None:
            nonlocal seen
            seen += 1
            on_piece()
            if seen == NEW:
                done.set()

        with self._changed:
            if len(self._waiting) >= QUEUE:
                raise Refused
            self._waiting.append((prompt, lambda _: loop.call_soon_threadsafe(note) and None))
            self._changed.notify()
        await done.wait()
        return seen

    async def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()


class LlamaServer:
    """llama-server, Q8_0, continuous batching over 32 slots, answers streamed."""

    name = "llama-server"
    slots = 32

    def __init__(self, threads: int, cache: Path, program: str, port: int = 18080) -> None:
        import aiohttp

        from ..neighbours.llama_cpp_python import gguf_file

        context = STORY_93M.seq_len * self.slots
        command = [
            program,
            "-m",
            str(gguf_file("q8_0", cache)),
            "--port",
            str(port),
            "-np",
            self.slots,
        ]
        command += ["-t", threads, "-tb", threads, "-c", context, "--no-warmup", "--log-disable"]
        self._process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"{self._url}/health") as answer:
                if answer.status == 200:
                    break
            time.sleep(0.2)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def tell(self, prompt: list[int], on_piece: Callable[[], None]) -> int:
        body = {
            "prompt": prompt,
            "n_predict": NEW,
            "temperature": 0,
            "top_k": 1,
            "ignore_eos": True,
            "stream": True,
            "cache_prompt": False,
            "return_tokens": True,
        }
        tokens = 0
        async with self._session.post(f"{self._url}/completion", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    piece = json.loads(line[6:])
                    if "tokens_predicted" in piece and piece.get("stop"):
                        tokens = piece["tokens_predicted"]
                    else:
                        on_piece()
        return tokens

    async def close(self) -> None:
        await self._session.close()
        self._process.terminate()
        self._process.wait()
