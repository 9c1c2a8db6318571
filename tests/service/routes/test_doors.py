"""Signing in and out, windows and keys of the pages in real Chromium, without engines."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect

from service.app import create_app
from service.labelers import add_labeler
from service.preferences import prompts, tasks
from service.settings import Settings
from service.store.database import Store
from service.store.models import Labeler
from tests.support.live_service import free_port
from training.artifacts.comparisons import Response

pytestmark = pytest.mark.integration
WAIT = 30_000  # ms
Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, local_store: Store) -> Iterator[Serve]:
    """Starts gateways over `local_store` on real ports, as `serve` does; returns their addresses."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(host: str = "127.0.0.1", **values: object) -> str:
        port = free_port()
        settings = Settings.model_validate(
            {"database": f"sqlite:///{tmp_path}/service.db", "host": host, "port": port, **values}
        )
        config = uvicorn.Config(
            create_app(settings),
            host=host,
            port=port,
            log_level="warning",
            forwarded_allow_ips=settings.trusted_proxies,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.05)
        return f"http://{host}:{port}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    yield context
    context.close()


def labeler_in(store: Store) -> tuple[str, str]:
    """The id and sign-in token of a new labeler."""
    with store.session() as session:
        labeler, token = add_labeler(session, uuid4().hex)
        return labeler.id, token


def signed_in(context: BrowserContext, url: str, path: str, token: str) -> Page:
    page = context.new_page()
    page.goto(f"{url}{path}")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}{path}")
    return page


def give(store: Store, labeler_id: str, kind: str = "rank", k: int = 4) -> None:
    name = uuid4().hex
    prompts.import_rows(store, [{"id": name, "prompt": f"{name}?"}])
    with store.session() as session:
        responses = [Response(f"response {i}", "sft-1") for i in range(k)]
        labeler = session.get_one(Labeler, labeler_id)
        tasks.open_task(session, labeler.id, kind, name, responses, guideline="1", propensity=1.0, minutes=9)


