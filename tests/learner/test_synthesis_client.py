"""Against a real server on loopback: what is tried again, what is not, what a call may cost, and where no key shows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.client import Client, Endpoint, Halt, retry_after
from learner.corpus.synthesis.errors import (
    BudgetReached,
    EndpointDown,
    EndpointRefused,
    Interrupted,
    ItemFailed,
    SynthesisError,
)
from learner.corpus.synthesis.journal import Journal
from learner.corpus.synthesis.journal import read as journal_of
from learner.corpus.synthesis.spending import Prices, Spending
from learner.corpus.synthesis.wire import Answer, Ask, Drawing
from learner.engine.base import ChatMessage
from tests.openai_far_end import FarEnd, Fault, far_end

KEY = "sk-very-secret-0123456789"


def ask(index: int = 0, text: str = '"dialogue"') -> Ask:
    return Ask("dialogue", index, (ChatMessage("user", f"{text} {index}"),), Drawing(1.0, 100))


async def with_client(server: FarEnd, use: Callable[[Client], Awaitable[Any]], **changes: Any) -> Any:
    endpoint = Endpoint(server.url, "tiny", **{"backoff": 0.01, "tries": 4, "timeout": 5.0, **changes})
    client = Client(endpoint, Halt(), random.Random(0))
    try:
        return await use(client)
    finally:
        await client.close()


async def failure(server: FarEnd, **changes: Any) -> Exception:
    async def use(client: Client) -> Exception:
        with pytest.raises((SynthesisError, ItemFailed)) as raised:
            await client.ask(ask())
        return raised.value

    error: Exception = await with_client(server, use, **changes)
    return error


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(status=429), Fault(status=503, headers={"Retry-After": "0"}), Fault(drop=True)],
    ids=["500", "429", "503", "dropped"],
)
async def test_what_passes_is_asked_again_until_it_is_answered(fault: Fault) -> None:
    with far_end(faults=lambda number, body: fault if number < 3 else None) as server:

        async def use(client: Client) -> tuple[Answer, Client]:
            return await client.ask(ask()), client

        answer, client = await with_client(server, use)
    assert answer.prompt_tokens == 100
    assert (client.traffic.calls, client.traffic.retried) == (4, 3)
    assert client.traffic.uncertain == (3 if fault.drop else 0)


async def test_an_answer_that_is_no_completion_is_asked_for_again() -> None:
    broken = Fault(status=200, body={"weather": "fine"})
    with far_end(faults=lambda number, body: broken if number == 0 else None) as server:
        assert await with_client(server, lambda client: client.ask(ask()))


async def test_a_slow_answer_is_given_up_and_asked_for_again() -> None:
    with far_end(faults=lambda number, body: Fault(delay=1.5) if number == 0 else None) as server:
        assert await with_client(server, lambda client: client.ask(ask()), timeout=0.5)


async def test_retry_after_holds_for_all_calls() -> None:
    told = Fault(status=429, headers={"Retry-After": "1"})
    with far_end(faults=lambda number, body: told if number == 0 else None) as server:

        async def use(client: Client) -> float:
            began = time.monotonic()
            await client.ask(ask(0))
            return time.monotonic() - began

        assert await with_client(server, use) >= 1.0


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    now = 1_000_000_000.0
    assert retry_after("2.5", now) == 2.5
    assert retry_after(formatdate(now + 30, usegmt=True), now) == 30
    assert retry_after(formatdate(now - 30, usegmt=True), now) == 0
    assert [retry_after(header, now) for header in ("", "soon", "-3")] == [0, 0, 0]


async def test_a_wait_that_is_too_long_ends_the_run() -> None:
    with far_end(faults=lambda number, body: Fault(status=429, headers={"Retry-After": "7200"})) as server:
        error = await failure(server)
    assert isinstance(error, EndpointDown)
    assert "120 minutes" in str(error)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=401), "--key-env"),
        (Fault(status=403), "--key-env"),
        (Fault(status=402), "top it up"),
        (Fault(status=404), "--model"),
        (Fault(status=307, headers={"Location": "/elsewhere"}), "final address"),
        (Fault(status=429, body={"error": {"code": "insufficient_quota", "message": "no money"}}), "top it up"),
    ],
    ids=["401", "403", "402", "404", "307", "quota"],
)
async def test_what_can_not_pass_ends_the_run_at_once_and_says_what_to_do(fault: Fault, says: str) -> None:
    with far_end(faults=lambda number, body: fault) as server:
        error = await failure(server)
    assert isinstance(error, EndpointRefused)
    assert says in str(error)
    assert len(server.seen) == 1


async def test_one_request_that_is_refused_is_one_item_and_the_rest_goes_on() -> None:
    filtered = Fault(status=400, body={"error": {"code": "data_inspection_failed", "message": "inappropriate"}})
    with far_end(faults=lambda number, body: filtered if number % 2 == 0 else None) as server:

        async def use(client: Client) -> list[Any]:
            return await asyncio.gather(*(client.ask(ask(i)) for i in range(12)), return_exceptions=True)

        results = await with_client(server, use, concurrency=1)
    assert sum(isinstance(one, Answer) for one in results) == 6
    failed = [one for one in results if isinstance(one, ItemFailed)]
    assert {(one.reason, one.lasting) for one in failed} == {("refused", True)}
    assert "data_inspection_failed" in failed[0].detail


async def test_where_everything_is_refused_the_run_ends() -> None:
    with far_end(faults=lambda number, body: Fault(status=400)) as server:

        async def use(client: Client) -> list[Any]:
            return await asyncio.gather(*(client.ask(ask(i)) for i in range(6)), return_exceptions=True)

        results = await with_client(server, use, concurrency=1)
    assert isinstance(results[4], EndpointRefused)
    assert "max_tokens" in str(results[4])


async def test_a_server_that_is_gone_ends_the_run_after_some_requests() -> None:
    with far_end() as server:
        pass

    async def use(client: Client) -> list[Any]:
        return await asyncio.gather(*(client.ask(ask(i)) for i in range(3)), return_exceptions=True)

    results = await with_client(server, use, concurrency=1, tries=2)
    assert [type(one) for one in results] == [ItemFailed, ItemFailed, EndpointDown]
    assert "same command again" in str(results[2])


async def test_no_more_calls_at_once_than_allowed() -> None:
    with far_end(faults=lambda number, body: Fault(delay=0.05)) as server:

        async def use(client: Client) -> list[Any]:
            return await asyncio.gather(*(client.ask(ask(i)) for i in range(12)))

        await with_client(server, use, concurrency=3)
    assert server.most_under_way == 3


async def test_the_key_is_sent_and_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with far_end(key="another") as server:
        error = await failure(server, key=KEY)
        assert "Incorrect API key provided: Bearer ***" in str(error)
        assert KEY not in str(error)
        assert KEY not in repr(Endpoint(server.url, "tiny", KEY))
        server.key = KEY
        with Journal(tmp_path / "journal.jsonl") as journal:

            async def use(client: Client) -> Answer:
                halt = Halt()
                return await Calls(client, journal, Spending(Prices()), halt, lambda: None).ask(ask())

            await with_client(server, use, key=KEY)
    assert KEY not in (tmp_path / "journal.jsonl").read_text("utf-8")
    assert KEY not in caplog.text


# Behind the journal ------------------------------------------------------------------------------


async def with_calls(server: FarEnd, path: Path, use: Callable[[Calls], Awaitable[Any]], limit: float | None) -> Any:
    with Journal(path) as journal:

        async def work(client: Client) -> Any:
            spending = Spending(Prices(10.0, 10.0), limit)
            return await use(Calls(client, journal, spending, client._halt, lambda: None))

        return await with_client(server, work)


async def test_two_that_ask_the_same_at_once_pay_once(tmp_path: Path) -> None:
    async def use(calls: Calls) -> list[Answer]:
        return await asyncio.gather(*(calls.ask(ask()) for _ in range(5)))

    with far_end() as server:
        answers = await with_calls(server, tmp_path / "j", use, None)
    assert len(server.answered) == 1
    assert len(set(answers)) == 1


async def test_the_budget_is_never_passed_and_counts_over_all_runs(tmp_path: Path) -> None:
    long = '"dialogue"' + "x" * 290  # 100 tokens, as the server will say

    async def use(calls: Calls) -> tuple[float, list[Any]]:
        results = await asyncio.gather(*(calls.ask(ask(i, long)) for i in range(40)), return_exceptions=True)
        return calls.spending.cost, results

    with far_end() as server:  # an answer costs 0.0015, and might cost 0.0021
        spent, results = await with_calls(server, tmp_path / "j", use, 0.0205)
        assert 0.0184 <= spent <= 0.0205
        assert any(isinstance(one, BudgetReached) for one in results)
        answered = len(server.answered)
        assert (await with_calls(server, tmp_path / "j", use, 0.0205))[0] == spent
        assert len(server.answered) == answered
        more, _ = await with_calls(server, tmp_path / "j", use, 0.03)
    assert spent < more <= 0.03
    assert len(server.answered) == len(set(server.answered))


async def test_tokens_are_estimated_where_the_endpoint_does_not_count_them(tmp_path: Path) -> None:
    async def use(calls: Calls) -> Spending:
        await calls.ask(ask())
        return calls.spending

    with far_end(usage=False) as server:
        spending = await with_calls(server, tmp_path / "j", use, None)
    assert spending.estimated
    assert spending.completion_tokens > 20


async def test_an_interrupt_ends_pauses_at_once_and_keeps_what_is_under_way(tmp_path: Path) -> None:
    def fault(number: int, body: dict[str, Any]) -> Fault:
        return Fault(status=500) if "7" in body["messages"][-1]["content"] else Fault(delay=0.5)

    async def use(calls: Calls) -> list[Any]:
        calls.client.endpoint = Endpoint(calls.client.endpoint.base_url, "tiny", backoff=60.0)
        asked = [asyncio.ensure_future(calls.ask(ask(i))) for i in (1, 2, 7)]
        await asyncio.sleep(0.25)
        calls.interrupt()
        return await asyncio.gather(*asked, return_exceptions=True)

    with far_end(faults=fault) as server:
        began = time.monotonic()
        one, two, failing = await with_calls(server, tmp_path / "j", use, None)
    assert isinstance(one, Answer)
    assert isinstance(two, Answer)
    assert isinstance(failing, Interrupted)
    assert time.monotonic() - began < 25
    assert len(journal_of(tmp_path / "j")) == 2
