"""What was said before is found again: cut, indexed in step, ranked, kept inside its chat, and forgotten for good."""

from __future__ import annotations

import logging
import random
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, text
from store_samples import PLACE, Scene

from learner.engine.base import ChatMessage
from learner.retrieval import ranking
from learner.retrieval.terms import bot_scope, chat_scope, index_terms, is_dense, query_terms
from learner.store import Store, database, history, memories
from learner.store.rows import ExchangeView, Memory, NewInbound, Place, Search, Turn

GROUP = Place("bot", "web", "group")
ELSEWHERE = Place("bot", "web", "elsewhere")
LATE = 1 << 40
QUICK = settings(max_examples=60, deadline=None)
HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=12)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/n.db")
    yield store
    store.close()


def search(words: str, place: Place = PLACE, **more: Any) -> Search:
    fields: dict[str, Any] = {"before": LATE, "limit": 5, "least_coverage": 0.35, **more}
    return Search("default", place, fields.pop("person", "ann"), words, **fields)


def found(store: Store, words: str, place: Place = PLACE, **more: Any) -> list[str]:
    return [memory.text for memory in store.recall(search(words, place, **more))]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def in_step(c: Connection) -> bool:
    """Whether the index holds every turn as it reads now, and nothing else."""
    c.execute(text("INSERT INTO recall_index (recall_index) VALUES ('integrity-check')"))
    held = {
        row.rowid: (row.scope.split()[0], row.terms) for row in c.execute(text("SELECT rowid, * FROM recall_index"))
    }
    said = {row.id: row for row in c.execute(text("SELECT * FROM turns"))}
    return held == {
        number: (chat_scope(row.bot, row.platform, row.chat), index_terms(row.text)) for number, row in said.items()
    }


# The cutter ----------------------------------------------------------------------------------


@QUICK
@given(st.text(max_size=60))
def test_no_term_holds_anything_that_a_query_could_mean_otherwise(said: str) -> None:
    for term in [*index_terms(said).split(), *query_terms(said)]:
        assert term
        assert all(one.isalnum() if one.isascii() else not one.isspace() for one in term), term


@QUICK
@given(st.text(max_size=40))
def test_what_was_said_word_for_word_is_asked_for_by_terms_of_the_index(said: str) -> None:
    held = index_terms(said).split()
    for term in query_terms(said):
        assert term in held or any(one.startswith(term) for one in held if is_dense(term))


@QUICK
@given(st.text(max_size=5), HAN, st.text(max_size=5))
def test_any_two_characters_of_chinese_are_a_term_and_any_one_begins_one(before: str, words: str, after: str) -> None:
    held = index_terms(f"{before} {words} {after}").split()
    assert {words[at : at + 2] for at in range(len(words) - 1)} <= set(held)
    assert all(any(term.startswith(character) for term in held) for character in unicodedata.normalize("NFKC", words))


@QUICK
@given(st.text(max_size=30))
def test_widths_and_cases_do_not_matter(said: str) -> None:
    assert index_terms(said.upper().lower()) == index_terms(said.upper().lower().casefold())
    wide = "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in said)
    assert index_terms(wide).split() == index_terms(unicodedata.normalize("NFKC", wide)).split()


@pytest.mark.parametrize(
    ("said", "terms"),
    [
        ("我的猫叫橘子。", "我的 的猫 猫叫 叫橘 橘子 子"),
        ("My cats like Café-crème!", "my cat like cafe creme"),
        ("iPhone16手机", "iphone16 手机 机"),
        ("안녕하세요 ｈｉ", "안녕 녕하 하세 세요 요 hi"),
        ("Москва, привет", "москва привет"),
        ("हिन्दी", "हिन्दी"),
        ("🙂 … --", ""),
    ],
)
def test_scripts_are_cut_by_their_own_rules(said: str, terms: str) -> None:
    assert index_terms(said) == terms


def test_a_question_is_asked_for_by_what_it_is_about() -> None:
    assert query_terms("what is the name of my cat?") == ("name", "cat")
    assert query_terms("你还记得我的猫叫什么吗") == ("的猫", "猫叫")
    assert query_terms("what is it") == ("what", "is", "it")
    assert query_terms("猫？") == ("猫",)


def test_places_whose_names_run_together_have_scopes_of_their_own() -> None:
    assert chat_scope("a", "bc", "d") != chat_scope("ab", "c", "d")
    assert chat_scope("a", "b", "c") != bot_scope("a")


