"""The page of `vkd serve`, in a real browser: by click, drop and keyboard; errors in words; what is data never runs."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_commands import write_dicom
from tests.test_predict import DATA, trained
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.training.posthoc import calibrate

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed (Debian: apt-get install chromium)")

EVIL = '<img src=x onerror="document.title=666">.png'
DROP = """([name, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""
CONTRAST = """() => {
  const channel = (value) => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const pair = [luminance(numbers(getComputedStyle(node).color)), luminance(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) low.push(`${node.tagName} ${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def until(page, what):
    """Waits for a condition; the page's own policy forbids Playwright's way, which is eval."""
    for _ in range(400):
        if page.evaluate(what):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {what}")


@pytest.fixture(scope="module")
def xrays(tmp_path_factory) -> Path:
    root, pixels = tmp_path_factory.mktemp("page"), [study.images[0] for study in DATA.studies("test")]
    Image.fromarray(pixels[0]).resize((320, 280)).save(root / "a.png")
    Image.fromarray(pixels[1]).resize((300, 300)).save(root / "b.jpg")
    (root / "broken.png").write_bytes(b"\x89PNG no picture")
    write_dicom(root / "c.dcm", Modality="DX", ViewPosition="PA", PatientName="<script>document.title=666</script>")
    with warnings.catch_warnings(action="ignore"):  # of pydicom, that this is no value
        write_dicom(root / "hand.dcm", Modality="DX", BodyPartExamined="<b>HAND</b>")
    return root


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service of its own process, on any free port."""
    folder, network = tmp_path_factory.mktemp("served") / "bundle", trained(0)
    data = {"views": "frontal"}
    save_bundle(folder, network.model, DATA.findings, DATA.transform, "# Card", data, calibrate(network, DATA))
    command = [sys.executable, "-m", "vkd_pyro.cli", "serve", str(folder), "--port", "0", "--num_samples", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            ready = next(line for line in process.stdout if line.startswith("ready: "))
            yield ready.split()[1]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, service):
    """A fresh page; a script error, or a request to anywhere else, fails the test."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith((service, "blob:", "data:")) else wrong.append(one.url))
    page.goto(service)
    until(page, "document.getElementById('model').textContent")
    yield page
    assert wrong == []
    assert "666" not in page.title()
    context.close()


def read(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector("#answer:not([hidden])")
    until(page, "document.querySelector('#view img').naturalWidth > 0")


def rows(page):
    return page.locator(".finding .name").all_inner_texts()


def test_an_upload_by_click_shows_image_and_findings(page, xrays):
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    chooser.value.set_files(str(xrays / "a.png"))
    page.wait_for_selector("#answer:not([hidden])")
    assert sorted(rows(page)) == sorted(DATA.findings)
    assert page.inner_text("#caption") == "a.png"
    until(page, "document.querySelector('#view img').naturalWidth == 320")
    assert page.inner_text("#verdict") != ""
    assert page.locator(".bar .dot").count() == len(DATA.findings)


def test_an_upload_by_drop(page, xrays):
    page.evaluate(DROP, ["a.png", list((xrays / "a.png").read_bytes())])
    page.wait_for_selector("#answer:not([hidden])")
    assert page.inner_text("#caption") == "a.png"


def test_the_numbers_are_those_of_the_service(page, service, xrays):
    read(page, xrays / "a.png")
    got = page.evaluate("answer.predictions[0].findings")
    page.click("#numbers summary")
    table = [row.split("\t") for row in page.inner_text("#numbers tbody").splitlines()]
    for name, p, low, high, threshold, answer, raw in table:
        of = got[name]
        assert answer == of["answer"]
        for shown, told in zip(
            (p, low, high, threshold, raw),
            ("calibrated", "calibrated_low", "calibrated_high", "threshold", "probability"),
            strict=True,
        ):
            assert shown == ("\u2013" if of[told] is None else "<0.001" if 0 < of[told] < 0.0005 else f"{of[told]:.3f}")


def test_a_study_of_two_images_is_one_answer(page, xrays):
    read(page, xrays / "a.png", xrays / "b.jpg")
    assert page.locator("#tabs button").count() == 2
    assert "2 images as one study" in page.inner_text("#made")
    page.click("#tabs button >> nth=1")
    assert page.inner_text("#caption") == "b.jpg"


def test_a_heat_map_is_shown_and_taken_away(page, xrays):
    read(page, xrays / "a.png")
    first = page.locator("button.finding").first
    first.click()
    page.wait_for_selector("#view canvas:not([hidden])")
    name = page.locator(".finding .name").first.inner_text()
    assert f"where {name} is seen" in page.inner_text("#caption")
    page.fill("#opacity", "20")
    assert page.evaluate("document.querySelector('#view canvas').style.opacity") == "0.2"
    assert page.evaluate("document.querySelector('#view canvas').width") == 320
    first.click()
    page.wait_for_selector("#view canvas", state="hidden")
    assert page.inner_text("#caption") == "a.png"


def test_window_and_zoom(page, xrays):
    read(page, xrays / "a.png")
    page.fill("#brightness", "150")
    page.click("#in")
    assert "brightness(150%)" in page.evaluate("document.querySelector('#view img').style.filter")
    assert page.inner_text("#zoom") == "140 %"
    page.hover("#view")
    page.mouse.wheel(0, -100)
    assert page.inner_text("#zoom") == "168 %"
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    assert "translate(" in page.evaluate("document.querySelector('#view .stage').style.transform")
    page.click("#reset")
    assert page.inner_text("#zoom") == "100 %"
    assert "brightness(100%)" in page.evaluate("document.querySelector('#view img').style.filter")


def test_by_keyboard_alone(page, xrays):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(str(xrays / "a.png"))
    page.wait_for_selector("#answer:not([hidden])")
    until(page, "document.activeElement.id == 'result'")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('finding')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#view canvas:not([hidden])")
    page.focus("#view")
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowUp")
    assert page.inner_text("#zoom") == "120 %"
    assert page.input_value("#brightness") == "110"
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == "100 %"


def test_errors_are_told_in_words(page, xrays):
    page.set_input_files("#files", str(xrays / "broken.png"))
    page.wait_for_selector("#error p")
    assert page.inner_text("#error").startswith("broken.png: ")
    assert page.get_attribute("#error", "role") == "alert"
    page.set_input_files("#files", str(xrays / "hand.dcm"))
    until(page, "document.getElementById('error').textContent.includes('hand.dcm')")
    assert "tick the box under Options" in page.inner_text("#error")
    assert page.locator("#error b").count() == 0
    page.click("#options summary")
    page.check("#mismatch")
    read(page, xrays / "hand.dcm")
    assert "hand.dcm: " in page.inner_text("#notes")
    read(page, xrays / "a.png")
    assert page.inner_text("#error") == ""


def test_a_service_that_has_gone_is_told(page, xrays):
    page.route("**/v1/predictions", lambda route: route.abort())
    page.set_input_files("#files", str(xrays / "a.png"))
    page.wait_for_selector("#error p")
    assert page.inner_text("#error") == "The service does not answer. Is it still running?"


def test_a_busy_service_is_asked_again(page, xrays):
    answers = iter([True, False])

    def route(one):
        if next(answers):
            one.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy; come again soon"})
        else:
            one.continue_()

    page.route("**/v1/predictions", route)
    page.set_input_files("#files", str(xrays / "a.png"))
    until(page, "document.getElementById('status').textContent.includes('busy')")
    page.wait_for_selector("#answer:not([hidden])")


def test_questions_are_asked_and_answered(page, xrays):
    read(page, xrays / "a.png")
    page.fill("#query", f"{DATA.findings[0]} & ~{DATA.findings[1]}")
    page.press("#query", "Enter")
    until(page, "document.querySelectorAll('#questions dt').length > 1")
    assert f"{DATA.findings[0]} & ~{DATA.findings[1]}" in page.inner_text("#questions")
    page.fill("#query", "<b>what</b>")
    page.press("#query", "Enter")
    page.wait_for_selector("#error p")
    assert page.locator("#error b").count() == 0


def test_the_table_is_copied(page, xrays):
    read(page, xrays / "a.png")
    page.click("#copy")
    until(page, "document.getElementById('status').textContent == 'Copied.'")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0].split("\t")[:2] == ["finding", "probability"]
    assert len(copied) == 1 + len(DATA.findings)


def test_a_script_in_a_file_name_or_a_tag_stays_text(page, xrays):
    page.evaluate(DROP, [EVIL, list((xrays / "a.png").read_bytes())])
    page.wait_for_selector("#answer:not([hidden])")
    assert page.inner_text("#caption") == EVIL
    assert page.locator("#caption img").count() == 0
    read(page, xrays / "c.dcm")
    assert "<script>" not in page.inner_text("body")


def test_an_unusual_image_is_told(page, xrays, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255).save(tmp_path / "noise.png")
    read(page, tmp_path / "noise.png")
    assert page.evaluate("answer.predictions[0].flagged") == page.is_visible("#unlike")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_that_of_aa(page, xrays, scheme):
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    read(page, xrays / "a.png")
    page.click("#numbers summary")
    page.locator("button.finding").first.click()
    page.mouse.move(0, 0)
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(page, xrays, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    read(page, xrays / "a.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_print_has_the_image_and_every_finding_and_no_buttons(page, xrays):
    read(page, xrays / "a.png")
    page.emulate_media(media="print")
    assert page.is_visible("#view img")
    assert page.locator(".finding .name").count() == len(DATA.findings)
    assert not any(page.is_visible(name) for name in ("#choose", "#print", "#options", "#ask"))


def test_the_page_says_once_that_it_is_for_research(page, xrays):
    read(page, xrays / "a.png")
    assert page.inner_text("body").count("For research") == 1
    assert "Nothing leaves this machine" in page.inner_text("header")


def test_a_token_is_asked_for_and_kept_in_memory(browser, tmp_path, service):
    """With the same page, whose service answers 401 as long as no token is given."""
    context = browser.new_context()
    page = context.new_page()

    def guarded(route):
        if route.request.headers.get("authorization") == "Bearer 0123456789abcdef":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "a token is needed: Authorization: Bearer TOKEN"})

    page.route("**/v1/**", guarded)
    page.goto(service)
    page.wait_for_selector("#token:not([hidden])")
    page.fill("#given", "0123456789abcdef")
    page.press("#given", "Enter")
    until(page, "document.getElementById('model').textContent")
    assert page.is_hidden("#token")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    context.close()


def test_nothing_is_asked_of_another_site(service):
    html = urllib.request.urlopen(service).read().decode()
    assert "://" not in html
