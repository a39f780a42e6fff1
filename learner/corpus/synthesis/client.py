"""Asks an OpenAI-compatible endpoint: so many calls at once, again with back-off when it fails for a while.

Knows nothing of what is asked, of journals or of money.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from learner.corpus.synthesis import wire
from learner.corpus.synthesis.errors import EndpointDown, EndpointRefused, ItemFailed, SynthesisError
from learner.corpus.synthesis.wire import Answer, Ask

log = logging.getLogger(__name__)
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
OF_THIS_REQUEST = {400, 413, 422, 451}
UNPAID = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "arrearage", "accountoverdue"}
LONGEST_PAUSE = 900.0  # seconds; a server that asks for more is asked again on another day
DOWN_AFTER = 3  # requests in a row that failed with all their tries


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked. `key` is sent and shown nowhere; `tries` counts the first; times are in seconds."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    concurrency: int = 8
    timeout: float = 180.0
    tries: int = 7
    backoff: float = 1.0  # before the second try; doubles, up to a minute

    def shown(self, text: str) -> str:
        """`text` without the key, which some servers repeat in their complaints."""
        return text.replace(self.key, "***") if self.key else text


@dataclass
class Traffic:
    """What went over the wire. `uncertain`: requests that were sent and whose answer never came; maybe charged."""

    calls: int = 0
    retried: int = 0
    uncertain: int = 0


class Halt:
    """Says that no further call is to be made, and why. Calls under way are waited for: they are paid."""

    def __init__(self) -> None:
        self.reason: SynthesisError | None = None
        self._set = asyncio.Event()

    def stop(self, reason: SynthesisError) -> None:
        """Stop for `reason`; the first one counts."""
        self.reason = self.reason or reason
        self._set.set()

    def check(self) -> None:
        """Raise the reason, when there is one."""
        if self.reason is not None:
            raise self.reason

    async def pause(self, seconds: float) -> None:
        """Sleep, unless and until it is time to stop. Raises the reason."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._set.wait(), seconds)
        self.check()


class Client:
    """One endpoint, asked by many tasks."""

    def __init__(
        self,
        endpoint: Endpoint,
        halt: Halt,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.endpoint = endpoint
        self.traffic = Traffic()
        self._halt = halt
        self._rng = rng
        self._clock = clock
        self._not_before = 0.0
        self._failed_in_a_row = 0
        self._refused_in_a_row: int | None = 0  # None once a call was answered
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        limits = httpx.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency)
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=endpoint.timeout,
            limits=limits,
            verify=endpoint.base_url.startswith(
                "https"
            ),  # loading certificates takes a second that http has no use for
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, ask: Ask, sending: Callable[[], None] = lambda: None) -> Answer:
        """The model's answer. `sending` is called when it is its turn, before anything is sent.

        Raises ItemFailed when this one request can't be answered, SynthesisError when none can.
        """
        async with self._slots:
            why = ""
            self._halt.check()
            sending()
            for attempt in range(self.endpoint.tries):
                await self._halt.pause(self._not_before - self._clock())
                self.traffic.calls += 1
                self.traffic.retried += attempt > 0
                outcome = await self._once(ask)
                if isinstance(outcome, Answer):
                    self._failed_in_a_row, self._refused_in_a_row = 0, None
                    return outcome
                why = outcome
                if attempt + 1 < self.endpoint.tries:
                    await self._halt.pause(self._delay(attempt))
            raise self._gave_up(why)

    def _delay(self, attempt: int) -> float:
        longest = min(60.0, self.endpoint.backoff * 2**attempt)
        return longest * self._rng.uniform(0.5, 1.0)

    def _gave_up(self, why: str) -> Exception:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= DOWN_AFTER:
            return EndpointDown(
                f"{self.endpoint.base_url} does not answer: {why}. "
                "All that was answered is kept: run the same command again when it does"
            )
        return ItemFailed("no answer", f"{why}, {self.endpoint.tries} times")

    async def _once(self, ask: Ask) -> Answer | str:
        """The answer, or why it is worth asking again."""
        url = f"{self.endpoint.base_url.rstrip('/')}/chat/completions"
        try:
            response = await self._http.post(url, json=ask.body(self.endpoint.model))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise EndpointRefused(f"{self.endpoint.base_url} is no address: give --base-url as https://…/v1") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return f"no connection ({type(error).__name__})"
        except httpx.HTTPError as error:
            self.traffic.uncertain += 1
            return f"the connection broke ({type(error).__name__})"
        if response.status_code == 200:
            try:
                return wire.read_answer(ask, response.content)
            except ValueError as error:
                self.traffic.uncertain += 1
                return str(error)
        return self._refused(response)

    def _refused(self, response: httpx.Response) -> str:
        code, message = wire.complaint(response.content)
        status, said = response.status_code, self.endpoint.shown(f"{code} {message}".strip())
        unpaid = code.lower() in UNPAID
        if status in AGAIN and not unpaid:
            self._wait_as_told(response)
            return f"HTTP {status} {said}".strip()
        if status in OF_THIS_REQUEST and not unpaid:
            self._count_refusal(status, said)
            raise ItemFailed("refused", f"HTTP {status}: {said}", lasting=True)
        raise EndpointRefused(f"{self.endpoint.base_url} answers HTTP {status}: {said}. {self._to_do(status, unpaid)}")

    def _count_refusal(self, status: int, said: str) -> None:
        """Where nothing but refusals comes, the fault is not in one request."""
        if self._refused_in_a_row is None:
            return
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= 5:
            raise EndpointRefused(
                f"{self.endpoint.base_url} refused each of the first 5 requests, HTTP {status}: {said}. "
                "Look at model, temperature, max_tokens and extra"
            )

    def _to_do(self, status: int, unpaid: bool) -> str:
        if unpaid or status == 402:
            return "The account has no money left: top it up, then run the same command again"
        if status in (401, 403):
            given = "is wrong, or may not use this model" if self.endpoint.key else "is missing"
            return f"The key {given}: name the environment variable that holds it with --key-env"
        if status in (404, 405):
            return f"Look at --base-url (it often ends in /v1) and at --model ({self.endpoint.model})"
        if 300 <= status < 400:
            return "It redirects elsewhere: give the final address as --base-url"
        return "Look at --base-url"

    def _wait_as_told(self, response: httpx.Response) -> None:
        seconds = retry_after(response.headers.get("Retry-After", ""), self._clock())
        if seconds > LONGEST_PAUSE:
            raise EndpointDown(
                f"{self.endpoint.base_url} asks to wait {seconds / 60:.0f} minutes. "
                "All that was answered is kept: run the same command again then"
            )
        if seconds >= 5:
            log.warning("the endpoint asks to wait %.0f s", seconds)
        self._not_before = max(self._not_before, self._clock() + seconds)

    async def models(self) -> list[str]:
        """The models that the endpoint names. Raises EndpointRefused when it names none."""
        try:
            response = await self._http.get(f"{self.endpoint.base_url.rstrip('/')}/models")
            rows: Any = response.json()["data"] if response.status_code == 200 else []
            names = [str(row["id"]) for row in rows]
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            names = []
        if not names:
            raise EndpointRefused(f"{self.endpoint.base_url} does not say which models it has: name one with --model")
        return names


def retry_after(header: str, now: float) -> float:
    """Seconds to wait by a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); 0 without one."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError):
        return 0.0