# Ranking -------------------------------------------------------------------------------------


def test_coverage_is_the_weighted_share_that_a_text_holds() -> None:
    asked = ranking.question("the name of my cat", {"name": 50, "cat": 2}, 1000)
    assert asked.wanted == ("cat", "name")
    assert asked.coverage("a dog") == 0
    assert 0.5 < asked.coverage("my cat is Mandarin") < 1
    assert asked.coverage("the cat's name is Mandarin") == pytest.approx(1)


def test_an_earlier_question_of_the_same_words_is_no_answer() -> None:
    asked = ranking.question("what is my cat's name", {"name": 3, "cat": 3}, 1000)
    assert asked.coverage("my cat: what's its name?") == 0


def test_common_words_alone_make_nothing_a_memory() -> None:
    counts = {"weather": 300, "zebra": 1, "umbrella": 200}
    asked = ranking.question("weather, zebra, umbrella", counts, 1000)
    assert asked.coverage("nice weather again, no umbrella") == 0
    assert asked.coverage("I saw a zebra in the park") > 0.35
    assert ranking.question("weather?", counts, 1000).coverage("nice weather in June") == 1


def test_the_rarest_terms_of_a_long_message_are_looked_for() -> None:
    words = [f"word{n}x" for n in range(100)]
    asked = ranking.question(" ".join(words), {word: n + 1 for n, word in enumerate(words)}, 10_000)
    assert asked.wanted == tuple(words[: ranking.MOST_TERMS])


def test_two_orders_become_one() -> None:
    assert ranking.fused([["a", "b", "c"], ["b", "d"]]) == ["b", "a", "d", "c"]
    assert ranking.fused([[], ["x"]]) == ["x"]


# Searching -----------------------------------------------------------------------------------


def chatter(scene: Scene, count: int = 20) -> None:
    for number in range(count):
        scene.talk(f"闲聊第{number}句, idle words {number}", "嗯嗯, indeed")


def test_facts_are_found_in_both_scripts(store: Store) -> None:
    scene = Scene(store)
    scene.talk("我家的猫叫橘子", "好可爱的名字")
    scene.talk("My daughter's piano lesson moved to Thursday", "Noted")
    chatter(scene)
    assert found(store, "你还记得我家的猫叫什么名字吗") == ["我家的猫叫橘子"]
    assert found(store, "猫？") == ["我家的猫叫橘子"]
    assert found(store, "when are the piano lessons?") == ["My daughter's piano lesson moved to Thursday"]
    assert found(store, "how is the weather in Lisbon?") == []
    assert found(store, "你好") == []


@pytest.mark.parametrize(
    "words", ["", "…", '"', "a OR b) NOT", "NEAR(cat)", "terms : x", "*", "\0", "\ud800猫", "'; --"]
)
def test_whatever_is_asked_is_no_syntax(store: Store, words: str) -> None:
    scene = Scene(store)
    scene.talk("my cat is called Mandarin", "good")
    assert found(store, words) in ([], ["my cat is called Mandarin"])


def test_a_chat_finds_its_own_and_nothing_else(store: Store) -> None:
    for number in range(30):
        scene = Scene(store, place=Place("bot", "web", f"c{number}"))
        scene.talk(f"the spare key code is {number}00", "fine", person=f"p{number}")
    for number in range(30):
        place = Place("bot", "web", f"c{number}")
        hits = store.recall(search("what is the spare key code?", place, person=f"p{number}"))
        assert [(memory.place, memory.text) for memory in hits] == [(place, f"the spare key code is {number}00")]


def test_no_hit_crosses_chats_whatever_was_said(store: Store) -> None:
    rng = random.Random(0)
    places = [Place(f"bot{b}", "web", f"chat{c}") for b in range(2) for c in range(4)]
    said = ["".join(rng.choices("猫狗鱼鸟树花", k=rng.randrange(1, 8))) for _ in range(200)]
    with store._database.write() as c:
        for words in said:
            history.add(c, "default", rng.choice(places), Turn("user", "ann", words, None, 1.0))
    hits = [(place, hit) for place in places for words in said[:10] for hit in store.recall(loosely(words, place))]
    assert len(hits) > 100
    assert all(hit.place == place for place, hit in hits)


def loosely(words: str, place: Place) -> Search:
    return search(words, place, least_coverage=0.0)


