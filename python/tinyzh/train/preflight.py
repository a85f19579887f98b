"""What can be known to fail, before anything is computed or written."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidArgument
from ..tokenizer import Tokenizer
from . import storyteller
from .config import Run
from .dataset import Batches
from .model import Llama

__all__ = ["check", "check_telling"]


def check(
    run: Run,
    train_data: Batches,
    kept_data: Batches | None,
    model: Llama,
    tokenizer: Path,
    devices: int,
) -> None:
    """Looks whether there is text for the rows, and whether the sample stories can be told.

    Raises:
        InvalidArgument: too little text; a prompt that is longer than the context; faults to be
            unlearnt by several processes, or without a prompt; text to stay what it was on, and
            several processes.
        TokenizerError: not a tokenizer of this model.
    """
    if run.training.unlikelihood:
        check_telling(run, devices)
    if kept_data is not None and devices > 1:
        raise InvalidArgument(
            f"--keep is for one process, and there are {devices}: start it without torchrun"
        )
    for _, length in run.batch_sizes(devices):
        train_data.windows(length)
        if kept_data is not None:
            kept_data.windows(length)
    with storyteller.opened(model, tokenizer) as engine:
        assert engine.tokenizer is not None
        _check_prompts(run, engine.tokenizer)


def check_telling(run: Run, devices: int) -> None:
    """Looks whether stories can be told whose faults are to be unlearnt.

    Raises:
        InvalidArgument: several processes, no prompt, or no room for a story.
    """
    if devices > 1:
        raise InvalidArgument(
            f"unlikelihood is {run.training.unlikelihood:g}, and there are {devices} processes: "
            "unlearning is for one; start it without torchrun, or --set unlikelihood=0"
        )
    if not run.training.prompts:
        raise InvalidArgument(
            "prompts is empty, and stories are told whose faults are unlearnt: give some, or "
            "--set unlikelihood=0"
        )
    if run.model.seq_len < 32:
        raise InvalidArgument(
            f"seq_len is {run.model.seq_len}: expected at least 32 for stories whose faults are "
            "unlearnt; --set unlikelihood=0 tells none"
        )


def _check_prompts(run: Run, tokenizer: Tokenizer) -> None:
    for prompt in run.training.prompts:
        tokens = len(tokenizer.encode(prompt))
        if tokens >= run.model.seq_len:
            raise InvalidArgument(
                f"prompts has one of {tokens} tokens, {prompt[:10]!r}…, which leaves no room in "
                f"the context of {run.model.seq_len}: shorten it"
            )
