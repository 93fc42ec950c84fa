"""The page itself, by Panel: what is chosen on the left, what is learned on the right.

This module and `controls` alone need the extra `view`. All pictures are in the page, scripts and
styles come from this server, and nothing is asked of any other."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import panel as pn

from mdm_jax.errors import InputError, reason_of
from mdm_jax.methods import ConfiguredMethod, MethodSpec
from mdm_jax.types import Explanation
from mdm_jax.views.live import markup, pictures
from mdm_jax.views.live.controls import COMMON, Controls, read_style
from mdm_jax.views.live.look import Look
from mdm_jax.views.live.stepwise import Progress, Question, Steps, solve

# Of this machine alone: no other can open the page.
ADDRESS = "127.0.0.1"

# Times that the masks are drawn while they learn, at most: drawing takes time too.
MOST_DRAWN = 30
CAPTIONS = {
    "photograph": "what the network sees",
    "masks": "the learned masks, coarse ones first",
    "kept": "what the mask keeps",
    "saliency": "the map",
}


class Page:
    """The page of one visitor."""

    def __init__(self, look: Look):
        self.look = look
        self.answer: tuple[MethodSpec, int] | None = None
        self.is_stopped = False
        self.controls = Controls(look)
        self.run = pn.widgets.Button(name="Run", button_type="primary", **COMMON)
        self.stop = pn.widgets.Button(name="Stop", disabled=True, **COMMON)
        self.keep = pn.widgets.Button(name="Save", disabled=True, **COMMON)
        self.run.on_click(self._run)
        self.stop.on_click(self._stop)
        self.keep.on_click(self._save)
        self.bar = pn.indicators.Progress(value=0, max=100, **COMMON)
        self.note = pn.pane.HTML(markup.line("Choose, then press Run."), **COMMON)
        self.facts = pn.pane.HTML("", **COMMON)
        self.figures = {
            name: pn.pane.HTML(markup.figure(None, caption), **COMMON)
            for name, caption in CAPTIONS.items()
        }
        photograph = pictures.photograph(look.image)
        self.figures["photograph"].object = markup.figure(
            photograph, CAPTIONS["photograph"]
        )

    def layout(self) -> pn.viewable.Viewable:
        """The choices beside the pictures, or above them where there is no room."""
        title = markup.heading(self.look.name, f"network {self.look.classifier.name}")
        left = pn.Column(
            pn.pane.HTML(title, **COMMON),
            *self.controls.widgets(),
            pn.Row(self.run, self.stop, self.keep, sizing_mode="stretch_width"),
            self.bar,
            self.note,
            styles={"flex": "1 1 280px", "max-width": "420px", "min-width": "0"},
        )
        small = {"flex": "1 1 200px", "max-width": "420px", "min-width": "0"}
        beside = [
            pn.Column(self.figures[name], styles=small)
            for name in ("photograph", "kept", "saliency")
        ]
        right = pn.Column(
            pn.FlexBox(*beside, gap="12px", sizing_mode="stretch_width"),
            self.figures["masks"],
            self.facts,
            styles={"flex": "3 1 300px", "max-width": "1100px", "min-width": "0"},
        )
        return pn.FlexBox(
            left,
            right,
            gap="24px",
            sizing_mode="stretch_width",
            styles={"padding": "12px"},
        )

    def leave(self, *_: Any) -> None:
        """The visitor has gone: nothing more is computed for them."""
        self.is_stopped = True

    async def _run(self, *_: Any) -> None:
        if not self._begin():
            return
        self.stop.disabled = False
        self.is_stopped, self.answer = False, None
        self.facts.object = ""
        self.figures["saliency"].object = markup.figure(None, CAPTIONS["saliency"])
        try:
            await self._solve(self.controls.spec(), self.controls.target())
        except InputError as error:
            self._say(str(error), True)
        except Exception as error:  # a network or a method of yours may raise anything
            self._say(f"this did not work ({reason_of(error)}): choose otherwise", True)
        finally:
            self._end()

    async def _solve(self, spec: MethodSpec, target: int) -> None:
        """Draw what is learned as it comes."""
        look, method = self.look, spec.resolve()
        node = method.default_node if look.node is None else look.node
        began = time.perf_counter()
        question = Question(look.classifier, look.image, look.name, target, node, look.seed)
        every = _steps_between(method)
        self.bar.active = True
        self._say(
            "Compiling and starting; the first time for a choice takes longest."
            if method.name == "mdm"
            else f"{method.label} is computed in one piece, and Stop has to wait for it."
        )
        found = solve(question, method, every)
        while (state := await self._next(found)) is not None:
            if self.is_stopped or look.stopping.is_set():
                found.close()
                self._say("Stopped.")
                return
            if isinstance(state, Progress):
                self._draw(pictures.of_progress(look.image, state))
                self.bar.active = False
                self.bar.value = round(100 * state.step / state.steps)
                self._say(pictures.describe_progress(state))
                continue
            self._draw(pictures.of_explanation(look.image, state))
            class_name = look.classifier.class_names[target]
            seconds = time.perf_counter() - began
            self.facts.object = markup.table(
                pictures.describe(state, class_name, node, method.label, seconds)
            )
            self.answer = (spec, target)
            self._say("Done.")

    async def _next(self, found: Steps) -> Progress | Explanation | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.look.worker, next, found, None)

    def _draw(self, drawn: pictures.Pictures) -> None:
        for name, picture in drawn._asdict().items():
            caption = CAPTIONS[name]
            if name == "masks" and picture is None and drawn.saliency is not None:
                caption = "this method learns no masks"
            self.figures[name].object = markup.figure(picture, caption)

    def _stop(self, *_: Any) -> None:
        self.is_stopped = True
        self._say("Stopping after this step.")

    async def _save(self, *_: Any) -> None:
        look, answer = self.look, self.answer
        if answer is None or not self._begin():
            return
        self._say("Explaining by mdm explain, and saving.")
        self.bar.active = True
        loop = asyncio.get_running_loop()
        try:
            files = await loop.run_in_executor(look.worker, look.save, *answer)
        except (InputError, OSError) as error:
            self._say(f"not saved: {error}", True)
        else:
            self._say(f"Saved: {', '.join(files)}")
        finally:
            self._end()

    def _begin(self) -> bool:
        """Whether nothing else is computed; then this page is the one that computes."""
        if not self.look.busy.acquire(blocking=False):
            self._say("Another tab is computing: wait for it, or press Stop there.", True)
            return False
        self.run.disabled = self.keep.disabled = True
        return True

    def _end(self) -> None:
        self.look.busy.release()
        self.run.disabled, self.stop.disabled = False, True
        self.keep.disabled = self.answer is None
        self.bar.active, self.bar.value = False, 0

    def _say(self, sentence: str, is_warning: bool = False) -> None:
        self.note.object = markup.line(sentence, is_warning=is_warning)


@contextmanager
def make_server(look: Look, port: int) -> Iterator[tuple[Any, str]]:
    """A server of the page, bound to this machine alone, and the page's address.

    Its `io_loop` is the caller's to start and stop. Raises InputError where the port is taken."""
    port = _usable_port(port)
    pn.extension(raw_css=[read_style("page.css")])

    def open_page() -> pn.viewable.Viewable:
        page = Page(look)
        pn.state.on_session_destroyed(page.leave)
        return page.layout()

    handler = signal.getsignal(signal.SIGINT)
    try:
        server = pn.io.server.get_server(
            open_page,
            port=port,
            address=ADDRESS,
            # a page of another site cannot talk to this one
            websocket_origin=[f"{name}:{port}" for name in (ADDRESS, "localhost")],
            title=f"{look.name}: mdm view",
        )
    finally:
        # Panel puts a handler of its own there, and Ctrl-C is the caller's.
        signal.signal(signal.SIGINT, handler)
    server.start()
    try:
        yield server, f"http://{ADDRESS}:{port}"
    finally:
        server.stop()


def _steps_between(method: ConfiguredMethod) -> int:
    """Steps after which the masks are drawn: every one of few, and some of many."""
    config: Any = method.config
    return max(1, -(-getattr(config, "steps", 1) // MOST_DRAWN))


def _usable_port(port: int) -> int:
    """The port, or any free one for 0. Raises InputError where it is taken."""
    with socket.socket() as probe:
        # as the server itself: a port whose last connections are just closing is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"port {port} cannot be had ({error.strerror}): choose another one, or 0 for any"
                " that is free",
                setting="port",
            ) from error
        return int(probe.getsockname()[1])
