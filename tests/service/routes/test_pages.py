"""The pages in real Chromium, by keyboard alone, over real engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from service.preferences import prompts, tasks
from service.store.models import Labeler
from tests.support.live_service import Running, running_service
from training.artifacts.comparisons import Comparison, Response, from_json
from training.artifacts.files import split_lines

pytestmark = pytest.mark.integration
WAIT = 60_000  # ms; engines share the machine with other tests
Visit = Callable[[str], tuple[Page, str]]


@pytest.fixture
def visit(browser: Browser, arena: Running) -> Iterator[Visit]:
    """Signs a new labeler in by keyboard, opens a page, and returns it with the labeler's pseudonym.

    A page that logs an error or breaks the content security policy fails the test.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(path: str) -> tuple[Page, str]:
        with arena.client() as admin:
            added = admin.post("/admin/labelers", json={"name": f"browser {uuid4().hex}", "group": "people"}).json()
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        expect.set_options(timeout=WAIT)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"{arena.url}{path}")
        assert page.url == f"{arena.url}/sign-in?next={path}"
        page.keyboard.type(added["token"])
        page.keyboard.press("Enter")
        page.wait_for_url(f"{arena.url}{path}")
        return page, added["pseudonym"]

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def stock(running: Running, count: int = 3) -> None:
    rows = [
        {"id": f"{uuid4().hex[:12]}", "prompt": f"how many people are {i}", "user": "someone"} for i in range(count)
    ]
    with running.client() as admin:
        assert admin.post("/admin/prompts", json={"prompts": rows}).json()["imported"] == count


def exported(running: Running, pseudonym: str) -> list[Comparison]:
    with running.client() as admin:
        rows = [from_json(line) for line in split_lines(admin.get("/api/export").text)]
    return sorted((row for row in rows if row.labeler == pseudonym), key=lambda row: row.created or "")


def phase(page: Page, name: str) -> None:
    page.wait_for_selector(f"#desk[data-phase={name}]")


def texts(page: Page) -> list[str]:
    return [text or "" for text in page.locator(".response .text").all_text_contents()]


def shown_texts(row: Comparison) -> list[str]:
    return [row.responses[index].text for index in row.shown or ()]


def judge(page: Page, key: str) -> None:
    phase(page, "open")
    page.keyboard.press(key)
    phase(page, "revealed")


def test_a_comparison_made_by_keyboard_alone_reaches_the_export(visit: Visit, arena: Running) -> None:
    stock(arena)
    page, pseudonym = visit("/compare")
    phase(page, "open")
    with arena.client() as admin:
        served = admin.get("/admin/aliases").json()["aliases"]
    policies = {served["policy/production"], served["policy/candidate"]}
    assert not any(policy in page.content() for policy in policies), "the page names a checkpoint before the vote"
    prompt = page.locator("#messages").inner_text()
    before = page.locator(".response .text").all_inner_texts()
    page.keyboard.press("2")
    phase(page, "revealed")
    names = page.locator(".response .name code").all_text_contents()
    assert set(names) == policies
    assert page.locator(".response.chosen").get_attribute("data-position") == "1"
    page.keyboard.press("Enter")
    phase(page, "open")
    assert not any(policy in page.locator("#desk").inner_text() for policy in policies)

    (row,) = exported(arena, pseudonym)
    assert {response.checkpoint for response in row.responses} == policies
    assert [row.responses[index].checkpoint for index in row.shown or ()] == names
    assert [(row.ranks or ())[index] for index in row.shown or ()] == [2, 1]
    assert row.messages[-1]["content"] == prompt
    assert len(before) == 2
    for response in row.responses:
        assert response.sampling["temperature"] == 1.0
        assert isinstance(response.sampling["seed"], int)
    assert row.labeler_group == "people"
    assert row.guideline == "1"
    assert row.meta["seconds"] > 0


@pytest.mark.parametrize(
    "key, ranks, all_bad", [("ArrowLeft", [1, 2], False), ("t", [1, 1], False), ("b", [1, 1], True)]
)
def test_left_tie_and_both_bad(visit: Visit, arena: Running, key: str, ranks: list[int], all_bad: bool) -> None:
    stock(arena, 1)
    page, pseudonym = visit("/compare")
    judge(page, key)
    (row,) = exported(arena, pseudonym)
    assert [(row.ranks or ())[index] for index in row.shown or ()] == ranks
    assert row.all_bad is all_bad


def test_undo_skip_and_reload(visit: Visit, arena: Running) -> None:
    stock(arena)
    page, pseudonym = visit("/compare")
    phase(page, "open")
    first = texts(page)
    page.reload()
    phase(page, "open")
    assert texts(page) == first, "a reload gives the open task again"
    judge(page, "1")
    page.keyboard.press("u")
    phase(page, "open")
    assert texts(page) == first
    assert exported(arena, pseudonym) == []
    judge(page, "2")
    page.keyboard.press("Enter")
    phase(page, "open")
    page.keyboard.press("s")
    expect(page.locator("[data-action=undo]")).to_be_enabled()
    phase(page, "open")
    (row,) = exported(arena, pseudonym)
    assert [(row.ranks or ())[index] for index in row.shown or ()] == [2, 1]
    assert row.meta["after_reveal"] is True


