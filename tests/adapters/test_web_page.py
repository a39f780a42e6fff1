"""The chat page in a real browser, with a pretend bot behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adapters.web.backend import LogLine
from adapters.web.fake import GREETING, FakeBot, serve
from tests.browsers import MARKS, Page, new_browser

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser = new_browser(tmp_path_factory.mktemp("chromium"), "en-US")
    yield browser
    browser.quit()


class Server(threading.Thread):
    """The pretend bot's server in its own thread and loop."""

    def __init__(self, bot: FakeBot, token: str = "", port: int = 0) -> None:
        super().__init__(daemon=True)
        self.bot, self.token, self.port = bot, token, port
        self.address = ""
        self.loop: asyncio.AbstractEventLoop
        self.is_up, self.ending = threading.Event(), asyncio.Event()

    def __enter__(self) -> Server:
        self.start()
        assert self.is_up.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.ending.set)
        self.join(20)

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        async with serve(self.bot, token=self.token, port=self.port) as self.address:
            self.is_up.set()
            await self.ending.wait()


@pytest.fixture
def bot() -> FakeBot:
    return FakeBot(seconds_per_word=0.02)


@pytest.fixture
def page(browser: Any, bot: FakeBot) -> Iterator[Page]:
    browser.get_log("browser")
    with Server(bot) as server:
        page = Page(browser, bot, server.address)
        page.open()
        page.wait(lambda: page.texts(".bubble") == [GREETING])
        yield page
        wrong = [x["message"] for x in browser.get_log("browser") if x["level"] in ("SEVERE", "WARNING")]
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.media()
        browser.get("about:blank")
    assert not wrong


def test_a_chat_streams_and_survives_a_reload(page, bot):
    bot.seconds_per_word = 0.15
    page.say("a b c d e f g h")
    page.wait(lambda: page.count(".bubble.live"))
    page.wait(lambda: page.text(".bubble.live") == "echo: a b c")
    page.browser.refresh()  # in the middle of a reply
    page.wait(lambda: page.text(".bubble.live").startswith("echo: a b c"))
    page.wait(lambda: page.count(".marks") == 1)
    said = ["a b c d e f g h", GREETING, "echo: a b c d e f g h"]
    assert sorted(page.texts(".bubble")) == sorted(said)
    page.browser.refresh()
    page.wait(lambda: page.count(".bubble") == 3)
    assert len(bot.inbound) == 1


def test_a_reply_that_breaks_off_leaves_only_the_notice(page):
    page.say("fail")
    page.wait(lambda: page.text(".notice") == "Something went wrong.")
    page.wait(lambda: page.count(".live, #typing:not([hidden])") == 0)  # the answer to the POST comes beside the event
    assert page.texts(".bubble")[-1] == "fail"


def test_texts_are_only_ever_text(page):
    page.say("<img src=x onerror=alert(1)><b>bold</b>")
    page.wait(lambda: page.count(".marks"))
    assert page.texts(".bubble")[-1] == "echo: <img src=x onerror=alert(1)><b>bold</b>"
    assert page.count("#log img, #log .bubble b") == 0


