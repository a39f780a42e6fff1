"""WeChat's web server as far as itchat speaks with it, on loopback, and the people behind it.

Each login gives everybody another UserName, as the real one does; messages wait in a log, and a client says by its
SyncKey up to where it has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import html
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.testing import PATIENCE, FarEnd, Shown, TestHost
from adapters.text import utf16_length
from adapters.wechat_itchat.adapter import ItchatAdapter
from adapters.wechat_itchat.library import itchat
from adapters.wechat_itchat.settings import ItchatSettings

FIRST_ID = 4_527_161_293_210_034_000
ME = "me"


@dataclass(frozen=True)
class Someone:
    """A person or an official account, as the server knows them."""

    nickname: str
    remark: str = ""
    alias: str = ""
    signature: str = ""
    friend: bool = True
    official: bool = False


@dataclass
class Event:
    """One thing in the log; `who` and `to` are short names, made into this login's UserNames when it is fetched."""

    number: int
    who: str
    to: str
    kind: int
    content: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    contact: str = ""  # of a contact that changed, instead of a message


@dataclass(frozen=True)
class Sending:
    """A message that the client sent."""

    number: str
    to: str
    text: str
    at: float


class ItchatFarEnd(FarEnd):
    """The server. `auto_scan` lets somebody scan and confirm each code at once."""

    can = frozenset({"group", "recall", "join", "owner_writes", "cut", "acknowledge"})
    limit_in = staticmethod(utf16_length)

    def __init__(self, folder: Path, *, auto_scan: bool = True) -> None:
        self.folder = folder
        self.auto_scan = auto_scan
        self.people = {
            ME: Someone("Bot"),
            "alice": Someone("Alice", signature="hi"),
            "bob": Someone("Bob"),
            "news": Someone("Daily News", official=True),
        }
        self.groups = {"club": ["me", "alice", "bob"]}
        self.group_names = {"club": "The Club"}
        self.cards: dict[tuple[str, str], str] = {}  # (group, person) -> their name there
        self.log: list[Event] = []
        self.sent: list[Sending] = []
        self.requests: list[str] = []
        self.synced: list[int] = []  # the SyncKey of each webwxsync
        self.had = 0  # up to where the client says that it has the log
        self.codes: list[tuple[str, float]] = []
        self.accepted: list[dict[str, Any]] = []
        self.state = "waiting"  # of the code
        self.logins = 0
        self.login_over = False
        self.barred = False
        self.init_refused = 0
        self.send_answer = 0
        self.answering: Callable[[], Awaitable[None]] | None = None  # called before webwxsendmsg is answered
        self.down = False
        self.hosts: list[TestHost] = []
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self._attended = asyncio.Event()  # the client waits for news
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._url = ""

    async def __aenter__(self) -> ItchatFarEnd:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._before = itchat.config.BASE_URL
        itchat.config.BASE_URL = self._url
        return self

    async def __aexit__(self, *error: object) -> None:
        itchat.config.BASE_URL = self._before
        assert self._server is not None
        self._server.close()
        self.down = True
        self._hang_up()
        self._tell()
        if self._serving:
            await asyncio.wait(self._serving)

    # ---- what the contract's tests ask for

    def adapter(self, **changes: Any) -> ItchatAdapter:
        settings = ItchatSettings(**{"accept_ban_risk": True, "qr_pause": 0.05, **changes})
        self.hosts.append(TestHost("tester", self.folder))
        self.host = self.hosts[-1]
        return ItchatAdapter(settings, self.host, first_pause=0.05, poll_pause=0.02)

    def lasting(self, username: str) -> str:
        """The id that the adapter gave, as it is on disk."""
        (path,) = self.folder.glob("people-*.json")
        found: str = json.loads(path.read_bytes())["names"][username]
        return found

    def chat_id(self, chat: str) -> str:
        return self.lasting(self.username(chat))

    def person_id(self, person: str) -> str:
        return self.lasting(self.username(person))

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        await self.attended()
        mentioned = f"@{self.cards.get((chat, ME)) or self.people[ME].nickname}\u2005{text}"
        return self.put(chat, person, 1, mentioned if mention else text)

    async def again(self, message: str) -> None:
        self._append(next(event for event in self.log if str(event.number) == message))

    async def own(self, text: str, *, chat: str = "alice") -> None:
        number = next(one.number for one in self.sent if one.text == text)
        self._append(Event(int(number), ME, chat, 1, text))

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        await self.attended()
        return self.put(chat, person, 7777, "what is this")

    def shown(self, chat: str = "alice") -> list[Shown]:
        return [Shown(one.number, one.text) for one in self.sent if one.to == chat]

    def acknowledged(self) -> list[str]:
        return [str(event.number) for event in self.log[: self.had]]

    async def recall(self, message: str, *, chat: str = "alice", person: str = "alice") -> None:
        await self.attended()
        self.put(chat, person, 10002, revoke(message, self.people[person].nickname))

    async def join(self, *, chat: str, person: str) -> None:
        await self.attended()
        self.people.setdefault(person, Someone(person.title(), friend=False))
        self.groups[chat].append(person)
        self.put(chat, "", 10000, f'"{self.people["bob"].nickname}"邀请"{self.people[person].nickname}"加入了群聊')

    async def owner_writes(self, text: str, *, chat: str = "alice") -> None:
        await self.attended()
        self.put(chat, ME, 1, text)

    async def cut(self) -> None:
        self.down = True
        self._hang_up()

    async def mend(self) -> None:
        self.down = False

    # ---- what people and the server do beside that

    async def attended(self) -> None:
        """Wait until the client is logged in and waits for news."""
        async with asyncio.timeout(PATIENCE):
            await self._attended.wait()

    def put(
        self,
        chat: str,
        person: str,
        kind: int,
        content: str = "",
        without: tuple[str, ...] = (),
        number: int | None = None,
        **fields: Any,
    ) -> str:
        """Something arrives in `chat`, from `person` ("" for the server's own notes)."""
        number = number or FIRST_ID + next(self._numbers)
        to = chat if person == ME or chat in self.groups else ME
        self._append(Event(number, person, to, kind, content, fields, without))
        return str(number)

    def meet(self, person: str, someone: Someone) -> None:
        """A new friend: the server tells of a changed contact."""
        self.people[person] = someone
        self._append(Event(0, person, ME, 0, contact=person))

    def end_login(self) -> None:
        """The phone logs the web session out."""
        self.login_over = True
        self._tell()

    def scan(self, state: str = "confirmed") -> None:
        """Somebody scans the code ("scanned"), confirms it, or it expires ("expired")."""
        self.state = state
        self._tell()

    def username(self, name: str) -> str:
        """What the server calls `name` in this login."""
        digest = hashlib.sha256(f"{name} {self.logins}".encode()).hexdigest()
        return ("@@" if name in self.groups else "@") + digest

    def _name(self, username: str) -> str:
        return next((one for one in (*self.people, *self.groups) if self.username(one) == username), username)

    def _append(self, event: Event) -> None:
        self.log.append(event)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _hang_up(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    # ---- the wire

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        if task := asyncio.current_task():
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not self.down:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    length = next(
                        (
                            int(line.split(":")[1])
                            for line in head.split("\r\n")
                            if line.lower().startswith("content-le")
                        ),
                        0,
                    )
                    body = await reader.readexactly(length)
                    _, target, _ = head.split("\r\n")[0].split(" ")
                    answer, cookies = await self._answer(target, body)
                    if self.down:
                        break
                    lines = [
                        "HTTP/1.1 200 OK",
                        f"Content-Length: {len(answer)}",
                        *(f"Set-Cookie: {c}; Path=/" for c in cookies),
                    ]
                    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer)
                    await writer.drain()
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, target: str, body: bytes) -> tuple[bytes, list[str]]:
        parts = urlsplit(target)
        name = parts.path.rsplit("/", 1)[-1]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append(name)
        if name == "webwxnewloginpage":
            return self._new_login()
        if name in ("jslogin", "login", "synccheck"):
            return (await getattr(self, f"_{name}")(query)).encode(), []
        method = getattr(self, f"_{name}", None)
        if method is None:
            return b"", []
        return json.dumps(await method(json.loads(body) if body else {}, query), ensure_ascii=False).encode(), []

    async def _jslogin(self, query: dict[str, str]) -> str:
        uuid = f"code{len(self.codes) + 1}=="
        self.codes.append((uuid, asyncio.get_running_loop().time()))
        self.state = "confirmed" if self.auto_scan else "waiting"
        return f'window.QRLogin.code = 200; window.QRLogin.uuid = "{uuid}";'

    async def _login(self, query: dict[str, str]) -> str:
        if self.state == "waiting":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 0.3)
        if self.state == "confirmed" and query["uuid"] == self.codes[-1][0]:
            return (
                f'window.code=200;\nwindow.redirect_uri="{self._url}/cgi-bin/mmwebwx-bin/webwxnewloginpage?ticket=t";'
            )
        return f"window.code={ {'waiting': 408, 'scanned': 201}.get(self.state, 400) };"

    def _new_login(self) -> tuple[bytes, list[str]]:
        if self.barred:
            return "<error><ret>1203</ret><message>不能登录网页微信</message></error>".encode(), []
        self.logins += 1
        self.login_over = False
        self._attended.clear()
        return b"<error><ret>0</ret></error>", [f"wxsid=sid{self.logins}", "wxuin=211722515"]

    def _valid(self, body: dict[str, Any]) -> bool:
        return not self.login_over and body["BaseRequest"]["Sid"] == f"sid{self.logins}"

    async def _webwxinit(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        code = self.init_refused or (0 if self._valid(body) else 1100)
        user = self._contact(ME) if not code else {"UserName": "", "NickName": "", "VerifyFlag": 0}
        return {
            "BaseResponse": {"Ret": code},
            "User": user,
            "InviteStartCount": 40,
            "SyncKey": self._key(len(self.log)),
            "ContactList": [],
        }

    async def _webwxstatusnotify(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        return {"BaseResponse": {"Ret": 0}, "MsgID": "1"}

    async def _webwxgetcontact(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        known = [name for name, one in self.people.items() if one.friend]
        return {"BaseResponse": {"Ret": 0}, "Seq": 0, "MemberList": [self._contact(name) for name in known]}

    async def _webwxbatchgetcontact(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        names = [self._name(one["UserName"]) for one in body["List"]]
        found = [
            self._group(one) if one in self.groups else self._contact(one) for one in names if not one.startswith("@")
        ]
        return {"BaseResponse": {"Ret": 0}, "Count": len(found), "ContactList": found}

    async def _synccheck(self, query: dict[str, str]) -> str:
        position = int(query["synckey"].split("_")[1])
        self._attended.set()
        self.had = max(self.had, position)
        if position >= len(self.log) and not self.login_over and query["sid"] == f"sid{self.logins}":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 25)
        if self.login_over or query["sid"] != f"sid{self.logins}":
            return 'window.synccheck={retcode:"1100",selector:"0"}'
        return f'window.synccheck={{retcode:"0",selector:"{2 if position < len(self.log) else 0}"}}'

    async def _webwxsync(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        if not self._valid(body):
            return {"BaseResponse": {"Ret": 1100}}
        position = body["SyncKey"]["List"][0]["Val"]
        self.synced.append(position)
        news, key = self.log[position:], self._key(len(self.log))
        return {
            "BaseResponse": {"Ret": 0},
            "AddMsgList": [self._message(event) for event in news if not event.contact],
            "ModContactList": [self._contact(event.contact) for event in news if event.contact],
            "SyncKey": key,
            "SyncCheckKey": key,
        }

    async def _webwxsendmsg(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        if not self._valid(body):
            return {"BaseResponse": {"Ret": 1101}}
        if self.send_answer:
            return {"BaseResponse": {"Ret": self.send_answer}}
        number = str(FIRST_ID + next(self._numbers))
        message, now = body["Msg"], asyncio.get_running_loop().time()
        self.sent.append(Sending(number, self._name(message["ToUserName"]), message["Content"], now))
        if self.answering:
            await self.answering()
        return {"BaseResponse": {"Ret": 0}, "MsgID": number, "LocalID": str(message["LocalID"])}

    async def _webwxverifyuser(self, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        self.accepted.append(body)
        name = self._name(body["VerifyUserList"][0]["Value"])
        self.people[name] = replace(self.people[name], friend=True)
        return {"BaseResponse": {"Ret": 0}}

    def _key(self, position: int) -> dict[str, Any]:
        return {"Count": 1, "List": [{"Key": 1, "Val": position}]}

    def _contact(self, name: str) -> dict[str, Any]:
        one = self.people[name]
        return {
            "UserName": self.username(name),
            "NickName": html.escape(one.nickname, quote=False),
            "RemarkName": one.remark,
            "Alias": one.alias,
            "Signature": one.signature,
            "Uin": 0,
            "Sex": 0,
            "VerifyFlag": 8 if one.official else 0,
            "ContactFlag": 3 if one.friend else 0,
        }

    def _group(self, name: str) -> dict[str, Any]:
        members = [
            {
                "UserName": self.username(one),
                "NickName": html.escape(self.people[one].nickname, quote=False),
                "DisplayName": self.cards.get((name, one), ""),
                "Uin": 0,
            }
            for one in self.groups[name]
        ]
        whole = {**self._contact(ME), "UserName": self.username(name), "NickName": self.group_names[name]}
        return {**whole, "EncryChatRoomId": f"@room{self.logins}", "MemberList": members, "ContactFlag": 2}

    def _message(self, event: Event) -> dict[str, Any]:
        content = html.escape(event.content, quote=False).replace("\n", "<br/>")
        sender, to = event.who, event.to
        if to in self.groups and sender != ME:  # a group speaks, and names the member in the text
            content = f"{self.username(sender)}:<br/>{content}" if sender else content
            sender, to = to, ME
        message = {
            "MsgId": str(event.number),
            "NewMsgId": event.number,
            "FromUserName": sender if sender == "fmessage" else self.username(sender),
            "ToUserName": to if to == "filehelper" else self.username(to),
            "MsgType": event.kind,
            "Content": content,
            "Status": 3,
            "Url": "",
            "AppMsgType": 0,
            "FileName": "",
            "MediaId": "",
            "Ticket": "",
            "StatusNotifyUserName": "",
            "RecommendInfo": {"UserName": ""},
            **event.fields,
        }
        return {name: value for name, value in message.items() if name not in event.without}


def revoke(message: str, nickname: str) -> str:
    """What a recall holds: a short number of no use here, and the message's."""
    said = f'<replacemsg><![CDATA["{nickname}" 撤回了一条消息]]></replacemsg>'
    inner = f"<oldmsgid>1057920614</oldmsgid><msgid>{message}</msgid>{said}"
    return f'<sysmsg type="revokemsg"><revokemsg><session>wxid_x</session>{inner}</revokemsg></sysmsg>'
