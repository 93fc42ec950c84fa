"""`mdm --print-completion SHELL`: a script that completes verbs, options and choices."""

from __future__ import annotations

from typing import Annotated, Any, Union

import tyro

from mdm_jax.cli.main import VERBS, load_verb
from mdm_jax.cli.parse import REGISTRY
from mdm_jax.errors import unknown

SHELLS = ("bash", "zsh", "fish", "tcsh")


def print_completion(shell: str) -> None:
    """Print the script. Raises InputError for a shell that is not known."""
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS)
    verbs: list[Any] = []
    for name in VERBS:
        if " " not in name:  # tyro has no verb below another that does something itself
            verb = load_verb(name)
            verbs.append(Annotated[verb, tyro.conf.subcommand(name, default=verb())])
    command: Any = Union[tuple(verbs)]  # noqa: UP007 (of as many as there are)
    tyro.cli(
        command,
        prog="mdm",
        args=["--tyro-print-completion", shell],
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=REGISTRY,
    )