def test_enter_sends_and_shift_enter_and_composition_do_not(page, bot):
    field = page.all("#text")[0]
    field.send_keys("one", Keys.SHIFT + Keys.ENTER, Keys.NULL, "more")
    page.browser.execute_script(
        "document.getElementById('text').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    time.sleep(0.2)
    assert not bot.inbound
    field.send_keys(Keys.ENTER)
    page.wait(lambda: page.count(".marks"))
    assert bot.inbound[0].text == "one\nmore"


def test_an_offer_grows_and_is_picked_by_click(page, bot):
    bot.seconds_per_word = 0.08
    page.say("two")
    page.wait(lambda: page.count(".card.live .words") == 2 and all(page.texts(".card.live .words")))
    page.shot("offer-growing")
    page.wait(lambda: page.count(".card.pickable") == 2)
    one, two = page.places(".card")
    assert one[1] == two[1]
    page.shot("offer-open")
    page.all(".card")[1].find_element(By.CSS_SELECTOR, ".words").click()
    page.wait(lambda: page.count(".card.chosen") == 1)
    assert "Hey there!" in page.text(".card.chosen")
    assert "Good evening" in page.text(".card.faded")
    assert page.count(".both") == 0
    assert page.count(".marks") == 1
    page.shot("offer-picked")
    page.browser.refresh()
    page.wait(lambda: page.count(".card.chosen"))
    assert [x.verdict for x in bot.inbound[1:]] == ["2"]
    page.click('[data-act="pick2"]')  # again: taken back
    page.wait(lambda: page.count(".offer.open") and not page.count(".card.chosen"))
    assert bot.inbound[-1].verdict == "retract"


def test_a_reply_that_grew_alone_can_end_as_an_offer(page, bot):
    bot.seconds_per_word = 0.05
    page.say("two, late")
    page.wait(lambda: page.text(".bubble.live").startswith("Good evening"))
    page.wait(lambda: page.count(".card.pickable") == 2)
    page.shot("offer-late")
    assert page.count(".live") == 0
    page.all(".card")[1].find_element(By.CSS_SELECTOR, ".words").click()
    page.wait(lambda: page.count(".card.chosen") == 1)
    assert "Hey there!" in page.text(".card.chosen")


def test_an_offer_is_picked_by_typing(page):
    page.offer()
    page.say("1")
    page.wait(lambda: "Good evening" in page.text(".card.chosen"))
    assert page.text(".notice") == "Thanks, noted."


def test_an_offer_is_picked_by_keyboard(page):
    page.offer()
    page.browser.execute_script("document.querySelector('[data-act=pick1]').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.SPACE)
    page.wait(lambda: page.count(".card.chosen"))
    assert page.browser.switch_to.active_element.get_attribute("data-act") == "pick1"


def test_neither_and_both(page, bot):
    page.offer()
    page.click('[data-act="both_bad"]')
    page.wait(lambda: page.count(".card.faded") == 2)
    page.shot("both-bad")
    page.click('[data-act="tie"]')
    page.wait(lambda: page.count('[data-act="tie"][aria-pressed="true"]'))
    assert page.count(".card.faded") == 0
    page.click('[data-act="tie"]')
    page.wait(lambda: not page.count('[data-act][aria-pressed="true"]'))
    assert [x.verdict for x in bot.inbound[1:]] == ["both_bad", "tie", "retract"]


def test_an_open_offer_survives_a_reload_and_an_expired_one_has_no_buttons(page, bot):
    page.offer()
    page.browser.refresh()
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    bot.lines["main"][-1] = replace(bot.lines["main"][-1], offer="expired")
    page.click('[data-act="pick1"]')
    page.wait(lambda: page.count(".offer.expired"))
    assert page.count(".card.pickable, .both, .card.chosen") == 0


def test_ratings_are_shown_and_taken_back(page, bot):
    page.say("hello")
    for act in ("good", "bad"):
        page.click(f'[data-act="{act}"]')
        page.wait(lambda act=act: page.count(f'[data-act="{act}"][aria-pressed="true"]'))
    assert page.count('[aria-pressed="true"]') == 1
    assert page.text("#toast") == "Thanks, noted."
    page.browser.refresh()
    page.wait(lambda: page.count('[data-act="bad"][aria-pressed="true"]'))
    page.click('[data-act="bad"]')
    page.wait(lambda: not page.count('[aria-pressed="true"]'))
    assert [x.verdict for x in bot.inbound[1:]] == ["good", "bad", "retract"]


def test_a_correction_is_written_in_place(page, bot):
    page.say("hello")
    page.click('[data-act="correct"]')
    area = page.browser.switch_to.active_element
    assert area.get_attribute("value") == "echo: hello"
    page.shot("correcting")
    area.send_keys(Keys.CONTROL + "a", Keys.NULL, "Hello to you!")
    page.click('[data-act="save"]')
    page.wait(lambda: "Hello to you!" in page.text(".corrected"))
    assert (bot.inbound[-1].verdict, bot.inbound[-1].correction) == ("correction", "Hello to you!")
    page.shot("corrected")
    page.browser.refresh()
    page.wait(lambda: "Hello to you!" in page.text(".corrected"))
    page.click('[data-act="correct"]')
    page.wait(lambda: not page.count(".corrected"))


def test_what_happens_meanwhile_leaves_a_correction_that_is_being_written(page, bot):
    page.say("hello")
    page.click('[data-act="correct"]')
    area = page.browser.switch_to.active_element
    area.send_keys(Keys.HOME, "Well, ")
    rating = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": '{"rating": "good"}'}
    path = f"api/exchanges/{bot.lines['main'][-1].exchange}/feedback"
    page.browser.execute_script("fetch(arguments[0], arguments[1])", path, rating)  # as another tab would
    page.wait(lambda: page.count('[data-act="good"][aria-pressed="true"]'))
    area.send_keys("he said: ")  # the same field, with its cursor where it was
    assert area.get_attribute("value") == "Well, he said: echo: hello"
    page.click('[data-act="save"]')
    page.wait(lambda: "Well, he said: echo: hello" in page.text(".corrected"))
    assert page.count(".editor") == 0
    assert page.count('[aria-pressed="true"]') == 1


def test_a_long_chat_scrolls_in_its_place_and_the_page_does_not(page, bot):
    lines = [
        LogLine("user" if number % 2 else "assistant", f"line {number}", time.time(), id=f"l{number}")
        for number in range(80)
    ]
    bot.lines["main"] += lines
    page.open()
    page.wait(lambda: page.texts(".bubble")[-1] == "line 79")
    tall = "const box = document.querySelector(arguments[0]); return box.scrollHeight - box.clientHeight"
    assert page.browser.execute_script(tall, "#scroll") > 1_000
    assert page.browser.execute_script(tall, "html") == 0


def test_a_night_is_seen_from_start_to_swap(page, bot):
    bot.refuse_learning = "Night school needs 20 preferences; there are 3."
    page.click("#school")
    page.click("#learn")
    page.wait(lambda: "needs 20" in page.text("#toast"))
    bot.refuse_learning = None
    page.click("#learn")
    page.wait(lambda: page.count("#school.running") and "step" in page.text("#panel"))
    page.shot("night")
    page.wait(lambda: page.text("#lora") == "LoRA 0001")
    page.wait(lambda: page.count("#school-bar[hidden]") and "active" in page.text(".loras"))
    assert "61 %" in page.text("#panel")
    page.shot("after-the-night")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait(lambda: page.count("#panel[hidden]"))


def test_two_tabs_see_the_same(page):
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.open()
    second = page.browser.current_window_handle
    page.browser.switch_to.window(first)
    page.offer()
    page.click('[data-act="pick1"]')
    page.wait(lambda: page.count(".card.chosen"))
    page.browser.switch_to.window(second)
    page.wait(lambda: page.count(".card.chosen") == 1 and page.texts(".bubble.mine") == ["two"])
    page.browser.close()
    page.browser.switch_to.window(first)


def test_after_a_restart_the_page_comes_back_and_nothing_is_sent_twice(browser):
    bot = FakeBot()
    with Server(bot) as server:
        page = Page(browser, bot, server.address)
        page.open()
        page.say("hello")
        page.wait(lambda: page.count(".marks"))
    page.wait(lambda: not page.count("#offline[hidden]"))
    page.say("lost?")
    page.wait(lambda: page.count(".turn.user .error"))
    bot.lines["main"].append(LogLine("notice", "while you were away", time.time(), id="r99"))
    with Server(bot, port=int(server.address.rsplit(":", 1)[1])):
        page.wait(lambda: "while you were away" in page.text(".notice"), 20)
        assert [x.text for x in bot.inbound] == ["hello"]
        page.click(".turn.user .error button")
        page.wait(lambda: page.count(".marks") == 2)
        assert page.count(".turn.user .error") == 0
        assert [x.text for x in bot.inbound] == ["hello", "lost?"]
        browser.get("about:blank")
    browser.get_log("browser")


def test_the_token_is_asked_for_once(browser):
    bot = FakeBot()
    with Server(bot, token="open sesame") as server:
        page = Page(browser, bot, server.address)
        browser.get(server.address)
        page.wait(lambda: page.count("#login:not([hidden])"))
        page.shot("login")
        page.all("#token")[0].send_keys("wrong", Keys.ENTER)
        page.wait(lambda: page.text("#login-error"))
        page.all("#token")[0].send_keys("open sesame", Keys.ENTER)
        page.wait(lambda: page.count("#login[hidden]") and page.count("#log[aria-busy=false]"))
        page.say("hello")
        page.wait(lambda: page.count(".marks"))
        page.open()  # the cookie is enough now
        browser.get("about:blank")
    browser.get_log("browser")


def test_on_a_phone_the_cards_stack_and_nothing_overflows(page):
    page.phone()
    page.browser.refresh()
    page.offer()
    page.say("averyveryveryveryveryveryveryveryveryveryveryveryverylongword" * 3)
    page.wait(lambda: page.count(".marks"))
    one, two = page.places(".card")
    assert one[0] == two[0]
    width = "return document.documentElement.scrollWidth <= innerWidth && {} <= innerWidth"
    assert page.browser.execute_script(width.format("document.getElementById('scroll').scrollWidth"))
    page.shot("phone")
    page.media(prefers_color_scheme="dark")
    page.click("#school")
    page.shot("phone-dark-panel")


def test_a_chinese_browser_reads_chinese(tmp_path, bot):
    browser = new_browser(tmp_path / "zh", "zh-CN")
    try:
        with Server(bot) as server:
            page = Page(browser, bot, server.address)
            page.open()
            page.media(prefers_color_scheme="dark")
            page.say("你好，今天天气怎么样？")
            page.wait(lambda: page.count(".marks"))
            page.click('[data-act="good"]')
            page.wait(lambda: page.count('[data-act="good"][aria-pressed="true"]'))
            page.offer()
            assert page.text(".both") == "都不好都行"
            assert page.text("#school-label") == "夜校"
            page.shot("zh-dark")
            page.click('[data-act="pick1"]')
            page.wait(lambda: page.count(".card.chosen"))
            page.say("谢谢！")
            page.wait(lambda: page.count(".turn.bot") == 4)
            page.shot("zh-dark-picked")
            browser.get("about:blank")
    finally:
        browser.quit()


def test_who_speaks_is_chosen_in_the_header(page, bot):
    assert page.count("#persona[hidden]") == 1
    bot.personas = ("孙悟空", "Somebody Whose Name Goes On and On for Ever")
    page.open()
    page.wait(lambda: page.texts("#persona option") == ["Lamplight", *bot.personas])
    page.wait(lambda: page.texts(".bubble") == [GREETING])
    page.choose("#persona", "孙悟空")
    page.wait(lambda: page.texts(".bubble")[-1] == "孙悟空 here.")
    assert page.count(".marks") == 0  # a greeting is nobody's to judge
    page.open()
    page.wait(lambda: page.value("#persona") == "孙悟空")
    page.phone()
    page.choose("#persona", bot.personas[1])
    page.wait(lambda: page.value("#persona") == bot.personas[1] and page.texts(".bubble")[-1].startswith("Somebody"))
    page.shot("persona-phone")
    assert page.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
