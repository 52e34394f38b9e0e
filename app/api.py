"""The studio for programs: orders, files and pictures by plain HTTP (see docs/api.md).

    POST /api/files?name=beach.jpg      GET /jobs/<id>/picture.png, preview.jpg, recipe.json
    POST /api/jobs                      GET /api/jobs/<id>       POST /api/jobs/<id>/cancel

Whose things a request is about, `app.guard` has found out before. Another's are as if they did not
exist. An error is one object: code, message (a sentence), field (or null).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from app import orders
from app.catalog import ModelError
from app.errors import Failed, Refused
from app.tabs import Studio
from app.uploads import Uploads

if TYPE_CHECKING:
    from app.jobs import Job
    from app.worker import Worker

Told = dict[str, Any]  # of a job, or of an error

_ID = re.compile("[0-9A-Z]{26}")
_KEY = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_MOST_MESSAGE = 500  # characters
_RECENT = 500  # jobs among which a client_key is looked for
_STATUS = {
    "job.missing": 404,
    "upload.too_big": 413,
    "upload.quota": 429,
    "queue.quota": 429,
    "queue.full": 503,
    "disk.full": 503,
    "jobs.busy": 503,
}
_NOT_YOURS = "There is no such job of yours, or no such picture of it."
_PUZZLED = "Something went wrong that should not have. The terminal of the studio has the details."

log = logging.getLogger(__name__)


class Json(Response):
    """An answer in ASCII, whatever it holds."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Text for the wire."""
        return json.dumps(content, allow_nan=False).encode()


class Api:
    """What programs can do; both ways in, plain HTTP and Gradio's client, come here."""

    def __init__(self, studio: Studio) -> None:
        """Nothing is loaded yet."""
        self._studio = studio
        self._uploads: Uploads | None = None

    async def submit(self, order: Any, owner: str) -> tuple[Told, bool]:
        """Take an order; the job, and whether it is new. Raises what `explain` explains."""
        if not isinstance(order, dict):
            raise Refused("request.json", "An order is an object, like {'prompt': 'a red apple'}.")
        client_key = _client_key(order)
        worker = await self.worker()
        known = await asyncio.to_thread(_known, worker, owner, client_key)
        if known:
            return await self._told(worker, known), False
        rest = {name: value for name, value in order.items() if name != "client_key"}
        kind, typed = await asyncio.to_thread(orders.read, rest, owner, self._files(worker))
        run = await asyncio.to_thread(kind.make, worker, typed, owner, client_key)
        return await self._told(worker, run.job), True

    async def status(self, job_id: str, owner: str) -> Told:
        """How a job stands. Raises `Refused` for one of somebody else."""
        worker = await self.worker()
        return await self._told(worker, await self.job(job_id, owner))

    async def cancel(self, job_id: str, owner: str) -> Told:
        """Stop a job, any number of times; what there is of its picture is kept."""
        worker = await self.worker()
        await self.job(job_id, owner)
        for run in await asyncio.to_thread(worker.runs_of, owner):
            if run.job.id == job_id:
                run.stop.set()
        return await self._told(worker, await asyncio.to_thread(worker.store.cancel, owner, job_id))

    async def job(self, job_id: str, owner: str) -> Job:
        """One of somebody's jobs. Raises `Refused`: always the same for all others."""
        worker = await self.worker()
        missing = Refused("job.missing", _NOT_YOURS)
        if not (_ID.fullmatch(job_id) and owner):
            raise missing
        try:
            job = await asyncio.to_thread(worker.store.job, owner, job_id)
        except Refused:
            raise missing from None
        if job.deleted is not None:
            raise missing
        return job

    async def receive(self, name: str, pieces: Any, owner: str) -> Told:
        """Keep a file that comes in pieces. Raises `Refused`, and `Failed` for a full disk."""
        uploads = self._files(await self.worker())
        incoming = await asyncio.to_thread(uploads.begin, owner, name)
        try:
            async for piece in pieces:
                incoming.write(piece)
            kept = await asyncio.to_thread(incoming.keep)
        except BaseException:
            incoming.drop()
            raise
        return {"id": kept.id, "name": kept.name, "bytes": kept.bytes}

    async def worker(self) -> Worker:
        """Who carries out orders; the first who asks sends for them."""
        return await asyncio.shield(asyncio.wrap_future(self._studio.worker()))

    def _files(self, worker: Worker) -> Uploads:
        if self._uploads is None:
            self._uploads = Uploads(worker.home.root / "uploads")
        return self._uploads

    async def _told(self, worker: Worker, job: Job) -> Told:
        return await asyncio.to_thread(told, worker, job)