def test_undo_from_the_next_task_comes_back_to_it(visit: Visit, arena: Running) -> None:
    stock(arena)
    page, pseudonym = visit("/compare")
    judge(page, "1")
    first = texts(page)
    page.keyboard.press("Enter")
    phase(page, "open")
    second = texts(page)
    page.keyboard.press("u")
    expect(page.locator("#status")).to_contain_text("Taken back")
    assert texts(page) == first
    judge(page, "t")
    page.keyboard.press("Enter")
    phase(page, "open")
    assert texts(page) == second
    judge(page, "1")
    assert len(exported(arena, pseudonym)) == 2


def test_a_prompt_of_ones_own(visit: Visit, arena: Running) -> None:
    stock(arena, 1)
    page, pseudonym = visit("/compare")
    phase(page, "open")
    stored = texts(page)
    text = f"who would write {uuid4().hex[:6]}?"
    page.keyboard.press("n")
    page.keyboard.type(text)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#messages")).to_have_text(text)
    judge(page, "1")
    page.keyboard.press("Enter")
    phase(page, "open")
    assert texts(page) == stored, "the task that was put aside comes back"
    (row,) = exported(arena, pseudonym)
    assert row.messages == ({"role": "user", "content": text},)
    assert row.meta["source"] == "typed"


def test_help_opens_and_closes_and_typing_does_not_vote(visit: Visit, arena: Running) -> None:
    stock(arena, 1)
    page, pseudonym = visit("/compare")
    phase(page, "open")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("n")
    page.keyboard.type("1 2 t b")
    page.keyboard.press("Escape")
    phase(page, "open")
    assert exported(arena, pseudonym) == []


def test_output_of_models_and_prompts_is_shown_as_text(visit: Visit, arena: Running) -> None:
    page, pseudonym = visit("/compare")
    attack = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><b>bold</b>"
    prompt_id = uuid4().hex
    prompts.import_rows(arena.store, [{"id": prompt_id, "prompt": f"{attack}?"}])
    with arena.store.session() as session:
        labeler = session.query(Labeler).filter_by(pseudonym=pseudonym).one()
        responses = [Response(attack, "evil<script>window.hacked = 1</script>"), Response(f"{attack}!", "good")]
        session.query(tasks.Task).filter_by(labeler_id=labeler.id, state="open").update({"state": "expired"})
        tasks.open_task(session, labeler.id, "compare", prompt_id, responses, guideline="1", propensity=1.0, minutes=9)
    page.reload()
    phase(page, "open")
    assert sorted(texts(page)) == [attack, f"{attack}!"]
    assert page.locator("#messages").inner_text() == f"{attack}?"
    judge(page, "1")
    assert page.evaluate("window.hacked") is None
    assert page.locator(".text b, .text img, .text script, .name script").count() == 0
    page.goto(f"{arena.url}/results")
    assert page.evaluate("window.hacked") is None


def test_a_ranking_by_keyboard_with_ties_a_rating_and_a_draft(visit: Visit, arena: Running) -> None:
    stock(arena, 1)
    page, pseudonym = visit("/rank")
    phase(page, "open")
    shown = texts(page)
    assert len(shown) == 4
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.keyboard.press("Shift+6")
    page.reload()
    phase(page, "open")
    assert texts(page) == shown
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    phase(page, "revealed")
    (row,) = exported(arena, pseudonym)
    assert [(row.ranks or ())[index] for index in row.shown or ()] == [2, 1, 2, 4]
    assert [(row.ratings or ())[index] for index in row.shown or ()] == [None, None, 6, None]
    assert row.meta["kind"] == "rank"


def test_no_prompts_left_says_so(visit: Visit, arena: Running) -> None:
    page, pseudonym = visit("/compare")
    with arena.store.session() as session:
        labeler = session.query(Labeler).filter_by(pseudonym=pseudonym).one()
        session.query(tasks.Task).filter_by(labeler_id=labeler.id, state="open").update({"state": "skipped"})
        for (prompt_id,) in session.query(prompts.Prompt.id).filter_by(source="imported", retired=None).all():
            if session.query(tasks.Task).filter_by(labeler_id=labeler.id, prompt_id=prompt_id).first() is None:
                two = [Response("a"), Response("b")]
                task, _ = tasks.open_task(
                    session, labeler.id, "compare", prompt_id, two, guideline="1", propensity=None, minutes=1
                )
                task.state = "skipped"
    page.reload()
    phase(page, "empty")
    expect(page.locator("#status")).to_contain_text("No prompts are left")


def test_the_playground_streams_with_a_key(visit: Visit, arena: Running) -> None:
    page, _ = visit("/playground")
    expect(page.locator("#key-form")).to_be_visible()
    page.locator("#key").fill(arena.add_key("generate"))
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_be_enabled()
    page.locator("#text").fill("who are they")
    with page.expect_response("**/v1/chat/completions") as sent:
        page.keyboard.press("Enter")
    assert json.loads(sent.value.request.post_data or "")["stream"] is True
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#log .assistant .text")).not_to_be_empty()


def test_without_an_engine_the_page_says_what_is_missing(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_service(tmp_path_factory.mktemp("bare"), arguments=("--open",)) as bare:
        bare.wait_live()
        page = browser.new_page()
        page.goto(f"{bare.url}/compare")
        page.wait_for_selector("#desk[data-phase=failed]", timeout=WAIT)
        assert "promote a checkpoint" in page.locator("#status").inner_text()
        page.close()
