"""How the studio is put on the network: the page, the API and the guard before both, by uvicorn.

By default only browsers of this machine reach it. Whatever opens it to others wants a password, or
the word that it is meant for everybody.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api import Api, Json, explain, routes, told_error
from app.errors import Failed, Refused
from app.guard import HERE, Door, Guard
from app.looks import LOOKS
from app.space import Space, passes
from app.tabs import Studio
from app.terminal import tell

# Seconds before the models load, if no visitor comes sooner: importing torch would slow the page.
_HEAD_START = 5
_PORTS = range(7860, 7960)
_HEADERS = 10.0  # seconds in which a request has to say what it wants
_KEEP_ALIVE = 20  # seconds
_SOCKETS = 500  # connections at once
_LEAST_GOODBYE = 0.5  # seconds in which those who ask still hear that we are closing
_GRACE = 1  # seconds for answers that are under way
_LONGEST_GOODBYE = 9.0  # seconds, then we end in any case: what is on the list is safe
_LEAST_PASSWORD = 8  # characters
_SESSIONS = 200  # whose state is kept in memory

_MOUNTED: dict[str, Any] = {
    "max_file_size": "25mb",
    "show_error": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "run_history": False,
}


@dataclass(frozen=True)
class Settings:
    """What the command line and the environment say about serving."""

    port: int | None = None  # None: the first that is free
    address: str = "127.0.0.1"
    names: tuple[str, ...] = ()  # others by which browsers reach us
    login: str = field(default="", repr=False)  # "user:password"
    share: bool = False
    on_space: bool = False
    browser: bool = False  # open it

    @property
    def is_here_alone(self) -> bool:
        """Whether no other machine can reach it."""
        return self.address in HERE and not (self.share or self.names)

    @property
    def door(self) -> Door:
        """Who may come in."""
        listens = self.address not in HERE
        host = platform.node().lower()
        ours = {host, f"{host}.local", self.address} if listens else set()
        names = HERE | ours | {name.lower() for name in self.names}
        return Door(names, addresses=listens, login=self.login, on_space=self.on_space)


# --- the application -------------------------------------------------------------------------


def application(demo: gr.Blocks, studio: Studio, door: Door | None = None) -> Guard:
    """The page at `/`, the API at `/api`, pictures at `/jobs`, and the guard before all of them."""
    api = Api(studio)
    offer(demo, studio, api)
    app = Starlette(
        routes=[Route("/healthz", healthy), *routes(api)],
        exception_handlers={HTTPException: told_error},
        # No other site may read anything here. Gradio would allow some, unless we decide.
        middleware=[Middleware(CORSMiddleware, allow_origins=())],
    )
    guard = Guard(app, door)

    async def ready(request: Request) -> Response:
        missing = await why_not_ready(studio, guard)
        return Json({"ready": not missing, **missing}, 503 if missing else 200)

    app.router.routes.insert(1, Route("/readyz", ready))

    async def visitor(request: Request) -> str | None:
        owner, session = request.state.owner, await _session(request)
        passes.note(owner, request.headers)
        known = session is None or studio.recognise(session, owner)
        return "visitor" if known else None  # the page is told this name

    demo.state_session_capacity = _SESSIONS
    gr.mount_gradio_app(app, demo, "/", auth_dependency=visitor, **_MOUNTED, **LOOKS)
    return guard


async def _session(request: Request) -> str | None:
    """The session that a request of the page speaks for, if it says so."""
    named: Any = request.query_params.get("session_hash")
    kind = request.headers.get("content-type", "").partition(";")[0]
    if named is None and request.method == "POST" and kind == "application/json":
        try:
            sent = await request.json()  # Gradio has read it already
        except ValueError:
            return None
        named = sent.get("session_hash") if isinstance(sent, dict) else None
    return named if isinstance(named, str) else None


async def healthy(request: Request) -> Response:
    """The process lives."""
    return Json({"alive": True})


async def why_not_ready(studio: Studio, guard: Guard) -> dict[str, str]:
    """What keeps an order from being carried out now: nothing, or a code and a sentence.

    Nothing is loaded for the sake of this.
    """
    opened = studio.opened
    if guard.is_closing:
        return _missing("studio.closing", "The studio is closing.")
    if opened is None or not opened.done():
        return _missing("models.loading", "The models are loading.")
    if opened.exception():
        return _missing("studio.failed", "The studio could not be opened. Its terminal says why.")
    worker = opened.result()
    if not worker.warm.done():
        return _missing("models.loading", "The models are loading.")
    if worker.warm.cancelled() or worker.warm.exception():
        return _missing("models.cold", "The models could not be loaded. The terminal says why.")
    if not worker.is_alive:
        return _missing("executor.dead", "Nobody is there who makes pictures. Another one starts.")
    try:
        await asyncio.to_thread(worker.store.release, "nobody")  # writes, and changes nothing
    except (Failed, Refused) as error:
        return _missing(error.code, "The list of jobs cannot be written. The terminal says why.")
    return {}


def _missing(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def offer(demo: gr.Blocks, studio: Studio, api: Api) -> None:
    """Give Gradio's own client `submit`, `status` and `cancel`, and nothing else."""
    for function in demo.fns.values():
        function.api_visibility = "private"

    def complaint(error: Exception) -> gr.Error:
        _, told, _ = explain(error)
        return gr.Error(told["message"], title=told["code"], print_exception=False)

    async def submit(order: dict[str, Any], visitor: gr.Request) -> dict[str, Any]:
        try:
            told, _ = await api.submit(order, studio.owner(visitor.session_hash))
        except Exception as error:
            raise complaint(error) from error
        return told

    async def status(id: str, visitor: gr.Request) -> dict[str, Any]:
        try:
            return await api.status(id, studio.owner(visitor.session_hash))
        except Exception as error:
            raise complaint(error) from error

    async def cancel(id: str, visitor: gr.Request) -> dict[str, Any]:
        try:
            return await api.cancel(id, studio.owner(visitor.session_hash))
        except Exception as error:
            raise complaint(error) from error

    with demo:
        gr.api(submit, api_description="Order a picture, an edit or a picture of a sound.")
        gr.api(status, api_description="How a job stands.")
        gr.api(cancel, api_description="Stop a job.")