def _client_key(order: Told) -> str | None:
    if "client_key" not in order:
        return None
    key = order["client_key"]
    if not (isinstance(key, str) and _KEY.fullmatch(key)):
        said = "client_key: give 1 to 64 letters, digits and . : _ -, new for each order."
        raise Refused("request.client_key", said, "client_key")
    return key


def _known(worker: Worker, owner: str, client_key: str | None) -> Job | None:
    """What was ordered with this key before, so that nothing has to be looked at again."""
    if client_key is None:
        return None
    recent = worker.store.history(owner, limit=_RECENT)
    return next((job for job in recent if job.client_key == client_key), None)


# --- what is said ----------------------------------------------------------------------------


def told(worker: Worker, job: Job) -> Told:
    """What there is to know of a job."""
    from app import desk

    folder = worker.home.run(job.id)
    report = desk.read_report(folder)
    request = report.request if report else desk.request_of(job.request)
    wait = None if job.is_over else worker.store.ahead(job.id)
    here = f"/jobs/{job.id}"
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "title": job.title,
        "step": job.step,
        "steps": job.total or request.steps,
        "wait": wait and {"jobs": wait.jobs, "seconds": round(wait.seconds, 1)},
        "seed": request.seed,
        "notes": list(report.notes) if report else [],
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "error": _trouble(job),
        "picture": f"{here}/picture.png" if picture_of(job) else None,
        "preview": f"{here}/preview.jpg" if desk.preview_path(folder).exists() else None,
        "recipe": f"{here}/recipe.json" if picture_of(job) else None,
    }


def _trouble(job: Job) -> Told | None:
    """Why it failed, or waits."""
    if not job.error_code:
        return None
    return {"code": job.error_code, "message": job.error_text, "field": None}


def picture_of(job: Job) -> Path | None:
    """The picture of a job, if it is where it was saved."""
    paths = [Path(file.path) for file in job.artifacts if file.kind == "picture"]
    there = [path for path in paths if path.is_file()]
    chosen = Path(job.result) if job.result and Path(job.result) in there else None
    return chosen or max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def explain(error: Exception) -> tuple[int, Told, dict[str, str]]:
    """What went wrong, for programs: an HTTP status, the error, headers."""
    headers = {}
    if isinstance(error, Refused):
        status, code, field = _STATUS.get(error.code, 422), error.code, orders.field_of(error)
        if wait := getattr(error, "wait", None):  # `Busy`, which is not imported for this alone
            headers["Retry-After"] = str(max(1, math.ceil(wait)))
    elif isinstance(error, Failed):
        status, code, field = _STATUS.get(error.code, 500), error.code, None
    elif isinstance(error, ModelError):
        status, code, field = 422, "model.missing", None
    else:
        log.error("The studio failed.", exc_info=error)  # a bug of ours
        status, code, field = 500, "studio.failed", None
    if status in (429, 503):
        headers.setdefault("Retry-After", "10")
    message = _PUZZLED if code == "studio.failed" else str(error)[:_MOST_MESSAGE]
    return status, {"code": code, "message": message, "field": field}, headers


# --- plain HTTP ------------------------------------------------------------------------------

Handler = Callable[[Api, Request, str], Awaitable[Response]]


