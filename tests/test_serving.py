"""`vkd serve`: what is answered, what is refused, and that nothing of a request is left."""

import asyncio
import base64
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import refusal, vkd
from tests.test_predict import DATA
from vkd_pyro import load_bundle
from vkd_pyro.artifacts.bundle import Bundle
from vkd_pyro.artifacts.export import Export, load_export
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.utils.errors import UserError

for needed in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "httpx"):
    pytest.importorskip(needed, reason="the serve extra is not installed")

from starlette.testclient import TestClient  # noqa: E402  (once it is known to be there)

from vkd_pyro.cli.serve import _loaded, is_loopback, serve_parser  # noqa: E402
from vkd_pyro.serving.http.batching import Batcher, Busy  # noqa: E402
from vkd_pyro.serving.http.guard import Access  # noqa: E402
from vkd_pyro.serving.http.limits import Limits  # noqa: E402
from vkd_pyro.serving.http.schemas import EXAMPLE, HeatMaps, ModelInfo, Predictions  # noqa: E402
from vkd_pyro.serving.http.service import PAGE, Service  # noqa: E402
from vkd_pyro.serving.http.uploads import shown_name  # noqa: E402

FEW = UncertaintySources(num_samples=10)
LOOPBACK = Access(hosts=frozenset({"127.0.0.1"}))
TOKEN = "0123456789abcdef"
CANARY = "MUSTERMANN^ERIKA"


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return load_bundle(bundle_folder)


def client_of(bundle, limits=None, access=LOOPBACK, network=None) -> TestClient:
    service = Service(bundle, FEW, limits=limits, access=access, network=network)
    client = TestClient(service.app, base_url="http://127.0.0.1")
    client.service = service
    return client


@pytest.fixture(scope="module")
def client(bundle):
    with client_of(bundle) as found:
        yield found


def files(*paths: Path, field: str = "images") -> list:
    return [(field, (path.name, path.read_bytes())) for path in paths]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


# ------------------------------------------------------------------------------------ what is answered


@pytest.mark.parametrize("study", [False, True])
def test_an_answer_is_the_json_of_predict(client, bundle_folder, xrays, monkeypatch, study):
    monkeypatch.chdir(xrays)
    group = ("--group", "folder") if study else ()
    code, out, err = vkd(
        *("predict", bundle_folder, "a.png", "b.jpg", "c.dcm", "--format", "json", "--num_samples", "10", *group)
    )
    assert code == 0, err
    answer = client.post(
        "/v1/predictions",
        files=files(xrays / "a.png", xrays / "b.jpg", xrays / "c.dcm"),
        data={"study": str(study).lower()},
    )
    assert answer.status_code == 200
    assert answer.json()["predictions"] == json.loads(out)
    assert len(answer.json()["predictions"]) == (1 if study else 3)
    assert Predictions.model_validate(answer.json()).problems == []


def test_an_export_answers_as_the_bundle_does(bundle_folder, bundle, client, xrays, tmp_path):
    pytest.importorskip("openvino", reason="the export extra is not installed")
    export_bundle(bundle_folder, tmp_path / "export")
    with client_of(load_export(tmp_path / "export")) as exported:
        (one,), (other,) = (
            each.post("/v1/predictions", files=files(xrays / "a.png")).json()["predictions"]
            for each in (client, exported)
        )
        for name, said in one["findings"].items():
            assert said["probability"] == pytest.approx(other["findings"][name]["probability"], abs=1e-4)
        assert exported.get("/v1/model").json()["engine"] == "openvino"
        refused = exported.post("/v1/heatmaps", files=files(xrays / "a.png", field="image"), data={"finding": "x"})
        assert refused.status_code == 404
        assert "serve the bundle" in refused.json()["error"]
    with client_of(load_export(tmp_path / "export"), network=bundle) as both:
        info = both.get("/v1/model").json()
        assert (info["engine"], info["heat_maps"]) == ("openvino", True)


