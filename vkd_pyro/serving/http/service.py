"""The application: which request is answered by what."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from vkd_pyro import __version__
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.prediction.queries import parse
from vkd_pyro.prediction.tables import provenance
from vkd_pyro.serving.http import answers
from vkd_pyro.serving.http.batching import Batcher
from vkd_pyro.serving.http.guard import Access, Guard, busy
from vkd_pyro.serving.http.limits import Limits
from vkd_pyro.serving.http.monitoring import Monitoring
from vkd_pyro.serving.http.schemas import EXAMPLE, Error, HeatMaps, ModelInfo, Predictions
from vkd_pyro.serving.http.uploads import Uploads, stored
from vkd_pyro.serving.http.work import Draw, Drawn, Engine, Predict, Said, TooLarge
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.text import printable

PAGE = Path(__file__).parent / "page"
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "a token is needed"},
    413: {"model": Error, "description": "more bytes or pixels than a request may have"},
    422: {"model": Error, "description": "nothing in it could be read, or an argument is wrong"},
    503: {"model": Error, "description": "busy, or stopping; the header Retry-After says in how many seconds"},
}
Images = Annotated[list[UploadFile], File(description="PNG, JPEG or DICOM files")]
Image = Annotated[UploadFile, File(description="a PNG, JPEG or DICOM file")]


class Service:
    """A model, what computes with it, and what it is asked.

    Args:
        bundle: the model, or an export of it.
        uncertainty, level: of predictions, see `predict_files`.
        limits: of requests.
        access: who may ask.
        network: the bundle that an export was made of, for heat maps; None where `bundle` is one, or there is none.

    Raises:
        UserError: the network is not that of the export.
    """

    def __init__(
        self,
        bundle: Predictor,
        uncertainty: UncertaintySources | None = None,
        level: float = 0.95,
        limits: Limits | None = None,
        access: Access | None = None,
        network: Predictor | None = None,
    ) -> None:
        if network is not None and network.bundle_hash != bundle.bundle_hash:
            found = f"made of bundle {bundle.bundle_hash[:12]}, and the bundle is {network.bundle_hash[:12]}"
            raise UserError(f"--export: {found}; export the bundle again, or give --engine torch")
        _quiet()
        self.bundle, self.limits, self.level = bundle, limits or Limits(), level
        self.uncertainty = uncertainty or UncertaintySources()
        self.engine = Engine(bundle, self.uncertainty, level, self.limits, network)
        self.monitoring = Monitoring()
        self.batcher = self._new_batcher()
        self.made_by = provenance([bundle.bundle_hash], self.uncertainty, level)
        self.info = answers.model_info(self.engine, __version__)
        self.app = self._app(access or Access())
        self.spool = Path()

    def _new_batcher(self) -> Batcher:
        return Batcher(self.engine, self.limits.queue, self.limits.batch_size, self.monitoring.batches.observe)

    def _app(self, access: Access) -> FastAPI:
        app = FastAPI(
            title="vkd_pyro",
            version=__version__,
            description="Findings of chest X-rays, with how sure that is. For research; not a medical device.",
            docs_url=None,  # its scripts come from another site
            redoc_url=None,
            lifespan=self._lifespan,
        )
        app.include_router(self._router())
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(UserError, _user_error)
        app.mount("/", StaticFiles(directory=PAGE, html=True))
        app.add_middleware(
            Guard,
            access=access,
            limits=self.limits,
            batcher=lambda: self.batcher,
            monitoring=self.monitoring,
        )
        return app

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        with TemporaryDirectory(prefix="vkd-serve-") as spool:
            self.spool = Path(spool)
            self.batcher = self._new_batcher()
            self.batcher.start()
            yield
            await self.batcher.stop()

    def _router(self) -> APIRouter:
        router = APIRouter()
        example = {"content": {"application/json": {"example": EXAMPLE}}}
        router.add_api_route(
            "/v1/predictions",
            self.predictions,
            methods=["POST"],
            responses={200: {"model": Predictions, **example}, **ERRORS},
        )
        router.add_api_route(
            "/v1/heatmaps", self.heat_maps, methods=["POST"], responses={200: {"model": HeatMaps}, **ERRORS}
        )
        png = {"content": {"image/png": {}}, "description": "gray, upright, as the model reads it before it is resized"}
        router.add_api_route(
            "/v1/previews", self.previews, methods=["POST"], responses={200: png, **ERRORS}, response_class=Response
        )
        router.add_api_route("/v1/model", self.model, methods=["GET"], responses={200: {"model": ModelInfo}})
        router.add_api_route("/health/live", self.live, methods=["GET"])
        router.add_api_route("/health/ready", self.ready, methods=["GET"])
        router.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=Response)
        return router

    # ------------------------------------------------------------------------------------- what is asked

    async def predictions(
        self,
        images: Images,
        study: Annotated[bool, Form(description="whether the images are one study, judged together")] = False,
        on_mismatch: Annotated[
            Literal["error", "warn"],
            Form(description="where a header says that it is no chest X-ray of a known view, or nothing is to be seen"),
        ] = "error",
        query: Annotated[
            list[str] | None, Form(description="about several findings at once, e.g. 'Pleural Effusion & ~Edema'")
        ] = None,
    ) -> JSONResponse:
        """Findings of images, or of a study: probability, interval, threshold, answer, uncertainty."""
        queries = tuple(query or ())
        self._check(images, queries)
        async with self._stored(images) as uploads:
            said: Said = await self._computed(Predict(uploads.paths, study, on_mismatch, queries))
            self._count(said)
            content = answers.predictions(said, uploads, self.made_by)
            return JSONResponse(content, 200 if said.predictions else 422)

    async def heat_maps(
        self, image: Image, finding: Annotated[list[str], Form(description="its name; several are as good")]
    ) -> JSONResponse:
        """Where in an image findings are seen: Grad-CAM, averaged over draws of z."""
        if self.engine.no_heat_maps:
            raise HTTPException(404, self.engine.no_heat_maps)
        wanted = tuple(dict.fromkeys(finding))
        if unknown := [name for name in wanted if name not in self.bundle.findings]:
            raise UserError(f"finding: found {unknown[0][:60]!r}, expected of {', '.join(self.bundle.findings)}")
        async with self._stored([image]) as uploads:
            drawn: Drawn = await self._computed(Draw(uploads.paths, wanted), uploads)
            maps = [
                {"finding": name, "png": base64.b64encode(file).decode()}
                for name, file in zip(wanted, drawn.files, strict=True)
            ]
            return JSONResponse({"image": uploads.names[0], "cells": self.engine.resolution, "maps": maps})

    async def previews(self, image: Image) -> Response:
        """An image as the model reads it, of at most 1536 pixels a side: browsers show no DICOM files."""
        async with self._stored([image]) as uploads:
            drawn: Drawn = await self._computed(Draw(uploads.paths), uploads)
            return Response(drawn.files[0], media_type="image/png")

    async def model(self) -> JSONResponse:
        """The model: card, findings, hashes, thresholds; and what a request may have."""
        return JSONResponse(self.info)

    async def live(self) -> JSONResponse:
        """Whether the process answers."""
        return JSONResponse({"status": "live"})

    async def ready(self) -> JSONResponse:
        """Whether images would be predicted: 503 where not."""
        ready = self.batcher.is_ready
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def metrics(self) -> Response:
        """For Prometheus."""
        return Response(self.monitoring.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # ---------------------------------------------------------------------------------- how it is answered

    def _check(self, images: list[UploadFile], queries: tuple[str, ...]) -> None:
        if len(images) > self.limits.max_images:
            raise UserError(f"images: found {len(images):,}, expected at most {self.limits.max_images} a request")
        if len(queries) > self.limits.max_queries:
            raise UserError(f"query: found {len(queries):,}, expected at most {self.limits.max_queries} a request")
        for query in queries:
            parse(query, self.bundle.findings)

    @asynccontextmanager
    async def _stored(self, images: list[UploadFile]) -> AsyncIterator[Uploads]:
        files = stored(images, self.spool)
        uploads = await run_in_threadpool(files.__enter__)
        try:
            with _told_without_paths(uploads):
                yield uploads
        finally:
            await run_in_threadpool(files.__exit__, None, None, None)

    async def _computed(self, job: Predict | Draw, uploads: Uploads | None = None) -> Any:
        """The answer to a job, in time."""
        waiting: Awaitable[Any] = self.batcher.submit(job)
        try:
            return await asyncio.wait_for(waiting, self.limits.answer_seconds)
        except TimeoutError:
            raise busy() from None

    def _count(self, said: Said) -> None:
        self.monitoring.images.labels("predicted").inc(sum(len(one.images) for one in said.predictions))
        self.monitoring.images.labels("not read").inc(len(said.problems))
        self.monitoring.flagged.inc(sum(bool(one.flagged) for one in said.predictions))


def _quiet() -> None:
    """Libraries that log what they read, such as EXIF's values and bytes of a form that is none, log no more."""
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _told_without_paths(uploads: Uploads) -> Any:
    try:
        yield
    except UserError as error:
        raise type(error)(uploads.cleaned(error)) from None


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": printable(error.detail)}, error.status_code, error.headers)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": printable(error)}, 413 if isinstance(error, TooLarge) else 422)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Which field is wrong, and how; not what was found, which may be anything."""
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()[:3])
    return JSONResponse({"error": printable(wrong)[:300]}, 422)