def routes(api: Api) -> list[Route]:
    """All of them, in order; what comes to them in another way is told so, too."""
    table: dict[str, tuple[str, Handler]] = {
        "/api/files": ("POST", _post_file),
        "/api/jobs": ("POST", _post_job),
        "/api/jobs/{id}": ("GET", _get_job),
        "/api/jobs/{id}/cancel": ("POST", _post_cancel),
        "/jobs/{id}/picture.png": ("GET", _get_picture),
        "/jobs/{id}/preview.jpg": ("GET", _get_preview),
        "/jobs/{id}/recipe.json": ("GET", _get_recipe),
        "/api/{rest:path}": ("", _nowhere),
        "/jobs/{rest:path}": ("", _nowhere),
    }
    return [
        Route(path, _answering(api, verb, handler), methods=_VERBS)
        for path, (verb, handler) in table.items()
    ]


_VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def _answering(api: Api, verb: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if verb and request.method not in (verb, "HEAD" if verb == "GET" else verb):
            raise HTTPException(405, headers={"Allow": verb})
        try:
            return await handler(api, request, request.state.owner)
        except HTTPException:
            raise
        except ClientDisconnect:  # or the guard turned them away; nobody hears this
            return Response(status_code=400)
        except Exception as error:
            status, body, headers = explain(error)
            return Json(body, status, headers)

    return answer


async def told_error(request: Request, error: Exception) -> Response:
    """What the router itself has to say, in the form of all our errors."""
    assert isinstance(error, HTTPException)
    code = {404: "path.missing", 405: "path.method"}.get(error.status_code, "request.refused")
    said = f"{request.method} {request.url.path[:100]}: {error.detail}. See docs/api.md."
    body = {"code": code, "message": said, "field": None}
    return Json(body, error.status_code, dict(error.headers or {}))


async def _nowhere(api: Api, request: Request, owner: str) -> Response:
    raise HTTPException(404)


async def _post_file(api: Api, request: Request, owner: str) -> Response:
    if request.headers.get("content-type", "").startswith("multipart/"):
        said = "Send the content of the file itself, as curl --data-binary @FILE does."
        raise Refused("upload.form", said)
    name = request.query_params.get("name", "file")
    return Json(await api.receive(name, request.stream(), owner), 201)


async def _post_job(api: Api, request: Request, owner: str) -> Response:
    told, is_new = await api.submit(_parse(request, await request.body()), owner)
    return Json(told, 202 if is_new else 200, {"Location": f"/api/jobs/{told['id']}"})


def _parse(request: Request, content: bytes) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused("request.json", "Send JSON, and say so: Content-Type: application/json.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("request.json", "That is no JSON that can be read.") from error


async def _get_job(api: Api, request: Request, owner: str) -> Response:
    return Json(await api.status(request.path_params["id"], owner), headers=_PRIVATE)


async def _post_cancel(api: Api, request: Request, owner: str) -> Response:
    return Json(await api.cancel(request.path_params["id"], owner))


_PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}


async def _get_picture(api: Api, request: Request, owner: str) -> Response:
    job = await api.job(request.path_params["id"], owner)
    return _sent(request, await asyncio.to_thread(picture_of, job), "image/png")


async def _get_preview(api: Api, request: Request, owner: str) -> Response:
    from app import desk

    job = await api.job(request.path_params["id"], owner)
    home = (await api.worker()).home
    return _sent(request, desk.preview_path(home.run(job.id)), "image/jpeg")


async def _get_recipe(api: Api, request: Request, owner: str) -> Response:
    from app.images import read_recipe

    path = picture_of(await api.job(request.path_params["id"], owner))
    if path is None:
        raise Refused("job.missing", _NOT_YOURS)
    return Json(await asyncio.to_thread(read_recipe, path), headers=_PRIVATE)


def _sent(request: Request, path: Path | None, kind: str) -> Response:
    """A file of a job; where the visitor has the same already, only that is said."""
    if path is None or not path.is_file():
        raise Refused("job.missing", _NOT_YOURS)
    found = path.stat()
    known = f"{path} {found.st_mtime_ns} {found.st_size}"
    tag = f'"{hashlib.sha256(known.encode()).hexdigest()[:32]}"'
    headers = {**_PRIVATE, "ETag": tag}
    if tag in [piece.strip() for piece in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path,
        headers=headers,
        media_type=kind,
        filename=path.name,
        content_disposition_type="inline",
    )