def test_an_export_beside_the_bundle_predicts_where_it_is_of_it(bundle_folder, tmp_path):
    pytest.importorskip("openvino", reason="the export extra is not installed")
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    export_bundle(bundle_folder, tmp_path / "export")

    def loaded(*options):
        return _loaded(serve_parser().parse_args([str(tmp_path / "bundle"), *options]))

    export, network = loaded()
    assert (type(export), type(network)) == (Export, Bundle)
    assert type(loaded("--engine", "torch")[0]) is Bundle
    with pytest.raises(UserError, match="drop --export or --engine"):
        loaded("--engine", "torch", "--export", str(tmp_path / "export"))
    with pytest.raises(UserError, match=r"made of bundle .*; export the bundle again"):
        Service(export, network=replace(network, bundle_hash="other"))


def test_what_cannot_be_read_is_told_and_the_rest_is_predicted(client, xrays):
    sent = [*files(xrays / "a.png", xrays / "hand.dcm"), ("images", ("text.png", b"hello"))]
    answer = client.post("/v1/predictions", files=sent)
    assert answer.status_code == 200
    assert [one["image"] for one in answer.json()["predictions"]] == ["a.png"]
    problems = {one["image"]: one["problem"] for one in answer.json()["problems"]}
    assert problems["hand.dcm"].startswith("body part HAND is not the chest; ")
    assert problems["hand.dcm"].endswith("on_mismatch=warn")
    assert "not a PNG or JPEG" in problems["text.png"]
    alone = client.post("/v1/predictions", files=sent[2:])
    assert alone.status_code == 422
    assert "/" not in alone.json()["problems"][0]["problem"]


def test_a_mismatch_is_a_note_where_it_is_wanted(client, xrays):
    answer = client.post("/v1/predictions", files=files(xrays / "hand.dcm"), data={"on_mismatch": "warn"}).json()
    assert len(answer["predictions"]) == 1
    assert answer["notes"] == [{"image": "hand.dcm", "problem": "body part HAND is not the chest"}]


def test_questions_are_answered_from_draws(client, xrays):
    query = f"~{DATA.findings[0]}"
    answer = client.post("/v1/predictions", files=files(xrays / "a.png"), data={"query": query}).json()
    ((question,),) = answer["questions"]
    probability = answer["predictions"][0]["findings"][DATA.findings[0]]["probability"]
    assert question["query"] == query
    assert question["probability"] == pytest.approx(1 - probability, abs=1e-5)
    wrong = client.post("/v1/predictions", files=files(xrays / "a.png"), data={"query": "Nothing such"})
    assert wrong.status_code == 422
    assert "no finding 'Nothing such'" in wrong.json()["error"]


def test_the_model_says_what_it_is(client, bundle):
    info = client.get("/v1/model").json()
    ModelInfo.model_validate(info)
    assert (info["bundle_sha256"], info["card"]) == (bundle.bundle_hash, "# Card")
    thresholds = bundle.calibration.of("image").operating_points.thresholds
    for name, expected in zip(bundle.findings, thresholds, strict=True):
        found = info["thresholds"][name]["image"]
        assert np.isnan(expected) if found is None else found == pytest.approx(expected)


def test_heat_maps_are_grad_cam(client, bundle, xrays):
    captum = pytest.importorskip("captum.attr", reason="the explain extra is not installed")
    assert captum
    from vkd_pyro.explanations.images import grad_cam

    wanted = list(bundle.findings[:2])
    answer = client.post("/v1/heatmaps", files=files(xrays / "a.png", field="image"), data={"finding": wanted})
    assert answer.status_code == 200, answer.text
    HeatMaps.model_validate(answer.json())
    pixels = bundle.transform(xrays / "a.png").float()[None] / 255
    expected = grad_cam(bundle.model, pixels, [0, 1], seed=0)[0].numpy()
    for one, cam, name in zip(answer.json()["maps"], expected, wanted, strict=True):
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["png"]))))
        assert one["finding"] == name
        np.testing.assert_allclose(drawn / 255, cam, atol=1 / 255)
    unknown = client.post("/v1/heatmaps", files=files(xrays / "a.png", field="image"), data={"finding": "Gout"})
    assert unknown.status_code == 422


