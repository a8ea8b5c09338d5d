"""The page of `vkd serve`, in a real browser: files in, what is said of them, by mouse and by keyboard."""

import base64
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the serve extra is not installed")

from tests.test_commands import write_dicom  # noqa: E402  (once it is known to be there)
from tests.test_serving import FEW, TOKEN  # noqa: E402
from vkd_pyro import load_bundle  # noqa: E402
from vkd_pyro.serving.http.guard import Access  # noqa: E402
from vkd_pyro.serving.http.service import PAGE, Service  # noqa: E402

expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

SCRIPT = "<img src=x onerror=document.title='ran'>.png"


@contextmanager
def served(bundle_folder, access=None):
    """The service in a thread; its address."""
    service = Service(load_bundle(bundle_folder), FEW, access=access)
    config = uvicorn.Config(service.app, port=0, access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(bundle_folder):
    with served(bundle_folder) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser, address, width=1280, **options):
    """A page, where no script may fail and nothing but the service may be asked."""
    context = browser.new_context(viewport={"width": width, "height": 800}, **options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    failures, asked = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda told: failures.append(told.text) if "Content Security Policy" in told.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#work:visible, #access:visible")  # before it knows the model, it takes no files
    try:
        yield page
        assert failures == []
        assert {url[: len(address)] for url in asked if not url.startswith(("data:", "blob:"))} == {address}
    finally:
        context.close()


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as found:
        found.wait_for_selector("#drop:visible")
        yield found


def answered(page, *paths):
    """Sends files, by the field that a click opens, until they are answered."""
    page.set_input_files("#files", paths)
    page.wait_for_selector("#said:visible")
    expect(page.locator("#xray")).to_have_attribute("width", re.compile("[1-9]"))


def gray(page) -> float:
    """The mean of the X-ray's pixels, as they are shown."""
    return page.evaluate(
        "() => { const c = document.querySelector('#xray');"
        "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return data.filter((_, n) => n % 4 === 0).reduce((a, b) => a + b, 0) / (c.width * c.height) }"
    )


# ------------------------------------------------------------------------------------------- files in


def test_a_click_opens_files_and_their_findings_are_told(page, xrays, bundle_folder):
    with page.expect_file_chooser() as chooser:
        page.click("text=Choose images")
    chooser.value.set_files(xrays / "a.png")
    page.wait_for_selector("#said:visible")
    bundle = load_bundle(bundle_folder)
    assert sorted(page.locator("button.finding").all_inner_texts()) == sorted(bundle.findings)
    for row in page.locator("#findings tbody tr:not(.heading)").all():
        probability = float(row.locator(".probability").inner_text().rstrip("*"))
        low, high = map(float, row.locator(".interval").inner_text().split("\u2013"))
        assert 0 <= low <= probability <= high <= 1
        left = row.locator(".dot").evaluate("dot => dot.style.left")
        assert float(left.rstrip("%")) / 100 == pytest.approx(probability, abs=1e-3)
    assert page.inner_text("#of") == "a.png"
    assert page.locator("#notice").inner_text().count("research") == 1
    assert "For research" not in page.inner_text("main")


def test_a_file_that_is_dropped_is_answered(page, xrays):
    content = base64.b64encode((xrays / "c.dcm").read_bytes()).decode()
    dropped = page.evaluate_handle(
        "content => { const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));"
        "const data = new DataTransfer(); data.items.add(new File([bytes], 'c.dcm')); return data }",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    page.wait_for_selector("#said:visible")
    assert page.inner_text("#of") == "c.dcm"


def test_several_are_chosen_by_name_and_may_be_one_study(page, xrays):
    answered(page, xrays / "a.png", xrays / "b.jpg")
    assert page.locator("button.name").all_inner_texts() == ["a.png", "b.jpg"]
    first = page.inner_text("#findings")
    page.click("text=b.jpg")
    assert page.inner_text("#findings") != first
    page.check("#study")
    expect(page.locator("#summary")).to_contain_text("A study of 2 images")


# -------------------------------------------------------------------------------------------- errors


def test_errors_are_told_in_words(page, xrays, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    page.set_input_files("#files", [tmp_path / "text.png"])
    page.wait_for_selector("#problems p")
    assert "text.png: Unreadable or truncated image" in page.inner_text("#problems")
    assert page.is_visible("#drop")  # another can be chosen
    assert page.get_attribute("#problems", "role") == "alert"
    (tmp_path / "large.png").write_bytes(bytes(21 << 20))
    page.set_input_files("#files", [tmp_path / "large.png"])
    assert "21.0 MB, and at most 20.0 MB can be sent" in page.inner_text("#problems")
    answered(page, xrays / "a.png")
    assert page.inner_text("#problems") == ""
    page.route("**/v1/predictions", lambda route: route.abort())
    page.set_input_files("#files", [xrays / "a.png"])
    page.wait_for_selector("#problems p")
    assert page.inner_text("#problems") == "The service does not answer. Is it still running?"


def test_of_several_those_that_can_be_read_are_told(page, xrays, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    answered(page, tmp_path / "text.png", xrays / "a.png")
    assert page.get_attribute("button.name >> nth=1", "aria-pressed") == "true"
    assert "text.png: Unreadable" in page.inner_text("#problems")
    page.click("button.name >> nth=0")
    expect(page.locator("#status")).to_have_text("This image could not be read; why is said above.")
    assert page.is_hidden("#said")


def test_what_seems_no_chest_can_be_predicted_all_the_same(page, xrays):
    page.set_input_files("#files", [xrays / "hand.dcm"])
    page.click("text=Predict it all the same")
    page.wait_for_selector("#said:visible")
    assert page.inner_text("#notes") == "hand.dcm: body part HAND is not the chest."


def test_scripts_in_names_tags_and_cards_stay_text(page, xrays, tmp_path):
    page.set_input_files("#files", [{"name": SCRIPT, "mimeType": "", "buffer": (xrays / "a.png").read_bytes()}])
    page.wait_for_selector("#said:visible")
    assert page.inner_text("#of") == SCRIPT
    with pytest.warns(UserWarning, match="Invalid value for VR CS"):
        write_dicom(tmp_path / "tag.dcm", Modality="DX", BodyPartExamined="<IMG SRC=X>")
    page.set_input_files("#files", [tmp_path / "tag.dcm"])
    page.wait_for_selector("#problems p")
    assert "Body part that is no code is not the chest" in page.inner_text("#problems")  # nor is the tag's text sent on
    said = {
        "predictions": [],
        "images": [],
        "questions": [],
        "notes": [],
        "problems": [{"image": "0", "problem": SCRIPT}],
    }
    page.route("**/v1/predictions", lambda route: route.fulfill(json=said, status=422))
    page.set_input_files("#files", [xrays / "a.png"])
    page.wait_for_selector("#problems p:has-text('onerror')")
    assert page.inner_text("#problems") == f"a.png: {SCRIPT}."

    def as_script(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("# Card", SCRIPT))

    page.route("**/v1/model", as_script)
    page.reload()
    page.click("summary")
    assert page.inner_text("#card") == SCRIPT
    assert page.locator("img").count() == 0
    assert page.title() == "Chest X-ray findings"


def test_no_script_from_text_can_run(page):
    with pytest.raises(sync_api.Error, match=r"TrustedHTML|Trusted Type"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")


# ------------------------------------------------------------------------------------- what is shown


def test_a_heat_map_comes_and_goes(page, xrays):
    pytest.importorskip("captum", reason="the explain extra is not installed")
    answered(page, xrays / "a.png")
    finding = page.locator("button.finding").first
    finding.click()
    page.wait_for_selector("#heat:visible")
    assert finding.get_attribute("aria-pressed") == "true"
    assert finding.inner_text() in page.inner_text("#heat-name")
    page.fill("#opacity", "30")
    assert page.locator("#heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.3"
    finding.click()
    assert page.is_hidden("#heat")
    assert page.is_hidden("#heat-tools")


def test_window_and_zoom(page, xrays):
    answered(page, xrays / "a.png")
    before = gray(page)
    page.fill("#brightness", "40")
    page.wait_for_timeout(100)
    assert gray(page) > before + 20
    page.click("#reset")
    assert gray(page) == before
    box = page.locator("#view").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] + 90)
    page.mouse.up()
    page.wait_for_timeout(100)
    assert gray(page) < before - 20
    page.mouse.wheel(0, -400)
    expect(page.locator("#zoom")).to_have_text("200 %")
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 90)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert re.search(r"translate\(30(\.\d+)?px", page.locator("#plane").get_attribute("style"))


def test_what_is_unlike_the_training_images_is_said(page, address, xrays):
    import httpx

    said = httpx.post(f"{address}v1/predictions", files={"images": ("0", (xrays / "a.png").read_bytes())}).json()
    said["predictions"][0] |= {"flagged": True, "ood_p": 0.004}
    page.route("**/v1/predictions", lambda route: route.fulfill(json=said))
    answered(page, xrays / "a.png")
    assert page.inner_text("#novelty") == "Unlike the images it was trained on (p = 0.0040): what follows may not hold."


def test_questions_about_several_findings(page, xrays, bundle_folder):
    answered(page, xrays / "a.png")
    assert page.locator("#questions tbody th").all_inner_texts() == ["any abnormality"]
    first, second, *_ = load_bundle(bundle_folder).findings
    page.fill("#question", f"{first} & ~{second}")
    page.press("#question", "Enter")
    page.wait_for_selector(f"#questions th:has-text('{first} & ~{second}')")
    page.fill("#question", "Gout")
    page.press("#question", "Enter")
    page.wait_for_selector("#problems p")
    assert "no finding 'Gout'" in page.inner_text("#problems")
    assert page.is_visible("#said")


def test_the_table_is_copied(browser, address, xrays):
    with opened(browser, address, permissions=["clipboard-read", "clipboard-write"]) as page:
        answered(page, xrays / "a.png")
        page.click("#copy")
        page.wait_for_selector("text=Copied")
        header, *rows = page.evaluate("navigator.clipboard.readText()").splitlines()
        assert header.split("\t") == ["finding", "probability", "low", "high", "threshold", "answer", "why"]
        told = dict(row.split("\t")[:2] for row in rows[:-1])
        for row in page.locator("#findings tbody tr:not(.heading)").all():
            shown = row.locator(".probability").inner_text().rstrip("*")
            assert f"{float(told[row.locator('th').inner_text()]):.3f}" == shown


# ---------------------------------------------------------------------------------- keyboard, widths, ink


def reach(page, selector, most=60):
    """Goes on by Tab until it is there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab reaches {selector}")


def test_all_by_keyboard(page, xrays):
    with page.expect_file_chooser() as chooser:  # from the first Tab on: the browser is told late to wait for it
        reach(page, "#files")
        outline = page.locator("#drop label").evaluate("label => getComputedStyle(label).outlineStyle")
        assert outline == "solid"  # where the keyboard is can be seen
        page.keyboard.press("Enter")
    chooser.value.set_files(xrays / "a.png")
    page.wait_for_selector("#said:visible")
    reach(page, "#view")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#zoom") == "125 %"
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == "100 %"
    reach(page, "#contrast")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#contrast") == "1"
    reach(page, "button.finding")
    page.keyboard.press("Enter")
    page.wait_for_selector("#heat:visible")
    reach(page, "#question")
    page.keyboard.type("no abnormality")
    page.keyboard.press("Enter")
    page.wait_for_selector("#questions th:has-text('no abnormality')")


@pytest.mark.parametrize("width", [390, 820, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser, address, xrays, width):
    with opened(browser, address, width) as page:
        long = {"name": f"{'long' * 50}.png", "mimeType": "", "buffer": (xrays / "a.png").read_bytes()}
        page.set_input_files("#files", [long])
        page.wait_for_selector("#said:visible")
        page.locator("button.finding").first.click()
        page.wait_for_selector("#heat:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_print_is_what_was_said_without_what_is_pressed(page, xrays):
    answered(page, xrays / "a.png")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.is_visible("#findings")
    assert page.is_visible("#xray")
    assert page.is_visible("#notice")
    assert not any(page.is_visible(one) for one in ("#copy", "#brightness", "#ask", "label.button >> nth=1", "#about"))
    assert page.locator("html").evaluate("html => getComputedStyle(html).backgroundColor") == "rgb(255, 255, 255)"


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", as WCAG 2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_has_the_contrast_of_wcag_aa_in_light_dark_and_print():
    text = (PAGE / "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{([^}]*)\}", text)]
    assert len(schemes) == 3
    for colours in ({**schemes[0], **scheme} for scheme in schemes):
        for ground in ("paper", "quiet"):
            for ink in ("ink", "soft", "yes", "refer", "no", "edge"):
                light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= (3 if ink == "edge" else 4.5), (ink, ground)


def test_light_and_dark_follow_the_system(browser, address):
    grounds = set()
    for scheme in ("light", "dark"):
        with opened(browser, address, color_scheme=scheme) as page:
            grounds.add(page.locator("html").evaluate("html => getComputedStyle(html).backgroundColor"))
    assert grounds == {"rgb(255, 255, 255)", "rgb(18, 20, 22)"}


def test_a_token_is_asked_for_and_kept_in_memory_alone(browser, bundle_folder, xrays):
    with served(bundle_folder, Access(TOKEN)) as address, opened(browser, address) as page:
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problems p")
        assert "not the service's" in page.inner_text("#problems")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#drop:visible")
        answered(page, xrays / "a.png")
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.reload()
        page.wait_for_selector("#access:visible")


def test_what_comes_with_the_package_is_what_the_page_names():
    named = {"index.html", "style.css", "app.js"}
    for path in PAGE.glob("*.js"):
        named |= set(re.findall(r'from "\./([\w.]+)"', path.read_text(encoding="utf-8")))
    assert {Path(path).name for path in PAGE.iterdir()} == named