# --- the server ------------------------------------------------------------------------------


class _Impatient(H11Protocol):
    """A connection that is closed when a request does not say in time what it wants.

    uvicorn waits for ever while something comes, however slowly.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._mind()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._mind()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _mind(self) -> None:
        cycle = self.cycle
        listening = cycle is None or (cycle.response_complete and not cycle.more_body)
        if not listening:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(_HEADERS, self.transport.close)

    def _forget(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """Serves until somebody asks it to end, by Ctrl-C or SIGTERM; then puts all work away."""

    def __init__(self, guard: Guard, studio: Studio, settings: Settings) -> None:
        """Nothing is opened yet."""
        proxied = settings.on_space or settings.share or bool(settings.names)
        super().__init__(
            uvicorn.Config(
                guard,
                http=_Impatient,
                ws="none",
                lifespan="on",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=proxied,
                forwarded_allow_ips="*" if settings.on_space else "127.0.0.1",
                limit_concurrency=_SOCKETS,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._guard, self._studio, self._settings = guard, studio, settings
        self._leaving: threading.Thread | None = None
        self._loading = threading.Timer(_HEAD_START, studio.worker)
        self._loading.daemon = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if self.started and sockets:
            _announce(self._settings, sockets[0].getsockname()[1])
            self._loading.start()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Somebody wants us to end; the second time they mean now."""
        if self._leaving:
            os._exit(130)
        self._leaving = threading.Thread(target=self._leave, name="goodbye", daemon=True)
        self._leaving.start()

    def _leave(self) -> None:
        """Take no more orders, put away what is being made, end what pages listen to."""
        alarm = threading.Timer(_LONGEST_GOODBYE, os._exit, [0])
        alarm.daemon = True
        alarm.start()
        pause = threading.Timer(_LEAST_GOODBYE, lambda: None)
        pause.start()
        self._guard.close()
        self._loading.cancel()
        self._studio.close()
        pause.join()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open, then the server."""
        self._guard.end()
        await super().shutdown(sockets)


def _announce(settings: Settings, port: int) -> None:
    host = settings.address if settings.address in HERE else "localhost"
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    tell(f"Synesthete is at {address} (Ctrl-C ends it).")
    if settings.address not in HERE and not settings.on_space:
        tell(f"Other machines of this network find it at http://{platform.node()}:{port}/.")
        if settings.login:
            tell("On its way there the password is not encrypted: use a network that you trust.")
    if settings.browser:
        webbrowser.open(address)


def serve(demo: gr.Blocks, studio: Studio) -> None:
    """Do what the command line of `app.py` says, until Ctrl-C."""
    parser = _parser()
    try:
        settings = read(parser.parse_args(), os.environ)
        listener = _listen(settings)
    except (Refused, Failed) as error:
        parser.error(str(error))
    os.environ.pop("SYNESTHETE_AUTH", None)  # no child needs it
    if not settings.is_here_alone:
        os.environ.setdefault("SYNESTHETE_SHARED", "1")  # visitors fetch and delete no models
    guard = application(demo, studio, settings.door)
    if settings.share:
        threading.Thread(target=_share, args=(guard, listener), daemon=True).start()
    Server(guard, studio, settings).run(sockets=[listener])
    sys.stderr.flush()
    os._exit(0)  # all is put away; taking large libraries down took seconds more, and nobody waits


def _listen(settings: Settings) -> socket.socket:
    """A socket at the port that was asked for, or the first that is free. Raises `Failed`."""
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    for port in [settings.port] if settings.port else _PORTS:
        listener = socket.socket(family)
        if os.name == "posix":  # elsewhere it would take a port from somebody
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.address, port))
            listener.listen(socket.SOMAXCONN)
        except (OSError, OverflowError):
            listener.close()
        else:
            listener.setblocking(False)
            return listener
    wanted = f"The port {settings.port} is taken" if settings.port else "No port is free"
    raise Failed("port.taken", f"{wanted}. Choose another with --port.")


def _share(guard: Guard, listener: socket.socket) -> None:
    """Ask Gradio's service for an address in the Internet. Only this reaches out, if asked to."""
    from secrets import token_urlsafe

    from gradio.networking import setup_tunnel

    host, port = listener.getsockname()[:2]
    try:
        address = setup_tunnel(host, port, token_urlsafe(32), None, None)
    except Exception as error:  # whatever happens out there
        tell(f"It could not be shared ({error}). Here it can be used all the same.")
        return
    name = urlsplit(address).hostname
    guard.names.add(name or "")
    tell(f"Everybody reaches it at https://{name}/ for up to a week.")


