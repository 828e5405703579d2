"""A reader at the playground: headless Chromium, and what must hold on every page it opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian, Alpine, Google's own
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
DONE_TIMEOUT_MS = 60_000
Open = Callable[..., "Visit"]


@dataclass
class Visit:
    """A page of the playground in a context of its own, and what went over its wire."""

    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)  # of the browser's console
    requests: list[str] = field(default_factory=list)

    def text(self, id: str) -> str:
        return self.page.locator(f"#{id}").inner_text()

    @property
    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id"))

    def choose(self, name: str, data: bytes) -> None:
        """Pick a file as the file dialog does, and wait until the page has read it."""
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        self.page.set_input_files("#file", [file])  # type: ignore[list-item]
        expect(self.page.locator("#file")).to_have_value("", timeout=DONE_TIMEOUT_MS)

    def quick(self, steps: int = 4) -> None:
        """Ask for 64 px and few steps, so that an edit takes a moment."""
        self.page.locator("#more > summary").click()
        self.page.select_option("#size", "64")
        self.page.fill("#num_inference_steps", str(steps))

    def wait_for(self, state: str) -> None:
        """`state`: empty, ready, running, done."""
        self.page.wait_for_selector(f'[data-state="{state}"]', timeout=DONE_TIMEOUT_MS)

    def edit(self, instruction: str) -> None:
        self.page.fill("#prompt", instruction)
        self.page.locator("#edit").click()
        self.wait_for("done")

    def on_page(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the photograph, in shares of its sides, lies on the page in px."""
        self.page.locator("#frame").scroll_into_view_if_needed()
        box = self.page.locator("#frame").bounding_box()
        assert box is not None
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    def paint(self, *points: tuple[float, float]) -> None:
        """Draw a stroke along these points with the mouse."""
        mouse = self.page.mouse
        mouse.move(*self.on_page(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.on_page(*point), steps=5)
        mouse.up()

    def shown(self) -> bytes:
        """The edited image file on the page."""
        with self.page.expect_download() as download:
            self.page.locator("#download").click()
        return download.value.path().read_bytes()

    def check(self) -> None:
        """What holds whatever was done: nothing left the origin, nothing was complained of."""
        foreign = [u for u in self.requests if not u.startswith((self.origin, "blob:"))]
        assert not foreign and not self.complaints, (foreign, self.complaints)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium. It ends with the module: its event loop would disturb others'."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (make browser)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """open_page(url, viewport=PHONE, locale="zh-CN", expected=("503",)) -> Visit. `expected`: what
    complaints may contain."""
    visits: list[Visit] = []

    def open(url: str, *, expected: tuple[str, ...] = (), **context: object) -> Visit:
        page = chromium.new_context(**{"viewport": WIDE, **context}).new_page()  # type: ignore[arg-type]
        visit = Visit(page, url)

        def complain(text: str) -> None:
            if not any(part in text for part in expected):
                visit.complaints.append(text)

        page.on("console", lambda message: complain(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complain(f"{error}"))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.goto(url)
        page.wait_for_selector("#model:not(:empty), #error-key:not(:empty)")
        visits.append(visit)
        return visit

    yield open
    for visit in visits:
        visit.check()
        visit.page.context.close()


@pytest.fixture
def visit(open_page: Open, server: Server) -> Visit:
    return open_page(server.url)
