"""tinyzh's models for Simon Willison's llm.

    pip install tinyzh llm
    llm install examples/llm_plugin        (or: pip install examples/llm_plugin)
    llm -m tinyzh 从前
    llm -m tinyzh 从前 -o temperature 0.5 -o seed 42 -o max_tokens 100

TINYZH_LLM_MODEL names another model than the built-in one.  These models continue a text and do not
talk: ``llm -c`` and ``llm chat`` continue the story so far with what is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property

import llm
import tinyzh
from llm.parts import TextPart
from pydantic import Field


class Tinyzh(llm.Model):
    """Continues the prompt."""

    model_id = "tinyzh"
    can_stream = True

    class Options(llm.Options):
        temperature: float | None = Field(None, description="0: always the most probable token")
        seed: int | None = Field(None, description="the same one tells the same story")
        max_tokens: int | None = Field(None, description="at most so many new tokens")

    @cached_property
    def model(self) -> tinyzh.Model:
        """Opened at the first prompt: llm makes a Tinyzh for every command."""
        return tinyzh.Model(os.environ.get("TINYZH_LLM_MODEL"))

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        parts = [part for message in prompt.messages for part in message.parts]  # told so far, too
        generation = self.model.generate(
            "".join(part.text for part in parts if isinstance(part, TextPart)),
            temperature=prompt.options.temperature,
            seed=prompt.options.seed,
            max_new_tokens=prompt.options.max_tokens,
        )
        yield from generation if stream else [generation.read()]
        stats = generation.stats
        response.set_usage(input=stats.prompt_tokens, output=stats.new_tokens)


@llm.hookimpl
def register_models(register):  # type: ignore[no-untyped-def]
    """What llm calls to find the models of a plugin."""
    register(Tinyzh())