def test_across_says_how_far_a_search_goes(store: Store) -> None:
    Scene(store, place=ELSEWHERE).talk("my locker number is 4711", "ok", person="ann")
    Scene(store, place=GROUP).talk("my locker number is 9999", "ok", person="ben")
    Scene(store, place=Place("other", "web", "w")).talk("my locker number is 1", "ok", person="ann")
    Scene(store, place=Place("bot", "telegram", "x")).talk("my locker number is 2", "ok", person="ann")
    Scene(store, place=Place("bot", "web", "y"), mind="second").talk("my locker number is 3", "ok", person="ann")
    asked = "what is my locker number?"
    assert found(store, asked) == []
    assert found(store, asked, across="person") == ["my locker number is 4711"]
    everywhere = {"my locker number is 4711", "my locker number is 9999", "my locker number is 2"}
    assert set(found(store, asked, across="bot")) == everywhere


def test_only_what_the_prompt_does_not_hold_and_what_a_reset_left(store: Store) -> None:
    scene = Scene(store)
    scene.talk("my locker number is 4711", "ok")
    first = store.history(PLACE, 9)[0].id
    assert found(store, "locker number", before=first) == []
    assert found(store, "locker number", before=first + 1) == ["my locker number is 4711"]
    assert found(store, "locker number", before=None) == []
    store.reset(PLACE, scene.tick())
    assert found(store, "locker number") == []
    scene.talk("the new locker number is 5", "ok")
    assert found(store, "locker number") == ["the new locker number is 5"]


def test_the_same_words_come_once_and_of_equals_the_newest_first(store: Store) -> None:
    scene = Scene(store)
    for number in ("one", "two", "two"):
        scene.talk(f"locker number {number}", "ok")
    chatter(scene)
    assert found(store, "locker number?") == ["locker number two", "locker number one"]


# In step with the log --------------------------------------------------------------------------


def arrive(store: Store, external: str, words: str, at: float = 1.0) -> Any:
    return store.receive("default", NewInbound(PLACE, external, "ann", "Message", {"text": words}, at)).row


def test_an_edit_and_a_recall_reach_the_index(store: Store) -> None:
    scene = Scene(store)
    row = arrive(store, "m1", "my locker number is 4711")
    scene.finish(scene.begin(row), row, "noted")
    chatter(scene)
    store.amend(PLACE, "m1", "my locker number is 5822")
    assert found(store, "locker number") == ["my locker number is 5822"]
    store.amend(PLACE, "m1", None)
    assert found(store, "locker number") == []
    with store._database.read() as c:
        assert in_step(c)


def test_a_chat_that_moves_takes_its_memories_along(store: Store) -> None:
    Scene(store).talk("my locker number is 4711", "ok")
    store.move_chat(PLACE, "new")
    assert found(store, "locker number") == []
    assert found(store, "locker number", Place("bot", "web", "new")) == ["my locker number is 4711"]


STEPS = ("talk", "talk", "offer", "correct", "choose", "edit", "recall", "move", "reset", "forget")


@pytest.mark.parametrize("seed", range(3))
def test_the_index_is_in_step_after_whatever_happened(store: Store, seed: int) -> None:
    rng, scene, shown = random.Random(seed), Scene(store), list[ExchangeView]()
    for _ in range(40):
        words, person = "".join(rng.choices("猫狗鱼鸟树花", k=6)), rng.choice(["p0", "p1"])
        last = store.exchange(shown[-1].id) if shown else None
        kind = rng.choices(STEPS, weights=[4, 4, 3, 2, 2, 2, 1, 1, 1, 0.5])[0]
        if kind in ("talk", "offer"):
            shown.append(scene.talk(words, *(("是的", "不是") if kind == "offer" else ("好",)), person=person))
        elif kind == "correct" and last is not None:
            scene.correct(last.id, words, f"web:{person}")
        elif kind == "choose" and last is not None and last.offer == "open":
            scene.choose(last.id, "2", f"web:{person}")
        elif kind in ("edit", "recall"):
            store.amend(PLACE, f"chat-m{rng.randrange(30)}", words if kind == "edit" else None)
        elif kind == "move":
            store.move_chat(PLACE, "elsewhere")
            store.move_chat(ELSEWHERE, "chat")
        elif kind == "reset":
            store.reset(PLACE, scene.tick())
        elif kind == "forget":
            store.forget(f"web:{person}")
        with store._database.write() as c:
            assert in_step(c), kind


