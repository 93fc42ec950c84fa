"""The program `mdm`: its verbs, imported when they are asked for, and errors as exit codes."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from mdm_jax.cli import compile_cache, signals, streams
from mdm_jax.cli.event_log import EventLog
from mdm_jax.errors import InputError, unknown
from mdm_jax.version import __version__


class Verb(NamedTuple):
    """A verb: what it does, and where."""

    summary: str
    module: str
    """of this package"""
    command: str
    """the class of its options, whose `run(terminal)` is its body"""


# By its words; only the one that is asked for is imported.
VERBS = {
    "demo": Verb("explain test digits with an embedded network", "demo", "DemoCommand"),
    "explain": Verb("explain image files", "explain", "ExplainCommand"),
    "view": Verb("explain one image by hand, on a local page", "view", "ViewCommand"),
    "evaluate": Verb("score saved maps on labeled images", "evaluate", "EvaluateCommand"),
    "benchmark": Verb(
        "compare methods on networks and images", "benchmark", "BenchmarkCommand"
    ),
    "train": Verb("train a classifier as a TOML file says", "train", "TrainCommand"),
    "run": Verb("explain a whole data set, resumably", "run", "RunCommand"),
    "run status": Verb("say how far a run is", "run_status", "RunStatusCommand"),
    "run verify": Verb(
        "find and repair damaged parts of a run", "run_status", "RunVerifyCommand"
    ),
    "report": Verb("write a web page of one run or several", "report", "ReportCommand"),
    "prototypes": Verb(
        "show a network's prototypes and decisions", "prototypes", "PrototypesCommand"
    ),
    "sweep": Verb("try many settings of MDM, keep the best", "sweep", "SweepCommand"),
}

USAGE = """usage: mdm VERB [OPTIONS]

Saliency maps for image classifiers by Multiple Dynamic Masks.

{verbs}

mdm VERB --help lists the options of a verb, with examples.
mdm --version prints the version.
mdm --print-completion SHELL prints a script for bash, zsh, fish or tcsh.
"""
UNUSABLE_INPUT = 2
UNWRITABLE_OUTPUT = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done. 1: the output cannot be written, or nobody reads it any more. 2: input that cannot be
    used. 3: images that could not be read or explained (`mdm explain`, `mdm run --strict`), methods
    that could not explain (`mdm explain`), or faults of a run (`mdm run verify`). 4: a share of a
    run that is not whole. 130: interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    with streams.guarded():
        return _guarded(words)


def program() -> NoReturn:
    """Run the command line and end the process with its exit code.

    Interrupted, it ends at once: XLA's threads may still be computing, and to take Python down
    under them ends in a segmentation fault.
    """
    with signals.ended_when_asked():
        _keep_programs(sys.argv[1:])
        code = main()
        if code == INTERRUPTED:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(INTERRUPTED)
    sys.exit(code)


def _keep_programs(words: list[str]) -> None:
    """Let JAX keep compiled programs where a verb may need some."""
    asks_for_help = "--help" in words or "-h" in words
    if not words or words[0] not in VERBS or asks_for_help:
        return
    news = compile_cache.enable(os.environ)
    if news:
        with streams.guarded():
            streams.say(news)


def _guarded(words: list[str]) -> int:
    """Run the command line; every error of it as an exit code."""
    said: set[str] = set()
    log = EventLog()

    def show_once(message: Warning | str, *_: Any, **__: Any) -> None:
        # The same is warned of wherever a data set is opened or asked for its classes.
        sentence = compile_cache.in_plain_words(str(message))
        if sentence not in said:
            said.add(sentence)
            log.say(sentence, "warning")

    warnings.showwarning = show_once
    options: set[str] = set()
    code = UNWRITABLE_OUTPUT
    try:
        code = _run(words, options, log)
        sys.stdout.flush()
    except InputError as error:
        # The library names settings; whoever typed words needs the option.
        hint = ""
        if error.setting in options:
            hint = f" (option --{error.setting.replace('_', '-')})"
        log.say(f"{error}{hint}", "error")
        code = UNUSABLE_INPUT
    except KeyboardInterrupt as interrupt:
        log.say(str(interrupt) or "interrupted", "error")
        code = INTERRUPTED
    except streams.Unwritable as unwritable:
        streams.silence(sys.stdout)
        # Whoever reads the output, such as head, may go when it has enough.
        if not isinstance(unwritable.__cause__, BrokenPipeError):
            reason = getattr(unwritable.__cause__, "strerror", None)
            log.say(f"the output cannot be written ({reason}): make room for it", "error")
        code = UNWRITABLE_OUTPUT
    finally:
        log.end(code)
    return code


def _run(words: list[str], known: set[str], log: EventLog) -> int:
    """Run the verb; `known` takes the names of its options."""
    if not words:
        print(_usage(), file=sys.stderr, end="")
        return UNUSABLE_INPUT
    if words[0] in ("-h", "--help"):
        print(_usage(), end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] == "--print-completion":
        from mdm_jax.cli.completion import print_completion

        print_completion(words[1] if len(words) > 1 else "")
        return 0
    name, rest = _split(words)
    command = load_verb(name)
    known.update(each.name for each in dataclasses.fields(command))
    # Imported here: rich and tyro need not be there for a list of verbs.
    from mdm_jax import plugins
    from mdm_jax.cli.console import Terminal
    from mdm_jax.cli.parse import parse
    from mdm_jax.data.open_source import KINDS
    from mdm_jax.execution.jax_settings import own_settings

    # A data source, such as folder:photos, is written as code is.
    words = [word for word in rest if word.partition(":")[0] not in KINDS]
    with plugins.only_named(words), own_settings():
        options = parse(command, f"mdm {name}", rest)
        if options.log_json is not None:
            log.open(options.log_json, name)
        terminal = Terminal(options.json, log)
        result = options.run(terminal)
        terminal.show(result, options)
    return result.exit_code


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return USAGE.format(verbs="\n".join(lines))


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The verb, of one word or two, and what follows it. Raises InputError for another verb."""
    two = " ".join(words[:2])
    if two in VERBS:
        return two, words[2:]
    if words[0] not in VERBS:
        raise unknown("command", words[0], VERBS)
    return words[0], words[1:]


def load_verb(name: str) -> Any:
    """The class of a verb's options."""
    module = import_module(f"mdm_jax.cli.{VERBS[name].module}")
    return getattr(module, VERBS[name].command)


if __name__ == "__main__":
    sys.exit(main())
