"""The web adapter over real HTTP: the interface, the events, and who is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from adapters.base import AdapterError, Message, Person, Pressed, Reply, Sent
from adapters.web import WebAdapter
from adapters.web.events import EventHub, frame
from adapters.web.fake import FakeBot, serve
from adapters.web.files import FILES
from adapters.web.guard import Hosts
from adapters.web.wire import MAX_BODY_BYTES, whole_text

JSON = {"content-type": "application/json"}
SAY = "/api/chat/main/messages"


@asynccontextmanager
async def client_of(bot: FakeBot, **options) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(bot, **options) as address,
        httpx.AsyncClient(base_url=address, timeout=20, verify=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.web.guard.FAILURE_SECONDS", 0.01)


@pytest.fixture
def bot() -> FakeBot:
    return FakeBot()


@pytest.fixture
async def client(bot: FakeBot) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(bot) as client:
        yield client


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict]]:
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


async def until(stream: AsyncIterator[tuple[str, dict]], last: str) -> list[tuple[str, dict]]:
    seen = []
    async for event in stream:
        seen.append(event)
        if event[0] == last:
            break
    return seen


# ---- messages


async def test_a_message_is_received_and_answered(client, bot):
    answer = await client.post(SAY, json={"text": "你好"})
    assert answer.status_code == 200
    assert answer.json()["replies"] == [
        {"id": "r1", "exchange": "e2", "text": "echo: 你好", "candidates": None, "answers": "main/n1", "recalled": []}
    ]
    assert bot.inbound == [Message("main/n1", "main", Person("local"), "你好")]


async def test_a_reply_says_what_it_went_by_at_once_and_in_the_log(client):
    await client.post(SAY, json={"text": "my cat is called Mandarin"})
    reply = (await client.post(SAY, json={"text": "remember it?"})).json()["replies"][0]
    assert [(one["role"], one["text"]) for one in reply["recalled"]] == [("user", "my cat is called Mandarin")]
    lines = (await client.get("/api/chat/main/log")).json()["lines"]
    assert lines[-1]["recalled"] == reply["recalled"]
    assert lines[1]["recalled"] == []


async def test_an_offer_has_both_candidates(client):
    reply = (await client.post(SAY, json={"text": "two"})).json()["replies"][0]
    assert len(reply["candidates"]) == 2


async def test_a_retry_with_the_same_id_is_one_message(client, bot):
    first = await client.post(SAY, json={"text": "hi", "id": "a-1"})
    again = await client.post(SAY, json={"text": "hi", "id": "a-1"})
    elsewhere = await client.post("/api/chat/other/messages", json={"text": "hi", "id": "a-1"})
    assert first.json() == again.json() != elsewhere.json()
    assert [x.id for x in bot.inbound] == ["main/a-1", "other/a-1"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "JSON object"),
        (b"", '"text"'),
        (b"{}", '"text"'),
        (b'{"text": 1}', '"text"'),
        (b'{"text": "hi", "id": 1}', '"id"'),
        (b'{"text": "hi", "id": "a/b"}', '"id"'),
    ],
)
async def test_bad_bodies_are_refused_with_a_reason(client, bot, body, said):
    answer = await client.post(SAY, content=body, headers=JSON)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert not bot.inbound


@pytest.mark.parametrize("chat", ["a%20b", "a" * 65, "%E4%BD%A0"])
async def test_bad_chat_names_are_refused(client, bot, chat):
    for answer in (
        await client.post(f"/api/chat/{chat}/messages", json={"text": "hi"}),
        await client.get(f"/api/chat/{chat}/log"),
        await client.get(f"/api/chat/{chat}/events"),
    ):
        assert answer.status_code == 400
    assert not bot.inbound


async def test_a_hundred_thousand_characters_pass_and_more_than_a_megabyte_does_not(client, bot):
    text = "学" * 100_000
    assert (await client.post(SAY, json={"text": text})).status_code == 200
    assert bot.inbound[0].text == text
    refused = await client.post(SAY, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    assert refused.status_code == 413


async def test_lone_surrogates_become_replacement_characters(client, bot):
    answer = await client.post(SAY, content=rb'{"text": "a\ud800b\ud83d\ude00"}', headers=JSON)
    assert answer.status_code == 200
    assert bot.inbound[0].text == "a\ufffdb😀"
    assert whole_text("\udc00") == "\ufffd"


async def test_lone_surrogates_in_a_reply_do_not_break_the_answer_or_the_events():
    assert b"a?b" in frame("reply", {"text": "a\ud800b"})


async def test_before_run_messages_get_503(bot):
    async with client_of(bot, running=False) as client:
        answer = await client.post(SAY, json={"text": "hi"})
        assert answer.status_code == 503
        assert "error" in answer.json()


async def test_a_reply_outlives_the_request_that_asked_for_it():
    bot = FakeBot(seconds_per_word=0.05)
    async with client_of(bot) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(SAY, json={"text": "a b c d e f g h"}, timeout=0.1)
        await asyncio.sleep(0.8)
        assert [line.text for line in bot.lines["main"]] == ["a b c d e f g h", "echo: a b c d e f g h"]


# ---- feedback


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"choice": 1}, "1"),
        ({"choice": 2}, "2"),
        ({"choice": "both_bad"}, "both_bad"),
        ({"choice": "tie"}, "tie"),
        ({"rating": "good"}, "good"),
        ({"rating": "bad"}, "bad"),
        ({"correction": "Better."}, "correction"),
    ],
)
async def test_feedback_is_pressed_and_taken_back(client, bot, body, verdict):
    exchange = (await client.post(SAY, json={"text": "two"})).json()["replies"][0]["exchange"]
    path = f"/api/exchanges/{exchange}/feedback"
    given = (await client.post(path, json={**body, "id": "p1"})).json()
    assert (given["feedback"], len(given["replies"])) == (verdict, 1)
    assert bot.inbound[-1] == Pressed(
        f"main/{exchange}/p1", "main", Person("local"), exchange, verdict, body.get("correction", "")
    )
    assert (await client.delete(path)).json()["feedback"] == ""
    assert bot.inbound[-1].verdict == "retract"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choice": 3},
        {"choice": True},
        {"choice": 1.0},
        {"choice": "1"},
        {"choice": [1]},
        {"choice": None},
        {"rating": "great"},
        {"rating": {}},
        {"correction": "  "},
        {"correction": 5},
        {"choice": 1, "rating": "good"},
    ],
)
async def test_unclear_feedback_is_refused(client, bot, body):
    exchange = (await client.post(SAY, json={"text": "two"})).json()["replies"][0]["exchange"]
    answer = await client.post(f"/api/exchanges/{exchange}/feedback", json=body)
    assert answer.status_code == 400
    assert "choice" in answer.json()["error"]
    assert len(bot.inbound) == 1


async def test_feedback_on_nothing_is_404(client):
    assert (await client.post("/api/exchanges/e99/feedback", json={"choice": 1})).status_code == 404
    assert (await client.delete("/api/exchanges/e99/feedback")).status_code == 404


# ---- what the page reads


async def test_log_status_and_learn(client, bot):
    await client.post(SAY, json={"text": "two"})
    lines = (await client.get("/api/chat/main/log")).json()["lines"]
    assert [(x["role"], x["offer"], len(x["candidates"])) for x in lines] == [
        ("user", "none", 0),
        ("assistant", "open", 2),
    ]
    assert len((await client.get("/api/chat/main/log?limit=1")).json()["lines"]) == 1
    for limit in ("0", "-1", "x", "99999", "٣"):
        assert (await client.get("/api/chat/main/log", params={"limit": limit})).status_code == 400
    status = (await client.get("/api/status")).json()
    assert (status["name"], status["night"], status["loras"]) == ("Lamplight", None, [])
    bot.refuse_learning = "too few records"
    assert (await client.post("/api/learn", json={})).json() == {
        "started": False,
        "reason": "too few records",
    }


async def test_the_page_s_files_are_strict_and_cached_by_content(client):
    for path in FILES:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert b"http://" not in answer.content.replace(b"http://www.w3.org/", b"")
        assert b"https://" not in answer.content
        assert b"innerHTML" not in answer.content


# ---- events


async def test_events_stream_to_every_tab_of_the_chat_and_to_no_other(bot):
    async with client_of(bot) as client:
        async with (
            client.stream("GET", "/api/chat/main/events") as one,
            client.stream("GET", "/api/chat/main/events") as two,
            client.stream("GET", "/api/chat/other/events") as other,
        ):
            assert one.headers["content-type"].startswith("text/event-stream")
            tabs = [events(one), events(two)]
            answer = (await client.post(SAY, json={"text": "a b"})).json()
            seen = [await until(tab, "reply") for tab in tabs]
            assert seen[0] == seen[1]
            told = [data for name, data in seen[0] if name == "message"]
            assert told == [{"id": "main/n1", "text": "a b"}]
            grown = "".join(data["text"] for name, data in seen[0] if name == "delta")
            assert grown == "echo: a b" == seen[0][-1][1]["text"]
            assert {**seen[0][-1][1], "recalled": []} == answer["replies"][0]
            bot.adapter.announce("lora", {"lora": "0007"})
            assert [name for name, _ in await until(events(other), "lora")] == ["ping", "lora"]
            exchange = answer["replies"][0]["exchange"]
            await client.post(f"/api/exchanges/{exchange}/feedback", json={"rating": "good"})
            assert (await until(tabs[0], "feedback"))[-1][1] == {"exchange": exchange, "feedback": "good"}
        await asyncio.sleep(0.1)
        assert len(bot.adapter._hub) == 0


async def test_a_page_opened_in_the_middle_gets_the_reply_whole(bot):
    async with client_of(bot) as client:
        bot.adapter.stream("main", "e1", 1, "Good ")
        bot.adapter.stream("main", "e1", 1, "evening")
        async with client.stream("GET", "/api/chat/main/events") as response:
            seen = await until(events(response), "delta")
            assert seen[-1][1] == {"exchange": "e1", "candidate": 1, "text": "Good evening", "whole": True}
        thanks = Reply("r0", "main", "Thanks.", answers="main/e0/p1")
        assert await bot.adapter.send(thanks) == Sent(("r0",))
        async with client.stream("GET", "/api/chat/main/events") as response:
            await until(events(response), "delta")
        await bot.adapter.send(Reply("r1", "main", "Good evening.", "e1", answers="main/n1"))
        async with client.stream("GET", "/api/chat/main/events") as response:
            bot.adapter.announce("night", {})
            assert [name for name, _ in await until(events(response), "night")] == ["ping", "night"]


async def test_stopping_ends_the_event_streams(bot):
    async with client_of(bot) as client, client.stream("GET", "/api/chat/main/events") as response:
        bot.adapter._hub.close()
        assert [name async for name, _ in events(response)] == ["ping"]


async def test_a_slow_listener_is_dropped_and_a_quiet_one_is_pinged():
    hub = EventHub(ping_seconds=0.02, queue_frames=3)
    slow, quiet = hub.listen("main"), hub.listen("quiet")
    for _ in range(5):
        hub.publish("main", "night", {})
    assert len(hub) == 1
    assert [x async for x in slow.frames()] == [b"retry: 2000\n" + frame("ping", {})]
    frames = quiet.frames()
    assert [await anext(frames), await anext(frames)][1] == frame("ping", {})
    await frames.aclose()


# ---- who is refused


def port_of(client: httpx.AsyncClient) -> int:
    assert client.base_url.port is not None
    return client.base_url.port


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.1.evil.example"])
async def test_a_foreign_host_is_refused(client, bot, host):
    headers = {"host": host.format(port=port_of(client))}
    for answer in (
        await client.post(SAY, json={"text": "hi"}, headers=headers),
        await client.get("/", headers=headers),
    ):
        assert answer.status_code == 421
        assert "allowed_hosts" in answer.json()["error"]
    assert not bot.inbound


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_loopback_names_are_the_bot_s(client, host):
    assert (await client.get("/", headers={"host": f"{host}:{port_of(client)}"})).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://[", "file://", ""])
async def test_a_foreign_origin_is_refused(client, bot, origin):
    for method, path in (
        ("POST", SAY),
        ("GET", "/api/chat/main/log"),
        ("DELETE", "/api/exchanges/e1/feedback"),
    ):
        answer = await client.request(method, path, content=b'{"text": "hi"}', headers={**JSON, "origin": origin})
        assert answer.status_code == 403
    assert not bot.inbound


async def test_the_page_s_own_origin_is_accepted(client):
    headers = {"origin": f"http://127.0.0.1:{port_of(client)}", "sec-fetch-site": "same-origin"}
    assert (await client.post(SAY, json={"text": "hi"}, headers=headers)).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_s_request_without_an_origin_is_refused(client, bot, site):
    headers = {"sec-fetch-site": site}
    assert (await client.post(SAY, json={"text": "hi"}, headers=headers)).status_code == 403
    assert (await client.get("/api/chat/main/events", headers=headers)).status_code == 403
    assert (await client.get("/", headers=headers)).status_code == 200  # following a link to the page
    assert not bot.inbound


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_form_s_content_type_is_refused(client, bot, kind):
    answer = await client.post(SAY, content=b'{"text": "hi"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert not bot.inbound


async def test_requests_with_no_host_or_two_are_refused(client):
    for head in (b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: localhost:1\r\nHost: evil\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        writer.write(head + b"Connection: close\r\n\r\n")
        assert (await reader.readline()).split()[1] in (b"421", b"400")
        writer.close()
        await writer.wait_closed()


def test_listed_hosts_may_stand_behind_a_proxy():
    hosts = Hosts("0.0.0.0", 8765, ("chat.example", "box.lan:8080"))
    assert all(hosts.accepts_host(x, 8765) for x in ("chat.example", "chat.example:8765", "box.lan:8080"))
    assert not any(hosts.accepts_host(x, 8765) for x in ("chat.example:1", "box.lan", "0.0.0.0:8765", "", "a b"))
    assert hosts.accepts_origin("https://chat.example", "chat.example", 8765)
    assert hosts.accepts_origin("https://chat.example", "127.0.0.1:8765", 8765)
    assert not hosts.accepts_origin("https://chat.example:1", "chat.example", 8765)
    with pytest.raises(AdapterError, match="no http://"):
        Hosts("127.0.0.1", 1, ("http://chat.example",))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", ""])
def test_others_can_reach_it_only_with_a_token(bot, host):
    with pytest.raises(AdapterError, match="token"):
        WebAdapter(bot, host=host, port=1, new_id=str)
    WebAdapter(bot, host=host, port=1, token="t", new_id=str)


# ---- with a token


async def test_without_the_token_every_api_route_is_closed(bot, caplog):
    async with client_of(bot, token="s3cret-токен") as client:
        for method, path in (
            ("POST", SAY),
            ("GET", "/api/status"),
            ("POST", "/api/learn"),
            ("GET", "/api/chat/main/events"),
            ("GET", "/api/chat/main/log"),
            ("DELETE", "/api/exchanges/e1/feedback"),
            ("GET", "/api/nothing"),
            ("GET", "/api/login"),
        ):
            answer = await client.request(method, path, headers=JSON)
            assert (path, answer.status_code) == (path, 401)
        assert (await client.get("/")).status_code == 200
        for shown in ("Bearer wrong", "Bearer", "Basic s3cret", "s3cret"):
            answer = await client.get("/api/status", headers={"authorization": shown})
            assert answer.status_code == 401
    assert not bot.inbound
    assert "s3cret" not in caplog.text


async def test_the_token_opens_as_a_header_and_as_a_cookie(bot):
    async with client_of(bot, token="s3cret-токен") as client:
        bearer = {"authorization": "Bearer s3cret-токен".encode()}
        assert (await client.get("/api/status", headers=bearer)).status_code == 200
        for wrong in ("wrong", 5, None, "\ud800"):
            content = json.dumps({"token": wrong}).encode()
            assert (await client.post("/api/login", content=content, headers=JSON)).status_code == 401
        login = await client.post("/api/login", json={"token": "s3cret-токен"})
        cookie = login.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "s3cret" not in cookie
        assert (await client.post(SAY, json={"text": "hi"})).status_code == 200
        assert bot.inbound[0].person == Person("web:main")
        async with client.stream("GET", "/api/chat/main/events") as response:
            assert response.status_code == 200
