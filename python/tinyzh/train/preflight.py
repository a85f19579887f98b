"""What can be known to fail, before anything is computed or written."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidArgument
from ..tokenizer import Tokenizer
from . import storyteller
from .config import Run
from .dataset import Batches
from .model import Llama

__all__ = ["check"]


def check(run: Run, train_data: Batches, model: Llama, tokenizer: Path, devices: int) -> None:
    """Looks whether there is text for the rows, and whether the sample stories can be told.

    Raises:
        InvalidArgument: too little text, or a prompt that is longer than the context.
        TokenizerError: not a tokenizer of this model.
    """
    for _, length in run.batch_sizes(devices):
        train_data.windows(length)
    with storyteller.opened(model, tokenizer) as engine:
        assert engine.tokenizer is not None
        _check_prompts(run, engine.tokenizer)


def _check_prompts(run: Run, tokenizer: Tokenizer) -> None:
    for prompt in run.training.prompts:
        tokens = len(tokenizer.encode(prompt))
        if tokens >= run.model.seq_len:
            raise InvalidArgument(
                f"prompts has one of {tokens} tokens, {prompt[:10]!r}…, which leaves no room in "
                f"the context of {run.model.seq_len}: shorten it"
            )
