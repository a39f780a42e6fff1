"""One login of itchat, from the code to what arrives. Blocking: one thread listens, another may send.

Knows nothing of who anybody is beyond this login, and of nothing outside the platform. What itchat raises
becomes one of ours here; its own words stay out, because they hold addresses with keys.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import requests

from adapters.wechat_itchat.library import User, itchat, sync_check
from adapters.wechat_itchat.reading import Reader
from adapters.wechat_itchat.session import EndingSession
from adapters.wechat_itchat.wire import (
    Account,
    CodeState,
    Contact,
    Item,
    LoggedOut,
    LoginRefused,
    SendRefused,
    Unreachable,
    Unreadable,
)

logger = logging.getLogger(__name__)

VERSION: str = itchat.VERSION
LOGIN_LINK = "https://login.weixin.qq.com/l/"
QUIET = "0"
BARRED = (
    "the code was confirmed, but WeChat opened no web session (no wxsid cookie): this account is barred from web "
    "logins, often for days or weeks. Log in on the phone and look for a notice there; wait, or use another account"
)


class Client:
    """A Core of its own: two bots share nothing of itchat but its settings."""

    def __init__(self) -> None:
        self._session = EndingSession()
        self._core = itchat.Core()
        self._core.s = self._session
        self._reader = Reader(self._core)

    def hang_up(self) -> None:
        """End what is under way; from any thread. This client can't be used again."""
        self._session.hang_up()

    def fresh_code(self) -> str:
        """The link that a login code holds."""
        with _plainly("no login code"):
            uuid = self._core.get_QRuuid()
        if not uuid:
            raise Unreachable("WeChat's login server gave no code")
        return LOGIN_LINK + uuid

    def code_state(self) -> CodeState:
        """Wait at the server until something happens to the code, or nothing did for a while."""
        with _plainly("no news of the login code"):
            try:
                status = self._core.check_login()
            except KeyError as missing:
                raise LoginRefused(BARRED) from missing
        known: dict[str, CodeState] = {"200": "in", "201": "scanned", "408": "waiting"}
        return known.get(status, "expired")

    def open(self) -> None:
        """After the code is confirmed: fetch who we are and whom we know."""
        with _plainly("the account could not be opened"):
            answer = self._core.web_init()
            code = answer.get("BaseResponse", {}).get("Ret", 0)
            if code or not self._core.storageClass.userName:
                raise LoginRefused(f"WeChat would not open the account (number {code}); scan again, or wait some hours")
            self._core.show_mobile_login()
            self._core.get_contact(True)

    def refresh(self) -> None:
        """Fetch whom we know: what was kept with the login may be old."""
        with _plainly("the contacts could not be fetched"):
            self._core.get_contact(True)

    @property
    def account(self) -> Account:
        """Who is logged in."""
        known = self._core.loginInfo
        return Account(_short(known["wxuin"]), _short(known["wxsid"]), self._reader.my_name)

    def friends(self) -> list[Contact]:
        """All friends."""
        return self._reader.friends()

    @property
    def cursor(self) -> dict[str, Any]:
        """Up to where messages were fetched; set it back and they come again."""
        return {name: copy.deepcopy(self._core.loginInfo[name]) for name in ("SyncKey", "synckey")}

    @cursor.setter
    def cursor(self, value: dict[str, Any]) -> None:
        self._core.loginInfo.update(value)

    def poll(self, wait: bool = True) -> tuple[list[Any], list[Any]]:
        """Messages and changed contacts as they came; with `wait` both empty after a while without any."""
        with _plainly("no news"):
            selector = sync_check(self._core) if wait else None
            if selector == QUIET:
                return [], []
            messages, contacts = self._core.get_msg()
            if messages is not None:
                return messages, contacts or []
        if selector is None:
            raise LoggedOut
        raise Unreachable("WeChat says that there is news and refuses it")

    def changed(self, contact: Any) -> Item | None:
        """Take in a changed contact; an Item where it is a new friend."""
        with _plainly("a contact could not be taken in"):
            return self._reader.changed(contact)

    def read(self, message: Any) -> Item | None:
        """What a message says; None for what is no person's."""
        with _plainly("a message could not be looked up"):
            return self._reader.read(message)

    def send(self, username: str, text: str) -> str:
        """Send plain text; the server's id of it, or "".

        Not by itchat's `send`: that one takes text like "@fil@/etc/passwd" for a file to upload.
        """
        with _plainly("the message was not sent"):
            answer = self._core.send_raw_msg(1, text, username)
            code = int(answer["BaseResponse"].get("Ret", -1000))
            if code <= -1000:
                raise Unreachable(f"the message was not sent (number {code})")
            if code:
                raise SendRefused(code)
            return str(answer.get("MsgID") or "")

    def accept(self, request: Item) -> Contact:
        """Accept a friend request; the new friend."""
        with _plainly("the friend request was not accepted"):
            name = request.person.username
            answer = self._core.add_friend(name, status=3, verifyContent=request.ticket, autoUpdate=False)
            if not answer:
                raise SendRefused(int(answer["BaseResponse"].get("Ret", -1000)))
            return self._reader.known(name) or request.person

    def keep(self) -> dict[str, Any]:
        """What a later `restore` needs, as itchat keeps it."""
        core = self._core
        return {
            "version": VERSION,
            "loginInfo": core.loginInfo,
            "cookies": core.s.cookies.get_dict(),
            "storage": core.storageClass.dumps(),
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Be logged in as when `kept` was made. Raises ValueError where it can't be used."""
        if kept.get("version") != VERSION:
            raise ValueError("it was made by another version of itchat")
        try:
            self._core.loginInfo = kept["loginInfo"]
            me = User(kept["loginInfo"]["User"])
            me.core = self._core
            self._core.loginInfo["User"] = me
            self._core.s.cookies = requests.utils.cookiejar_from_dict(kept["cookies"])
            self._core.storageClass.loads(kept["storage"])
            _ = self.account, self.cursor
        except Exception as error:
            raise ValueError(f"it is not whole ({type(error).__name__})") from error


@contextlib.contextmanager
def _plainly(what: str) -> Iterator[None]:
    """Whatever itchat raises becomes Unreachable; its message is left out, as it may hold keys."""
    try:
        yield
    except (Unreachable, Unreadable, LoggedOut, LoginRefused, SendRefused):
        raise
    except requests.RequestException as error:
        logger.debug("itchat: %s", what, exc_info=True)
        raise Unreachable(f"{what}: WeChat can't be reached ({type(error).__name__})") from None
    except Exception as error:
        logger.debug("itchat: %s", what, exc_info=True)
        raise Unreachable(f"{what}: itchat could not make sense of the answer ({_named(error)})") from None


def _named(error: Exception) -> str:
    """The kind of `error`, and the field where it is a missing one."""
    return f"KeyError: {error.args[0]}" if isinstance(error, KeyError) and error.args else type(error).__name__


def _short(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()[:16]
