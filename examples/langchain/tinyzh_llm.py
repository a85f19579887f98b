"""A LangChain LLM that tells its stories here, without a server.

    pip install tinyzh langchain-core
    python tinyzh_llm.py 从前

All calls of one TinyzhLLM share a model, so what runs at the same time is computed together.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from typing import Any

import tinyzh
from langchain_core.language_models.llms import LLM
from langchain_core.outputs import GenerationChunk


class TinyzhLLM(LLM):
    """``path`` is what tinyzh.Model opens, None the built-in model; ``options`` and the arguments
    of ``invoke`` and ``stream`` are those of ``Model.generate``, such as temperature and seed."""

    path: str | None = None
    options: dict[str, Any] = {}  # noqa: RUF012  (pydantic copies it)

    @cached_property
    def model(self) -> tinyzh.Model:
        """Opened when it is first needed."""
        return tinyzh.Model(self.path)

    def _generate_text(
        self, prompt: str, stop: list[str] | None, options: dict[str, Any]
    ) -> tinyzh.Generation:
        return self.model.generate(prompt, **{"stop": stop, **self.options, **options})

    def _call(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **options: Any
    ) -> str:
        return self._generate_text(prompt, stop, options).read()

    def _stream(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **options: Any
    ) -> Iterator[GenerationChunk]:
        for piece in self._generate_text(prompt, stop, options):
            chunk = GenerationChunk(text=piece)
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    async def _astream(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **options: Any
    ) -> AsyncIterator[GenerationChunk]:
        async for piece in self._generate_text(prompt, stop, options):
            chunk = GenerationChunk(text=piece)
            if run_manager:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    @property
    def _llm_type(self) -> str:
        return "tinyzh"

    @property
    def _identifying_params(self) -> dict[str, Any]:  # of LangChain's cache and traces
        return {"path": self.path, **self.options}


if __name__ == "__main__":
    for text in TinyzhLLM(options={"max_new_tokens": 200}).stream(" ".join(sys.argv[1:]) or "从前"):
        print(text, end="", flush=True)
    print()
