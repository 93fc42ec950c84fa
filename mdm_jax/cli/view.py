"""`mdm view`: explain one photograph by hand, on a page of this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mdm_jax import images, nodes
from mdm_jax.cli import signals, streams
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.explain import ExplainCommand
from mdm_jax.cli.options import MethodOptions, positional
from mdm_jax.cli.output_config import write_config
from mdm_jax.config_files import build
from mdm_jax.errors import InputError
from mdm_jax.methods import MethodSpec
from mdm_jax.models.spec import ModelSpec
from mdm_jax.storage.atomic import check_writable
from mdm_jax.views.live.look import Look
from mdm_jax.views.live.stepwise import class_probabilities


@dataclass(frozen=True, kw_only=True)
class ViewCommand(ModelSpec, MethodOptions):
    """Explain one image by hand, on a page of this machine.

    Choose class, method, preset, fill and area on the page, and watch the masks learn. Its button
    Save calls `mdm explain` with the same choices, which writes into OUT. No other machine can open
    the page, and it asks nothing of the net. Ctrl-C ends it. It needs the extra `view`:
    pip install 'mdm_jax[view]'.

    Examples:
      mdm view photo.jpg --model resnet50 --weights timm/resnet50.tv_in1k
      mdm view photo.jpg --model vit_base_patch16_224 --open
      mdm view photo.jpg --method rise:num_samples=500 --port 8080
    """

    photo: Annotated[tyro.conf.Positional[Path | None], positional("PHOTO")] = None
    """image file: JPEG, PNG, WebP, TIFF, GIF ..."""
    port: int = 5006
    """port of the page; 0 for any that is free"""
    open: bool = False
    """open the page in the browser"""
    out: Path = Path("mdm-explain")
    """folder for what is saved"""

    def run(self, terminal: Terminal) -> Result:
        """Serve the page until asked to stop."""
        look = self._look(terminal)
        # Imported here: Panel need not be there for any other verb, nor for its help.
        from mdm_jax.views.live.page import make_server

        with make_server(look, self.port) as (server, address):
            streams.say(f"the page is at {address} until Ctrl-C")
            if self.open:
                webbrowser.open(address)
            with signals.interrupts(
                lambda: _stop(server, look), "ended while something was computed"
            ):
                server.io_loop.start()
            # what is computed ends before Python does, or XLA would end in a segmentation fault
            look.worker.shutdown(cancel_futures=True)
        return Result([], "the page has ended", [])

    def _look(self, terminal: Terminal) -> Look:
        """What the page is about. Raises InputError before anything is loaded where it can."""
        if self.photo is None:
            raise InputError("no photograph: give one, for example mdm view photo.jpg")
        if importlib.util.find_spec("panel") is None:
            raise InputError(
                "the page needs a library that is not installed: pip install 'mdm_jax[view]'"
            )
        spec = MethodSpec(method=self.method, preset=self.preset, mdm=self.mdm)
        method = spec.resolve()
        node = method.default_node if self.node is None else self.node
        if isinstance(nodes.resolve(node), nodes.Entry):
            raise InputError(
                f"the page explains classes, and the node {node} has none: use mdm explain"
            )
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is {self.port}: give 0 to 65535")
        photograph = images.read(self.photo)
        check_writable(self.out)
        if self.model is None and self.weights is None:
            streams.say(
                "no network was named, so the embedded one answers, which knows digits only: name"
                " yours by --model or --weights"
            )
        classifier = self.load()
        image = classifier.preprocess(photograph)

        def save(spec: MethodSpec, target: int) -> list[str]:
            return self._save(terminal, spec, target)

        return Look(
            name=self.photo.name,
            image=image,
            classifier=classifier,
            probabilities=np.asarray(class_probabilities(classifier, image)),
            spec=spec,
            node=self.node,
            seed=self.seed,
            save=save,
        )

    def _save(self, terminal: Terminal, spec: MethodSpec, target: int) -> list[str]:
        """Explain the same by `mdm explain`; the files that it writes."""
        options = self.as_explain(spec, target)
        result = options.run(terminal)
        return [*result.files, str(write_config(options, self.out))]

    def as_explain(self, spec: MethodSpec, target: int) -> ExplainCommand:
        """The options of `mdm explain` that say what was chosen on the page."""
        shared = {each.name for each in dataclasses.fields(ExplainCommand)}
        settings: Mapping[str, Any] = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name in shared
        }
        options = dataclasses.replace(
            ExplainCommand(), **{**settings, "method": ExplainCommand().method}
        )
        assert self.photo is not None
        options = dataclasses.replace(
            options, files=(self.photo,), target=target, preset=spec.preset, mdm=spec.mdm
        )
        # As a file says it: the one place that knows in which form methods are given.
        return build(ExplainCommand, {"method": spec.method}, base=options)


def _stop(server: Any, look: Look) -> None:
    """Ask the server to stop; called by a signal."""
    look.stopping.set()
    if look.busy.locked():
        streams.say("stopping after this step; Ctrl-C again ends it at once")
    server.io_loop.add_callback_from_signal(server.io_loop.stop)