def test_a_preview_is_the_image_as_it_is_read(client, xrays):
    answer = client.post("/v1/previews", files=files(xrays / "a.png", field="image"))
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(Image.open(io.BytesIO(answer.content)), Image.open(xrays / "a.png"))
    damaged = client.post("/v1/previews", files=[("image", ("x.png", b"\x89PNG\r\n\x1a\n"))])
    assert damaged.status_code == 422
    assert "vkd-serve" not in damaged.text


def test_health_metrics_and_openapi(client, xrays):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").status_code == 200
    client.post("/v1/predictions", files=files(xrays / "a.png"))
    text = client.get("/metrics").text
    assert re.search(r'vkd_requests_total\{path="/v1/predictions",status="200"\} [1-9]', text)
    assert "vkd_requests_inside 0.0" in text
    described = client.get("/openapi.json").json()["paths"]["/v1/predictions"]["post"]
    Predictions.model_validate(EXAMPLE)
    shown = described["responses"]["200"]["content"]["application/json"]["example"]
    assert shown["questions"] == EXAMPLE["questions"]
    assert {"401", "413", "422", "503"} <= set(described["responses"])


# ----------------------------------------------------------------------------------- what is refused


def test_too_many_bytes_or_pixels_or_images_are_refused(client, bundle, xrays):
    large = client.post("/v1/predictions", files=[("images", ("a.png", bytes(21 << 20)))])
    assert (large.status_code, "20,971,520 bytes" in large.json()["error"]) == (413, True)

    def pieces():
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        for _ in range(21):
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    chunked = client.post(
        "/v1/predictions", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert chunked.status_code == 413
    twice = [("images", (name, png(6_000, 4_000))) for name in ("a.png", "b.png")]  # 24 megapixels each
    pixels = client.post("/v1/predictions", files=twice)
    assert (pixels.status_code, "48,000,000 pixels" in pixels.json()["error"]) == (413, True)
    many = client.post("/v1/predictions", files=files(*[xrays / "a.png"] * 33))
    assert (many.status_code, "found 33" in many.json()["error"]) == (422, True)


def test_a_token_is_needed_where_one_is_set(bundle, xrays):
    with client_of(bundle, access=Access(TOKEN)) as closed:
        for path in ("/v1/model", "/metrics", "/openapi.json"):
            assert closed.get(path).status_code == 401
            assert closed.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
            assert closed.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert closed.post("/v1/predictions", files=files(xrays / "a.png")).status_code == 401
        assert {closed.get(path).status_code for path in ("/health/live", "/health/ready", "/")} == {200}


def test_pages_of_other_sites_may_not_ask(client, xrays):
    sent = {"files": files(xrays / "a.png")}
    assert client.get("/v1/model", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/v1/predictions", headers={"Origin": "http://evil.example"}, **sent).status_code == 403
    assert client.post("/v1/predictions", headers={"Origin": "null"}, **sent).status_code == 403
    assert client.post("/v1/predictions", headers={"Origin": "http://127.0.0.1"}, **sent).status_code == 200


def test_every_answer_has_a_strict_policy(client):
    for path in ("/", "/v1/model", "/nothing", "/page.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_a_full_house_says_when_to_come_again(bundle, xrays):
    with client_of(bundle, Limits(queue=1)) as one:
        with one.service.batcher.place():
            answer = one.post("/v1/predictions", files=files(xrays / "a.png"))
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        assert one.post("/v1/predictions", files=files(xrays / "a.png")).status_code == 200


def test_who_waits_too_long_is_told_to_come_again(bundle, xrays):
    with client_of(bundle, Limits(answer_seconds=0.05)) as slow:
        held = threading.Event()
        slow.service.batcher._pool.submit(held.wait)  # the one thread that computes is busy
        try:
            answer = slow.post("/v1/predictions", files=files(xrays / "a.png"))
        finally:
            held.set()
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_a_bug_is_told_without_its_words(bundle, xrays, caplog):
    with client_of(bundle) as broken:

        def compute(jobs):
            raise KeyError(CANARY)

        broken.service.batcher.compute = compute
        answer = broken.post("/v1/predictions", files=files(xrays / "a.png"))
    assert (answer.status_code, CANARY in answer.text) == (500, False)
    assert re.search(r"KeyError at test_serving.py:\d+", caplog.text)
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/a.png", "a.png"),
        ("C:\\x\\b.png", "b.png"),
        ("", "image 3"),
        (None, "image 3"),
        ("a\x1b[2J\0.png", "a\\x1b[2J\\x00.png"),
        ("x" * 999, "x" * 255),
    ],
)
def test_names_of_files_are_shown_and_never_used(name, shown):
    assert shown_name(name, 2) == shown


def mutated(body: bytes, draw: random.Random) -> bytes:
    """A body with a few bytes changed, cut out, or put in."""
    found = bytearray(body)
    for _ in range(draw.randint(1, 12)):
        place = draw.randrange(len(found)) if draw.random() < 0.5 else draw.randrange(min(len(found), 400))
        kind = draw.random()
        if kind < 0.6:
            found[place] = draw.randrange(256)
        elif kind < 0.8:
            del found[place : place + draw.randint(1, 200)]
            found = found or bytearray(b"-")
        else:
            found[place:place] = draw.randbytes(draw.randint(1, 50))
    return bytes(found)


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*SpooledTemporaryFile"
)  # Starlette leaves the file of a part that has no end to the garbage collector
def test_random_and_mutated_bodies_are_never_an_error_of_ours(client, xrays):
    kinds = ("multipart/form-data; boundary=b", "application/json", "multipart/form-data", "text/plain", "")
    statuses = set()
    for seed in range(200):
        draw = random.Random(seed)
        path = draw.choice(("/v1/predictions", "/v1/heatmaps", "/v1/previews"))
        content, kind = draw.randbytes(draw.randint(0, 2000)), draw.choice(kinds)
        if seed % 2:
            field = "images" if path == "/v1/predictions" else "image"
            chosen = files(*(xrays / name for name in draw.sample(("a.png", "b.jpg", "c.dcm"), 1)), field=field)
            data = {"finding": DATA.findings[0], "query": DATA.findings[0], "study": "true"}
            request = client.build_request("POST", path, files=chosen, data=data)
            content, kind = mutated(request.read(), draw), request.headers["content-type"]
        headers = {"content-type": kind} if kind else {}
        answer = client.post(path, content=content, headers=headers)
        assert answer.status_code < 500, (seed, answer.text)
        statuses.add(answer.status_code)
    assert {200, 422} <= statuses