# --- the command line ------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("app.py", description="Open the studio on this machine.")
    port = os.environ.get("PORT") or os.environ.get("GRADIO_SERVER_PORT")
    parser.add_argument("--port", type=_port, default=port, help="else PORT, else the first free")
    parser.add_argument("--open", action="store_true", help="open it in the browser, too")
    parser.add_argument(
        "--listen",
        nargs="?",
        const="0.0.0.0",
        metavar="ADDRESS",
        help="let other machines of the network in, too; else only this one",
    )
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask for it; better in SYNESTHETE_AUTH, where no list of processes shows it",
    )
    parser.add_argument("--share", action="store_true", help="a public address by Gradio's service")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="another name that browsers use, such as that of a proxy on this machine; repeatable",
    )
    parser.add_argument("--public", action="store_true", help="everybody may come in: I mean it")
    return parser


def _port(typed: str) -> int:
    if not (typed.isdecimal() and 0 < int(typed) < 2**16):
        raise argparse.ArgumentTypeError(f"{typed!r} is no port: use 1 to 65535, like 7860")
    return int(typed)


def read(asked: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """What was asked for. Raises `Refused` where that is not safe, or cannot be."""
    space = Space.told_by(environment)
    on_space = bool(space)
    settings = Settings(
        port=asked.port,
        address=asked.listen or ("0.0.0.0" if on_space else "127.0.0.1"),
        names=(*asked.name, *([space.host] if space.host else [])),
        login=_login(asked.auth or environment.get("SYNESTHETE_AUTH", "")),
        share=asked.share,
        on_space=on_space,
        browser=asked.open,
    )
    is_public = asked.public or on_space  # who sees a Space is decided there
    if settings.share and (on_space or environment.get("SYNESTHETE_OFFLINE")):
        why = "A Space is shared by itself" if on_space else "SYNESTHETE_OFFLINE keeps it here"
        raise Refused("share.useless", f"{why}. Leave out --share.")
    if not (settings.is_here_alone or settings.login or is_public):
        raise Refused(
            "listen.open",
            "Everybody who reaches it could use it. Ask for a password with --auth user:password, "
            "or say with --public that this is what you want.",
        )
    if asked.public and settings.is_here_alone:
        raise Refused(
            "listen.public",
            "--public does nothing alone: only this machine can reach the studio. Add --listen, "
            "--name or --share, or leave it out.",
        )
    return settings


def _login(given: str) -> str:
    """`user:password`. Raises `Refused`, without repeating what was given."""
    user, _, password = given.partition(":")
    if given and not (user and len(password) >= _LEAST_PASSWORD):
        raise Refused(
            "auth.weak",
            f"--auth takes user:password, and a password of at least {_LEAST_PASSWORD} letters.",
        )
    return given
