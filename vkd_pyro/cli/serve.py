"""`vkd serve`: a bundle or an export as a service, with a page."""

import ipaddress
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import read_text

if TYPE_CHECKING:
    from vkd_pyro.artifacts.predictor import Predictor
    from vkd_pyro.serving.http.guard import Access

LEAST_TOKEN = 16
"""Characters of a token, at least."""


def serve_parser() -> ArgumentParser:
    """Arguments of `vkd serve`."""
    parser = new_parser(
        "serve",
        "A bundle, or an export, as a service: a page for the browser, and what it asks for programs. Nothing of a "
        "request is logged or kept. It stops on SIGTERM or Ctrl-C, when what it has begun is answered.",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it, or a folder of vkd export")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="to listen on; others than loopback need a token")
    parser.add_argument("--port", type=int, default=8000, help="to listen on; 0 for any that is free")
    parser.add_argument("--token_file", type=Path | None, help="file with the token that requests must bear")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--batch_size", type=PositiveInt, default=32, help="images predicted at once")
    parser.add_argument("--queue", type=PositiveInt, default=64, help="requests in the house; more are told to wait")
    parser.add_argument("--answer_seconds", type=float, default=60.0, help="that a request may wait for its answer")
    parser.add_argument(
        "--engine",
        type=Literal["auto", "torch", "openvino"],
        default="auto",
        help="what computes: OpenVINO where there is an export, else PyTorch, if nothing is said",
    )
    parser.add_argument(
        "--export",
        type=Path | None,
        help="folder of vkd export, made of this bundle, that predicts, while the bundle gives heat maps; by default "
        "the folder export beside the bundle, where there is one",
    )
    add_allowed(parser)
    add_trusted(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Serves until it is told to stop."""
    settings = parse(serve_parser(), arguments)
    if not 0 <= settings.port <= 65535:
        raise UserError(f"--port: found {settings.port}, expected 0 to 65535")
    if not 0 < settings.level < 1:
        raise UserError(f"--level: found {settings.level:g}, expected between 0 and 1, e.g. 0.95")
    token = _token(settings)
    try:
        import fastapi  # noqa: F401  (only whether it is there)
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"vkd serve needs {error.name}: pip install 'vkd-pyro[serve]'") from error
    say_stage(f"loading {settings.bundle}", arguments)
    from vkd_pyro.prediction.prediction import UncertaintySources
    from vkd_pyro.serving.http.limits import Limits
    from vkd_pyro.serving.http.service import Service

    limits = Limits(settings.queue, settings.batch_size, settings.answer_seconds)
    predictor, network = _loaded(settings)
    uncertainty = UncertaintySources(settings.num_samples, seed=settings.seed)
    service = Service(predictor, uncertainty, settings.level, limits, _access(settings.host, token), network)
    config = uvicorn.Config(
        service.app,
        settings.host,
        settings.port,
        access_log=False,  # it would hold names of files
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(settings.answer_seconds) + 1,
        h11_max_incomplete_event_size=1 << 16,
    )
    return _run(uvicorn.Server(config), settings.host)


def _loaded(settings: Namespace) -> tuple["Predictor", "Predictor | None"]:
    """What predicts, and the network for heat maps."""
    from vkd_pyro.artifacts.export import Export, load_predictor

    trusted, by_torch = (settings.allow_module, settings.trusted_key), settings.engine == "torch"
    if by_torch and settings.export:
        raise UserError("--engine torch: an export is computed by OpenVINO; drop --export or --engine")
    given = load_predictor(settings.bundle, "torch" if by_torch else "auto", *trusted)
    if isinstance(given, Export):
        if settings.export:
            raise UserError(f"--export: {settings.bundle} is an export already; give the bundle that it was made of")
        return given, None
    export = settings.export or settings.bundle.absolute().parent / "export"
    if settings.export or (export.is_dir() and not by_torch):
        return load_predictor(export, "auto", *trusted), given
    if settings.engine != "openvino":
        return given, given
    from vkd_pyro.artifacts.bundle import Bundle
    from vkd_pyro.artifacts.export.writing import converted

    assert isinstance(given, Bundle)  # what is no export is one
    return converted(given), given


def _run(server: "object", host: str) -> int:
    import asyncio

    import uvicorn

    assert isinstance(server, uvicorn.Server)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            say(f"ready: http://{shown}:{port}/ (Ctrl-C stops it)", flush=True)
        await serving

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn's own handler stands before it while it serves
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    except SystemExit:  # uvicorn's, after it has said why on standard error
        return 2
    if server.started:
        say("stopped", file=sys.stderr)
    return 0


# ---------------------------------------------------------------------------------------- who may ask


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(settings: Namespace) -> str | None:
    """The token of the file.

    Raises:
        UserError: there is none and others can reach the service; or it is short, or of several words.
    """
    path = settings.token_file
    if path is None:
        if is_loopback(settings.host):
            return None
        raise UserError(
            f"--host {settings.host}: others can reach it, so a token is needed; give --token_file FILE, e.g. made by "
            "(umask 077; openssl rand -hex 32 > token)"
        )
    try:
        token = read_text(path, 1 << 12).strip()
    except OSError as error:
        raise UserError(f"--token_file: {path}: {error.strerror}; expected a file with a token") from error
    if len(token) < LEAST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(
            f"--token_file: {path}: {len(token)} characters, expected one word of at least {LEAST_TOKEN} letters, "
            "digits and signs; e.g. openssl rand -hex 32"
        )
    return token


def _access(host: str, token: str | None) -> "Access":
    from vkd_pyro.serving.http.guard import Access

    names = frozenset({"localhost", "127.0.0.1", "::1", host.lower()})
    return Access(token, names if token is None else None)