# ---------------------------------------------------------------------------------- nothing is left


def test_names_and_tags_are_in_no_log_no_metric_and_no_file(bundle, xrays, caplog, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    dicom = (xrays / "c.dcm").read_bytes()
    sent = [
        ("images", (f"{CANARY}.dcm", dicom)),
        ("images", (f"{CANARY}.png", b"\x89PNG" + CANARY.encode())),
        ("images", (f"{CANARY}.dcm", dicom[:200] + CANARY.encode())),
    ]
    with client_of(bundle) as one:
        answer = one.post("/v1/predictions", files=sent, data={"query": CANARY})
        assert answer.status_code == 422  # no such finding
        answer = one.post("/v1/predictions", files=sent)
        assert [each["image"] for each in answer.json()["problems"]] == [f"{CANARY}.png", f"{CANARY}.dcm"]
        assert not any(CANARY in each["problem"] for each in answer.json()["problems"])
        one.get(f"/v1/{CANARY}?name={CANARY}")
        metrics = one.get("/metrics").text
        (spool,) = tmp_path.iterdir()
        assert list(spool.iterdir()) == []
    logged = "".join(f"{record.name} {record.getMessage()}" for record in caplog.records if record.name[:5] != "httpx")
    assert CANARY not in logged + metrics + "".join(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- batching


class Number:
    """A job that is a number; negative ones fail."""

    def __init__(self, value: int, key: str = "") -> None:
        self.value, self.key, self.size = value, key, 1


def squares(jobs):
    if any(job.value < 0 for job in jobs):
        raise ValueError("negative")
    return [job.value**2 for job in jobs]


def test_those_who_wait_are_computed_together_and_get_their_own_answers():
    batches = []

    async def main():
        batcher = Batcher(squares, 8, 4, batches.append)
        waiting = [asyncio.create_task(batcher.submit(Number(n, "ab"[n % 2]))) for n in range(7)]
        await asyncio.sleep(0)
        batcher.start()
        found = await asyncio.gather(*waiting)
        await batcher.stop()
        return found

    assert asyncio.run(main()) == [n**2 for n in range(7)]
    assert batches == [4, 3]


def test_one_that_fails_spoils_no_other():
    async def main():
        batcher = Batcher(squares, 8, 4)
        batcher.start()
        found = await asyncio.gather(*(batcher.submit(Number(n)) for n in (3, -1, 4)), return_exceptions=True)
        await batcher.stop()
        return found

    nine, failed, sixteen = asyncio.run(main())
    assert (nine, sixteen, str(failed)) == (9, 16, "negative")


def test_a_stop_answers_what_was_taken_and_takes_no_more():
    async def main():
        batcher = Batcher(squares, 8, 1)
        batcher.start()
        waiting = [asyncio.create_task(batcher.submit(Number(n))) for n in range(5)]
        await asyncio.sleep(0)
        await batcher.stop()
        assert not batcher.is_ready
        with pytest.raises(Busy):
            await batcher.submit(Number(1))
        with pytest.raises(Busy), batcher.place():
            pass
        return [task.result() for task in waiting]

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


# ------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pacs", False)]
)
def test_which_hosts_are_loopback(host, is_it):
    assert is_loopback(host) == is_it


def test_a_service_that_others_reach_needs_a_token(bundle_folder, tmp_path):
    assert "--token_file FILE" in refusal("serve", bundle_folder, "--host", "0.0.0.0")
    (tmp_path / "token").write_text("short")
    given = ("serve", bundle_folder, "--host", "0.0.0.0", "--token_file")
    assert "5 characters, expected one word of at least 16" in refusal(*given, tmp_path / "token")
    assert "No such file" in refusal(*given, tmp_path / "none")
    assert "--port: found 70000" in refusal("serve", bundle_folder, "--port", "70000")
    assert "not a bundle" in refusal("serve", tmp_path)


def started(bundle_folder: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """A service as a process, and its address."""
    command = [sys.executable, "-m", "vkd_pyro.cli", "serve", str(bundle_folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if found := re.search(r"ready: (http://\S+)/", line):
            return process, found[1]
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_a_stop_of_the_process_answers_what_it_has_begun(bundle_folder, xrays):
    import httpx

    process, address = started(bundle_folder, "--num_samples", "20000")
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{address}/v1/predictions", files=files(xrays / "a.png"), timeout=60))
    )
    try:
        assert httpx.get(f"{address}/health/ready").status_code == 200
        asking.start()
        while "vkd_requests_inside 1.0" not in httpx.get(f"{address}/metrics").text and not answers:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert [answer.status_code for answer in answers] == [200]
    assert (process.returncode, err) == (0, "stopped\n")
    with socket.socket() as free, pytest.raises(OSError, match="refused"):
        free.connect(("127.0.0.1", int(address.rpartition(":")[2])))


def test_the_page_is_whole_and_asks_nobody_else():
    text = {path.name: path.read_text(encoding="utf-8") for path in PAGE.iterdir()}
    assert "index.html" in text
    for name, content in text.items():
        assert not re.search(r"(src|href|url\(|import|fetch\()[^\n]{0,9}https?://", content), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", content), name
    assert not re.search(r"\son\w+=|<style|style=|<script>", text["index.html"])  # which the policy would forbid
    for name in re.findall(r'(?:src|href)="([\w.]+)"', text["index.html"]):
        assert name in os.listdir(PAGE)
