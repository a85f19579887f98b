"""The command line ``tinyzh``: one module a command, each with ``add`` (its arguments) and ``run``.

Exit codes: 0 done; 1 something could not be done; 2 the command line is wrong; 130 Ctrl-C;
141 the reader of standard output has gone; 143 SIGTERM, after saving.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from .. import _core
from ..errors import InvalidArgument, TinyzhError
from . import bench, convert, doctor, generate, info, pull, run, score, tokenize, train
from .arguments import Parser, UsageError
from .terminal import Terminal

__all__ = ["main"]

_COMMANDS = (generate, run, score, tokenize, info, pull, convert, bench, train, doctor)

_WELCOME = f"""\
tinyzh {_core.__version__}: small story models, above all Chinese ones / 小故事模型，中文优先

  tinyzh generate 从前                        tell a story / 讲一个故事
  tinyzh generate 从前 --seed 7 --stories 3   three stories, the same every time / 三个可重现的故事

{{commands}}

tinyzh COMMAND --help tells more / 用 tinyzh 命令 --help 查看详情"""


def _welcome() -> str:
    commands = (f"  {c.NAME:<10}{c.SUMMARY}" for c in _COMMANDS)
    return _WELCOME.format(commands="\n".join(commands))


def _parser() -> Parser:
    parser = Parser(prog="tinyzh", add_help=False, usage="tinyzh COMMAND ...")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog="tinyzh", parser_class=Parser
    )
    for command in _COMMANDS:
        child = commands.add_parser(command.NAME, description=command.SUMMARY)
        command.add(child)
        child.set_defaults(run=command.run)
    return parser


def _dispatch(arguments: Sequence[str], terminal: Terminal) -> int:
    if arguments[:1] == [run.NAME] and arguments[1:2] not in (["-h"], ["--help"]):
        run.run(run.parse(arguments[1:]), terminal)
        return 0
    try:
        args = _parser().parse_args(arguments)
    except SystemExit:  # how argparse ends after the --help of a command
        terminal.flush()
        return 0
    if args.version:
        terminal.line(f"tinyzh {_core.__version__} (numerics {_core.numerics_version})")
        return 0
    if args.help or args.command is None:
        terminal.line(_welcome())
        return 0
    args.run(args, terminal)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    terminal = Terminal()

    def failed(message: object, code: int) -> int:
        terminal.end_line()
        terminal.note(f"tinyzh: error: {message}")
        return code

    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv), terminal)
    except KeyboardInterrupt as error:
        terminal.interrupted()
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    except BrokenPipeError:
        _discard_output()
        return 141
    except (UsageError, InvalidArgument) as error:
        return failed(error, 2)
    except TinyzhError as error:
        return failed(error, 1)
    except OSError as error:
        if error.filename is not None:
            return failed(f"{error.filename}: {error.strerror}", 1)
        if error.errno is None:
            return failed(error, 1)
        terminal.line_open = False  # no file was opened: it is standard output, on a full disk say
        _discard_output()
        return failed(f"standard output cannot be written: {error.strerror}", 1)
    except MemoryError:
        return failed("out of memory: close other programs, or take a smaller model or int8", 1)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        return failed(
            f"unexpected {type(error).__name__}: {error}; this is a bug in tinyzh, please report "
            "what `python -X dev -m tinyzh ...` prints",
            1,
        )


def _discard_output() -> None:
    """So that the interpreter does not try once more to write, and complain, when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
