"""What a browser may do with the page, and what it is kept from, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import BrowserContext, Page, expect

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]

LONG_WAIT = 240_000  # milliseconds, for what loads or computes
ORDER = {"prompt": "a red apple", "size": "64", "steps": 2, "views": 2, "generator": "pixels"}


def test_all_tabs_open_under_the_policy_without_a_complaint(visit: Visit) -> None:
    page = visit()
    for tab in page.get_by_role("tab").all():  # `visit` sees every complaint
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")


def test_no_script_reads_whose_the_page_is(visit: Visit) -> None:
    page = visit()
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("synesthete", True, "Lax")
    seen = page.evaluate("document.cookie + JSON.stringify(localStorage) + document.body.innerHTML")
    assert cookie["value"] not in seen


def test_what_the_page_may_see_another_visitor_may_not(visit: Visit, started: Started) -> None:
    """The page's cookie opens what a program orders with it, and the other way round."""
    page, other = visit(), visit()
    job = page.request.post(f"{started.address}api/jobs", data=ORDER).json()
    path = f"{started.address}api/jobs/{job['id']}"
    until = page.evaluate("Date.now()") + LONG_WAIT
    while page.request.get(path).json()["state"] != "done":
        assert page.evaluate("Date.now()") < until
        page.wait_for_timeout(200)
    picture = f"{started.address}jobs/{job['id']}/picture.png"
    shown = """address => new Promise((seen) => {
        const picture = new Image();
        picture.onload = () => seen(picture.naturalWidth);
        picture.src = address;
    })"""
    assert page.evaluate(shown, picture) == 64
    assert other.request.get(picture).status == 404
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history-gallery button.thumbnail-item")).to_have_count(1)
    other.get_by_role("tab", name="History").click()
    expect(other.locator("#history-status")).to_be_visible()
    expect(other.locator("#history-gallery button.thumbnail-item")).to_have_count(0)


@pytest.fixture
def alone(new_context: Callable[..., BrowserContext], started: Started) -> Page:
    """A page whose complaints are expected."""
    page = new_context().new_page()
    page.goto(started.address, wait_until="domcontentloaded")
    expect(page.locator("#generate")).to_be_visible(timeout=LONG_WAIT)
    return page


def test_a_script_that_somebody_smuggles_in_does_not_run(alone: Page) -> None:
    refused = alone.evaluate(
        """() => new Promise((done) => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                seen.push(event.effectiveDirective);
                if (seen.length === 3) done(seen.sort());
            });
            const put = (markup) => {
                const place = document.createElement("div");
                place.innerHTML = markup;
                document.body.append(place);
            };
            put('<img src="data:," onerror="window.smuggled = 1">');
            const script = document.createElement("script");
            script.textContent = "window.smuggled = 1";
            document.body.append(script);
            fetch("http://evil.example/").catch(() => {});
        })"""
    )
    assert refused == ["connect-src", "script-src-attr", "script-src-elem"]
    assert alone.evaluate("window.smuggled") is None


class Other(BaseHTTPRequestHandler):
    """Another program on this machine, with a page of its own: to a browser the same site."""

    page = b""

    def do_GET(self) -> None:
        """Show the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *said: object) -> None:
        """Say nothing."""


@pytest.fixture
def other(new_context: Callable[..., BrowserContext], started: Started) -> Iterator[Page]:
    """A page of another program in a browser that knows the studio, and holds its cookie."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        Other.page = f"<p>evil</p><iframe src='{started.address}'></iframe>".encode()
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            page = new_context().new_page()
            page.goto(started.address, wait_until="domcontentloaded")
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            yield page
            page.close()
        finally:
            server.shutdown()
            thread.join()


def test_another_program_of_this_machine_cannot_frame_the_page(other: Page) -> None:
    with other.expect_console_message(lambda said: "frame-ancestors" in said.text):
        other.reload()
    assert other.frames[1].locator("#generate").count() == 0


def test_another_program_of_this_machine_cannot_order_or_read(
    other: Page, started: Started
) -> None:
    post = """address => fetch(address, {method: "POST", mode: "no-cors", credentials: "include",
        body: '{"prompt": "a"}'}).then(() => "read", () => "refused")"""
    path = f"{started.address}api/jobs"
    assert other.evaluate(post, path) == "refused"
    origin = {"Origin": other.url.rstrip("/")}
    answer = other.request.post(path, data=ORDER, headers=origin)
    assert (answer.status, answer.json()["code"]) == (403, "origin.foreign")  # cookie or not
    read = "address => fetch(address, {credentials: 'include'}).then(() => 'read', () => 'refused')"
    assert other.evaluate(read, f"{started.address}config") == "refused"


def test_an_upload_that_is_too_large_is_told_in_plain_words(
    alone: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    large = tmp_path_factory.mktemp("large") / "large.png"
    large.write_bytes(b"x" * 27_000_000)
    alone.get_by_role("tab", name="Edit").click()
    alone.locator("#edit-picture input[type=file]").set_input_files(large)
    toast = alone.locator("[data-testid=toast-body]")
    expect(toast.first).to_contain_text("maximum allowed size of 25.0 Mb", timeout=LONG_WAIT)
