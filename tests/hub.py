"""A server as bad as the worst of lines: it cuts, lies, stalls and sends other files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save

from app.catalog import Entry, File, Source
from app.fetching import Patience

HURRY = Patience(tries=4, pause=0.01, connect=2, silence=0.4, window=0.3, stale=5)
CONTENT = save({"x": torch.arange(60_000.0)})  # 240 KB of safetensors
HASH = sha256(CONTENT).hexdigest()

Fault = Callable[["Request", "Server"], None]


class Request(BaseHTTPRequestHandler):
    """One question to the server; by default answered honestly, Range and all."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the fault that is due, or honestly."""
        shop = self.server
        shop.asked.append((self.path, self.headers.get("Range", "")))
        fault = shop.faults.pop(0) if shop.faults else shop.always
        fault(self, shop)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def head(self, status: int, length: int, **headers: str) -> None:
        """Send status and headers."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def hang_up(self) -> None:
        """Close the line in the middle."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


class Server(ThreadingHTTPServer):
    """A server on this machine that has one file and a list of faults to commit."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content = CONTENT
        self.tag = '"one"'
        self.faults: list[Fault] = []
        self.always: Fault = honest
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.safetensors"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


def honest(request: Request, server: Server, *, upto: int | None = None) -> None:
    wanted, _, tag = request.headers.get("Range", ""), None, request.headers.get("If-Range")
    first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and tag == server.tag else 0
    whole = len(server.content)
    span = {"Content_Range": f"bytes {first}-{whole - 1}/{whole}"} if first else {}
    request.head(206 if first else 200, whole - first, ETag=server.tag, **span)
    request.wfile.write(server.content[first:upto])


def cut(at: int) -> Fault:
    """Hang up after so many bytes of the file."""

    def fault(request: Request, server: Server) -> None:
        honest(request, server, upto=at)
        request.hang_up()

    return fault


def status(code: int) -> Fault:
    return lambda request, server: request.head(code, 0)


def deaf(request: Request, server: Server) -> None:
    """Ignore the wish for a part: send everything."""
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content)


def deaf_and_cut(request: Request, server: Server) -> None:
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content[:1000])
    request.hang_up()


def wrong_part(request: Request, server: Server) -> None:
    """Answer a wish for a part with another part."""
    whole = len(server.content)
    request.head(206, 10, ETag=server.tag, Content_Range=f"bytes 5-14/{whole}")
    request.wfile.write(server.content[5:15])


def promise(length: int) -> Fault:
    """Announce another length than the file has, and send the file."""

    def fault(request: Request, server: Server) -> None:
        request.head(200, length)
        request.wfile.write(server.content[:length])
        request.hang_up()

    return fault


def page(request: Request, server: Server) -> None:
    text = b"<html>Please log in</html>"
    request.head(200, len(text), Content_Type="text/html; charset=utf-8")
    request.wfile.write(text)


def disguised_page(request: Request, server: Server) -> None:
    text = b"<html>Please log in</html>"
    request.head(200, len(text), Content_Type="application/octet-stream")
    request.wfile.write(text)


def loop(request: Request, server: Server) -> None:
    request.head(302, 0, Location=f"{server.address}?again")


def elsewhere(request: Request, server: Server) -> None:
    request.head(302, 0, Location="file:///etc/passwd")


def stall(request: Request, server: Server) -> None:
    """Say a little and then nothing."""
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content[:500])
    request.wfile.flush()
    time.sleep(1.0)
    request.hang_up()


def drip(request: Request, server: Server) -> None:
    """A few bytes at a time, so that it is never quite silent."""
    request.head(200, len(server.content), ETag=server.tag)
    with contextlib.suppress(OSError):
        for at in range(0, 200, 10):
            request.wfile.write(server.content[at : at + 10])
            request.wfile.flush()
            time.sleep(0.05)
    request.hang_up()


def spoilt(request: Request, server: Server) -> None:
    """The right length, and one wrong byte."""
    content = bytearray(server.content)
    content[len(content) // 2] ^= 1
    request.head(200, len(content), ETag=server.tag)
    request.wfile.write(content)


def endless(request: Request, server: Server) -> None:
    """No length, and more and more."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(3):
            request.wfile.write(server.content)
    request.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    shop = Server()
    thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shop
    finally:
        shop.shutdown()
        thread.join()
        shop.server_close()


def known(server: Server, **changes: Any) -> File:
    """The file as a row that knows all about it would describe it."""
    described: dict[str, Any] = {"bytes": len(CONTENT), "sha256": HASH, **changes}
    return File("model.safetensors", (Source(server.address),), "safetensors", **described)


def unknown(server: Server) -> File:
    return known(server, bytes=None, sha256=None)


def only(target: Path, *names: str) -> bool:
    """Nothing lies about but these."""
    return sorted(path.name for path in target.parent.iterdir()) == sorted(names)


def old_checkpoint(tiny_vqgan: Path, server: Server) -> Entry:
    """A row that nobody checked, for a small VQGAN that the server holds as people used to."""
    weights = load_file(tiny_vqgan / "model.safetensors")
    server.content = checkpoint({**weights, "loss.x": torch.randn(3)}, tiny_vqgan.parent)
    return Entry(
        "tiny",
        "generator",
        "vqgan",
        licence="MIT",
        files=(File("model.safetensors", (Source(server.address),), "ckpt"),),
        network=yaml.safe_load((tiny_vqgan / "config.yaml").read_text()),
        verified=False,
        note="small & <b>new</b>",
    )


def checkpoint(weights: dict[str, torch.Tensor], folder: Path) -> bytes:
    path = folder / f"served-{time.monotonic_ns()}.ckpt"
    torch.save({"state_dict": weights}, path)
    content = path.read_bytes()
    path.unlink()
    return content
