"""The page and the terminal pass the suite that every platform passes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest
from web_far import WebFar

from adapters.testing import AdapterContract, running

if sys.platform != "win32":
    from console_far import ConsoleFar


class TestPage(AdapterContract):
    """The contract over real HTTP and its event stream. The page's own look is test_web_page.py's."""

    @pytest.fixture
    async def far(self) -> AsyncIterator[WebFar]:
        async with WebFar() as far:
            yield far

    async def test_what_is_no_text_is_refused_with_a_sentence(self, far: WebFar) -> None:
        async with running(far.adapter()) as heard:
            await far.say("hi")
            answer = await far.client.post("/api/chat/alice/messages", json={"hologram": {"width": 3}})
            assert (answer.status_code, len(heard.all)) == (400, 1)
            assert '{"text": "hello"}' in answer.json()["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
class TestTerminal(AdapterContract):
    """The contract over a real pseudo-terminal."""

    @pytest.fixture
    async def far(self) -> AsyncIterator[ConsoleFar]:
        async with ConsoleFar() as far:
            yield far