def lan_address() -> str:
    """An address of this machine that is not loopback: there, browsers trust no plain HTTP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            address: str = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    return address


def test_signing_in_never_leads_elsewhere(serve: Serve, browser: Browser, local_store: Store) -> None:
    url = serve()
    _, token = labeler_in(local_store)
    for target, path in {
        "/%09/evil.example": "/compare",
        "/%0A/evil.example": "/compare",
        "%2F%2Fevil.example": "/compare",
        "/%5Cevil.example": "/compare",
        "/%252F/evil.example": "/compare",
        "javascript:document.title='hacked'": "/compare",
        "/results": "/results",
    }.items():
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/sign-in?next={target}")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda here: "/sign-in" not in here, timeout=WAIT)
        assert page.url == f"{url}{path}", target
        context.close()


def test_the_page_itself_lets_no_foreign_target_pass(serve: Serve, context: BrowserContext, local_store: Store) -> None:
    """Also where a page came out wrong, the browser's side resolves the target and compares origins."""
    url = serve()
    _, token = labeler_in(local_store)
    foreign = ("//evil.example/x", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)", "https://evil.example")
    for target in foreign:
        page = context.new_page()
        page.goto(f"{url}/sign-in")
        page.locator("#sign-in").evaluate("(form, target) => { form.dataset.target = target; }", target)
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda here: "/sign-in" not in here)
        assert urlsplit(page.url).netloc == urlsplit(url).netloc, target
        assert page.url == f"{url}/compare"
        page.close()
    # Its own origin, and yet a path that begins with two slashes: as a path alone it would be another host.
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    page.locator("#sign-in").evaluate("form => { form.dataset.target = '/x/..//evil.example/y'; }")
    page.locator("#token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda here: "/sign-in" not in here)
    assert page.url == f"{url}//evil.example/y"


def test_over_plain_http_on_a_network_people_sign_in(serve: Serve, context: BrowserContext, local_store: Store) -> None:
    url = serve(lan_address())
    _, token = labeler_in(local_store)
    page = signed_in(context, url, "/results", token)
    assert page.locator("h1").inner_text() == "Results"


def test_a_cookie_that_the_browser_drops_is_said(serve: Serve, context: BrowserContext, local_store: Store) -> None:
    url = serve(lan_address(), public_url="https://lab.example")
    _, token = labeler_in(local_store)
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("did not keep the session")
    expect(page.locator("#status")).to_contain_text("https address")


def test_two_services_on_one_host_keep_their_sessions_and_one_can_sign_out(
    serve: Serve, context: BrowserContext, local_store: Store
) -> None:
    first, second = serve(), serve()
    _, token = labeler_in(local_store)
    _, other = labeler_in(local_store)
    page = signed_in(context, first, "/results", token)
    neighbour = signed_in(context, second, "/results", other)
    page.reload()
    assert page.url == f"{first}/results"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{first}/sign-in")
    page.goto(f"{first}/results")
    assert page.url.startswith(f"{first}/sign-in")
    neighbour.reload()
    assert neighbour.url == f"{second}/results"


def test_a_second_window_breaks_nothing(serve: Serve, context: BrowserContext, local_store: Store) -> None:
    url = serve()
    labeler_id, token = labeler_in(local_store)
    give(local_store, labeler_id)
    page = signed_in(context, url, "/rank", token)
    page.wait_for_selector("#desk[data-phase=open]")
    window = context.new_page()
    window.goto(f"{url}/rank")
    window.wait_for_selector("#desk[data-phase=open]")
    assert window.locator(".response .text").all_inner_texts() == page.locator(".response .text").all_inner_texts()
    for key in "1234":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk[data-phase=revealed]")


def test_arrow_keys_change_a_rank_and_all_bad_says_what_is_dropped(
    serve: Serve, context: BrowserContext, local_store: Store
) -> None:
    url = serve()
    labeler_id, token = labeler_in(local_store)
    give(local_store, labeler_id)
    page = signed_in(context, url, "/rank", token)
    page.wait_for_selector("#desk[data-phase=open]")
    ranks = page.locator(".response").nth(1).locator(".ranks input")
    ranks.nth(0).focus()
    page.keyboard.press("Space")
    expect(ranks.nth(0)).to_be_checked()
    page.keyboard.press("ArrowRight")
    expect(ranks.nth(1)).to_be_checked()
    expect(ranks.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(ranks.nth(0)).to_be_checked()
    page.locator("[data-action=bad]").click()
    expect(page.locator("#status")).to_contain_text("Your ranks are not stored: not every response had one")


FETCH = """
const real = window.fetch;
window.sent = [];
window.fetch = (path, options) => {
  if (path === "/v1/models")
    return Promise.resolve(new Response(JSON.stringify({ data: [{ id: "m", kind: "policy" }] })));
  if (path !== "/v1/chat/completions") return real(path, options);
  window.sent.push(JSON.parse(options.body).messages);
  const piece = 'data: {"choices": [{"delta": {"content": "half an answer"}}]}\\n\\n';
  const stream = new ReadableStream({
    start(controller) {
      if (window.silent) return;
      controller.enqueue(new TextEncoder().encode(piece));
    },
  });
  const ended = new Promise((_, reject) => options.signal.addEventListener("abort", () =>
    setTimeout(() => reject(new DOMException("aborted", "AbortError")), 50)));
  const reader = stream.getReader();
  const relayed = new ReadableStream({
    async pull(controller) {
      try { const { value } = await Promise.race([reader.read(), ended]); controller.enqueue(value); }
      catch (error) { controller.error(error); }
    },
  });
  return Promise.resolve(new Response(relayed));
};
"""


@pytest.mark.parametrize("silent", [False, True])
def test_a_new_chat_forgets_the_answer_that_still_streams(serve: Serve, context: BrowserContext, silent: bool) -> None:
    url = serve(open=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(FETCH)
    page.add_init_script(f"window.silent = {'true' if silent else 'false'};")
    page.goto(f"{url}/playground")
    expect(page.locator("#model")).to_be_enabled()
    page.locator("#text").fill("first")
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    if not silent:
        expect(page.locator("#log")).to_contain_text("half an answer")
    page.locator("#clear").click()
    page.locator("#text").fill("second")
    page.keyboard.press("Enter")
    page.wait_for_function("window.sent.length === 2")
    page.wait_for_timeout(200)
    assert page.evaluate("window.sent[1]") == [{"role": "user", "content": "second"}]
    assert errors == []
    assert page.locator("#log .user .text").all_inner_texts() == ["second"]
    expect(page.locator("#stop")).to_be_visible()
