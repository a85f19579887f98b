"""``tinyzh train``: from texts to a model that tells stories, one subcommand a step.

Each step is a module with ``add`` (its arguments) and ``run``, as the commands are.
"""

from __future__ import annotations

import argparse

from ..arguments import Parser, UsageError
from ..terminal import Terminal
from . import builtin, corpus, evaluate, export, model, prepare, tokenizer

NAME = "train"
SUMMARY = "make a model of your own stories / 用自己的故事训练模型"

_STEPS = (corpus, tokenizer, prepare, model, export, evaluate, builtin)


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", parser_class=Parser)
    for step in _STEPS:
        child = steps.add_parser(step.NAME, help=step.SUMMARY, description=step.SUMMARY)
        step.add(child)
        child.set_defaults(train_step=step.run)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs one step."""
    if args.step is None:
        names = ", ".join(step.NAME for step in _STEPS)
        raise UsageError(f"no step given: {names} (tinyzh train --help tells more)")
    from ...train.extra import missing_named

    with missing_named():
        args.train_step(args, terminal)
