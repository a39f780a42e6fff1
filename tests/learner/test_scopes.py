"""A scope is read as it was written, and its words teach it alone."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some
from store_samples import Scene

from learner.scopes import Scope, rest_of
from learner.store import Store
from learner.store.rows import Chats, Place

NAMES = some.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)


@given(NAMES, some.none() | NAMES)
def test_a_scope_is_read_as_it_was_written(mind: str, name: str | None) -> None:
    scope = Scope(mind, name)
    assert Scope.read(str(scope)) == scope
    assert rest_of(str(scope)) == ("base" if name is None else "common")


def test_records_of_some_chats_and_of_all_but_these(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/n.db")
    exchanges = {}
    for chat in ("a", "b", "a:b"):
        scene = Scene(store, Place("bot", "web", chat))
        exchanges[chat] = scene.talk(f"hi {chat}", "one", "two").id
        scene.choose(exchanges[chat], "2")
    other = Scene(store, Place("bot", "web", "c"), mind="other")
    other.choose(other.talk("hi", "one", "two").id, "1", trusted=False)

    def there(chats: Chats) -> set[str]:
        records = store.records("default", chats)
        assert records.left_out == {}  # what others said elsewhere is not left out: it was never meant
        return {pair.provenance.exchange for pair in records.pairs}

    named = frozenset({"web:a", "web:a:b", "web:c", "telegram:b"})
    assert there(Chats(named, but=False)) == {exchanges["a"], exchanges["a:b"]}
    assert there(Chats(named)) == {exchanges["b"]}
    assert there(Chats()) == set(exchanges.values())
    assert there(Chats(frozenset(), but=False)) == set()
    store.close()
