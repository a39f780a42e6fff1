"""Gives people and groups ids that last, where the platform's are new at each login. Knows nothing of messages.

What is kept of them is salted hashes, never a name. Whoever can't be told apart from another gets a new id:
to be taken for somebody else is worse than to be forgotten.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from adapters.wechat_itchat import private
from adapters.wechat_itchat.wire import Account, Contact, Group

TRAITS = ("uin", "alias", "remark", "look")  # the surest first
SURE = ("uin", "alias")
STAYS = (*SURE, "look", "room", "name", "members")  # where it is not told any more
SHARED = 0.5  # of the members of a group, to be taken for the same group
Record = dict[str, Any]


def new_id() -> str:
    return uuid.uuid4().hex[:16]


class People:
    """Ids for one account. An id is on disk before anybody gets it."""

    def __init__(self, path: Path, new_id: Callable[[], str] = new_id) -> None:
        self._path = path
        self._new_id = new_id
        self._unclear: list[str] = []
        kept = private.read_json(path)
        self._salt: str = kept.get("salt") or secrets.token_hex(16)
        self._login: str = kept.get("login", "")
        self._names: dict[str, str] = kept.get("names", {})  # of this login: the platform's id -> ours
        self._records: dict[str, Record] = kept.get("records", {})

    def enter(self, account: Account, friends: Iterable[Contact]) -> None:
        """A login began, with these friends. Those whom we knew and who can be told apart keep their ids."""
        if account.login == self._login:
            return
        self._login, self._names = account.login, {}
        contacts = {one.username: one for one in friends}
        for trait in TRAITS:
            self._match(trait, contacts)
        self._save()

    def friend(self, contact: Contact) -> str:
        """The id of a friend, and of the chat with them."""
        found = self._names.get(contact.username) or self._surely(contact)
        return self._settle(contact.username, found, {"kind": "friend", **self._traits(contact)})

    def member(self, group: Group, contact: Contact) -> str:
        """The id of whoever wrote in a group."""
        if contact.friend:
            return self.friend(contact)
        key = self._hash("member", self.group(group), contact.nickname)
        found = self._names.get(contact.username)
        if found is None:
            known = [one for one, record in self._free("member") if key in record["seen"]]
            alike = [one for one in group.members if one.nickname == contact.nickname]
            found = self._only(known, len(alike) < 2, contact.shown_in_group)
        before = self._records[found].get("seen", []) if found else []
        return self._settle(contact.username, found, {"kind": "member", "seen": sorted({*before, key})})

    def group(self, group: Group) -> str:
        """The id of a group."""
        members = sorted({self._hash("in", one.nickname)[:8] for one in group.members})
        record = {
            "kind": "group",
            "uin": self._hash("uin", group.uin),
            "room": self._hash("room", group.room),
            "name": self._hash("name", group.nickname),
            "members": members,
        }
        found = self._names.get(group.username) or self._same_group(record, group.nickname)
        return self._settle(group.username, found, record)

    def username(self, lasting: str) -> str | None:
        """The platform's id in this login; None where they were not met, or not recognised."""
        return next((name for name, one in self._names.items() if one == lasting), None)

    def unclear(self) -> list[str]:
        """The names that could not be told apart since this was asked last."""
        names, self._unclear = self._unclear, []
        return names

    def _match(self, trait: str, contacts: dict[str, Contact]) -> None:
        """Give their ids to those whose `trait` nobody else has. `contacts` keeps the others."""
        ours: dict[str, list[str]] = defaultdict(list)
        theirs: dict[str, list[Contact]] = defaultdict(list)
        for lasting, record in self._free("friend"):
            if record[trait] and not (trait == "look" and record["remark"]):
                ours[record[trait]].append(lasting)
        for contact in contacts.values():
            theirs[self._traits(contact)[trait]].append(contact)
        for value, ids in ours.items():
            found = theirs.get(value, [])
            if len(ids) == len(found) == 1 and self._agree(self._records[ids[0]], found[0]):
                self._names[found[0].username] = ids[0]
                del contacts[found[0].username]
            elif found:
                self._unclear += [one.shown for one in found]

    def _agree(self, record: Record, contact: Contact) -> bool:
        """Nothing that is sure speaks against it."""
        traits = self._traits(contact)
        return all(not record[one] or not traits[one] or record[one] == traits[one] for one in SURE)

    def _surely(self, contact: Contact) -> str | None:
        """Somebody of an earlier login, by what nobody else can have."""
        traits = self._traits(contact)
        found = [one for one, record in self._free("friend") if any(traits[t] and traits[t] == record[t] for t in SURE)]
        return found[0] if len(found) == 1 else None

    def _same_group(self, new: Record, name: str) -> str | None:
        free = list(self._free("group"))
        for trait in ("uin", "room"):
            if sure := [one for one, record in free if new[trait] and record[trait] == new[trait]]:
                return self._only(sure, True, name)
        alike = [one for one, record in free if record["name"] == new["name"] and _shared(record, new) >= SHARED]
        return self._only(alike, True, name)

    def _only(self, known: list[str], alone: bool, name: str) -> str | None:
        """The only one of `known`; several, or several who claim it, are told of."""
        if len(known) == 1 and alone:
            return known[0]
        if known:
            self._unclear.append(name)
        return None

    def _free(self, kind: str) -> Iterator[tuple[str, Record]]:
        """Whom we know and have not met in this login."""
        met = set(self._names.values())
        return ((one, record) for one, record in self._records.items() if one not in met and record["kind"] == kind)

    def _settle(self, username: str, found: str | None, record: Record) -> str:
        """Keep what we know now."""
        lasting = found or self._new_id()
        before = self._records.get(lasting, {})
        if record["kind"] == "member" and before.get("kind") == "friend":
            record = before  # they are a friend elsewhere, which says more
        kept = {name: value or (before.get(name, value) if name in STAYS else value) for name, value in record.items()}
        if before != kept or self._names.get(username) != lasting:
            self._records[lasting] = kept
            self._names[username] = lasting
            self._save()
        return lasting

    def _traits(self, contact: Contact) -> dict[str, str]:
        look = f"{contact.nickname}\n{contact.signature}" if contact.nickname else ""
        values = (contact.uin, contact.alias, contact.remark, look)
        return {trait: self._hash(trait, value) for trait, value in zip(TRAITS, values, strict=True)}

    def _hash(self, *parts: str) -> str:
        """A hash of `parts`, "" where the last is empty."""
        return hashlib.sha256("\0".join((self._salt, *parts)).encode()).hexdigest()[:24] if parts[-1] else ""

    def _save(self) -> None:
        content = {"salt": self._salt, "login": self._login, "names": self._names, "records": self._records}
        private.write_json(self._path, content)


def _shared(one: Record, other: Record) -> float:
    members, others = set(one["members"]), set(other["members"])
    return len(members & others) / max(len(members), len(others), 1)