def test_a_statement_of_whoever_writes_the_tables_is_followed_too(store: Store) -> None:
    Scene(store).talk("my locker number is 4711", "ok")
    with store._database.write() as c:
        c.execute(text("UPDATE turns SET text = 'my bike is green' WHERE role = 'user'"))
        assert in_step(c)
        c.execute(text("DELETE FROM exchanges"))
        assert in_step(c)


# Forgetting ------------------------------------------------------------------------------------


def test_forgetting_leaves_no_term_in_any_file(store: Store, tmp_path: Path) -> None:
    scene = Scene(store)
    scene.talk("my cat Zanzibarina likes 榴莲糯米糍", "Zanzibarina sounds lovely")
    Scene(store, place=GROUP).talk("Zanzibarina again, from ann", "oh", person="ann")
    Scene(store, place=ELSEWHERE).talk("my parrot is called Quetzalino", "nice", person="ben")
    assert b"zanzibarina" in bytes_of(tmp_path)
    assert store.forget("web:ann").files_clean
    left = bytes_of(tmp_path).lower()
    for words in ("zanzibar", "榴莲", "莲糯", "糯米", "糍"):
        assert words.encode() not in left
    with store._database.read() as c:
        terms = {row.term for row in c.execute(text("SELECT term FROM recall_vocabulary"))}
        assert in_step(c)
    assert not {one for one in terms if one.startswith(("zanz", "榴", "莲", "糯", "米", "糍"))}
    assert found(store, "what is the parrot called?", ELSEWHERE) == ["my parrot is called Quetzalino"]


def recalling(scene: Scene, asked: str, memory: int, prompt: tuple[ChatMessage, ...]) -> str:
    """An exchange whose prompt was given the turn `memory`."""
    row = scene.arrive(asked, "ben")
    exchange = scene.begin(row, prompt)
    with scene.store._database.write() as c:
        memories.note(c, exchange, [memory])
    scene.finish(exchange, row, "it is as you said")
    scene.say(exchange, "rating", "good", "web:ben")
    return exchange


def test_what_was_given_the_forgottens_words_does_not_train_wherever_it_was(store: Store) -> None:
    scene = Scene(store, place=GROUP)
    scene.talk("好", "嗯", person="ann")
    memory = store.history(GROUP, 9)[0].id
    prompt = (ChatMessage("system", "Said earlier:\n- 2026-01-01 ann, cut to nothing that can be found again"),)
    exchange = recalling(Scene(store, place=ELSEWHERE), "what did ann say?", memory, prompt)
    assert len(store.records("default").ratings) == 1
    forgotten = store.forget("web:ann")
    assert exchange in forgotten.exchanges
    assert store.records("default").ratings == ()
    view = store.exchange(exchange)
    assert view is not None
    assert (view.prompt, view.prompt_ids, view.recalled) == ((), (), ())


def test_what_was_given_words_that_are_taken_back_does_not_train(store: Store) -> None:
    scene = Scene(store)
    row = arrive(store, "m1", "my locker number is 4711")
    scene.finish(scene.begin(row), row, "noted")
    memory = store.history(PLACE, 9)[0].id
    exchange = recalling(Scene(store, place=ELSEWHERE), "number?", memory, (ChatMessage("user", "number?"),))
    view = store.exchange(exchange)
    assert view is not None
    assert [one.text for one in view.recalled] == ["my locker number is 4711"]
    store.amend(PLACE, "m1", None)
    view = store.exchange(exchange)
    assert view is not None
    assert view.recalled == ()
    assert store.records("default").ratings == ()


# Databases that are there -----------------------------------------------------------------------


def old_database(file: Path, turns: int) -> None:
    """A database of the version before this, with so many turns."""
    engine = create_engine(f"sqlite:///{file}")
    event.listen(engine, "connect", database._on_connect)
    event.listen(engine, "begin", database._on_begin)
    values = "VALUES ('default', 'bot', 'web', 'chat', 'user', 'ann', :text, 1.0)"
    with engine.begin() as c:
        database.upgrade(c, "0002")
        c.execute(
            text(f"INSERT INTO turns (mind, bot, platform, chat, role, person, text, at) {values}"),
            [{"text": f"locker {number} 柜子"} for number in range(turns)],
        )
    engine.dispose()


def test_what_is_there_is_indexed_in_batches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_database(tmp_path / "n.db", 12_000)
    with caplog.at_level(logging.INFO):
        store = Store(f"sqlite:///{tmp_path}/n.db")
    told = [record.getMessage() for record in caplog.records if "recall: indexed" in record.getMessage()]
    assert told == [f"recall: indexed {count} of 12000 turns" for count in (5000, 10_000, 12_000)]
    assert found(store, "locker 1117?") == ["locker 1117 柜子"]
    with store._database.read() as c:
        assert in_step(c)
    store.close()


def test_a_database_without_full_text_search_says_so_and_finds_nothing(store: Store) -> None:
    assert store.why_no_recall() == ""
    with store._database.write() as c:
        for name in ("inserted", "updated", "deleted"):
            c.execute(text(f"DROP TRIGGER recall_{name}"))
        c.execute(text("DROP TABLE recall_index"))
    assert "FTS5" in store.why_no_recall()
    Scene(store).talk("my locker number is 4711", "ok")
    assert found(store, "locker number") == []
    assert store.forget("web:ann").rows


# Vectors --------------------------------------------------------------------------------------


def with_vectors(store: Store, vectors: dict[str, tuple[float, ...]], model: str = "m") -> None:
    waiting = store.without_vector("bot", model, 100)
    store.add_vectors(model, [(turn, said, vectors.get(said, (0.0, 0.0, 1.0))) for turn, said in waiting])


def near(words: str, vector: tuple[float, ...], **more: Any) -> Search:
    return replace(search(words, **more), vector=vector, model="m", least_similarity=0.7)


@pytest.fixture(params=["numpy", "sqlite-vec"])
def vector_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite-vec":
        pytest.importorskip("sqlite_vec")
        if not hasattr(sqlite3.Connection, "enable_load_extension"):
            pytest.skip("this Python's sqlite3 was built without extensions")
    store = Store(f"sqlite:///{tmp_path}/v.db", vectors=request.param == "sqlite-vec")
    with store._database.read() as c:
        assert memories._has_vec(c) is (request.param == "sqlite-vec")
    yield store
    store.close()


def test_vectors_find_what_no_word_does_and_words_count_too(vector_store: Store) -> None:
    scene = Scene(vector_store)
    for said in ("my feline is called Mandarin", "the cat food is empty", "nice weather"):
        scene.talk(said, "ok")
    chatter(scene)
    cats = {"my feline is called Mandarin": (1.0, 0.1, 0.0), "the cat food is empty": (0.8, 0.6, 0.0)}
    with_vectors(vector_store, cats)
    hits = vector_store.recall(near("my cat?", (1.0, 0.0, 0.0)))
    assert [hit.text for hit in hits] == ["the cat food is empty", "my feline is called Mandarin"]
    assert hits[1].score == pytest.approx(0.995, abs=0.001)
    assert vector_store.recall(replace(near("my cat?", (1.0, 0.0, 0.0)), model="another"))[0].text == cats.popitem()[0]
    assert vector_store.recall(near("?", (0.0, 1.0, 0.0), place=ELSEWHERE)) == []


def test_vectors_go_with_their_words(vector_store: Store, tmp_path: Path) -> None:
    scene = Scene(vector_store)
    row = arrive(vector_store, "m1", "my feline is called Mandarin")
    scene.finish(scene.begin(row), row, "ok")
    (turn, said), *_ = sorted(vector_store.without_vector("bot", "m", 9))
    vector = (0.123456, 0.654321, 0.314159)
    assert vector_store.add_vectors("m", [(turn, said, vector), (turn + 500, "gone", vector)]) == 1
    packed = memories.pack(vector)
    assert packed in bytes_of(tmp_path)
    assert (turn, said) not in vector_store.without_vector("bot", "m", 9)
    vector_store.amend(PLACE, "m1", "my feline is called Orange")
    assert vector_store.recall(near("?", vector)) == []
    assert vector_store.add_vectors("m", [(turn, said, vector)]) == 0
    vector_store.add_vectors("m", [(turn, "my feline is called Orange", vector)])
    assert vector_store.forget("web:ann").rows["vectors"] == 1
    assert packed not in bytes_of(tmp_path)


def test_what_was_found_twice_is_one_memory(vector_store: Store) -> None:
    scene = Scene(vector_store)
    scene.talk("the cat food is empty", "ok")
    with_vectors(vector_store, {"the cat food is empty": (1.0, 0.0, 0.0)})
    hits: list[Memory] = vector_store.recall(near("cat food?", (1.0, 0.0, 0.0)))
    assert [hit.text for hit in hits] == ["the cat food is empty"]
