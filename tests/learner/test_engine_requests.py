"""Requests are cancelled, time out, are refused when the queue is full, and fail alone."""

import asyncio
import dataclasses

import pytest

from learner.engine.base import EngineBusy, EngineClosed, EngineError, PromptTooLong
from learner.engine.local import LocalEngine
from tests.learner.engine_tiny import asking, engine, folder, generated, greedy, oracle, prompt, run, sampled


async def streaming(running: LocalEngine, *specs, **options):  # type: ignore[no-untyped-def]
    """A request that has begun to stream, and the text that came."""
    begun, texts = asyncio.Event(), []

    def on_text(index: int, text: str) -> None:
        texts.append((index, text))
        begun.set()

    task = asyncio.create_task(running.generate(asking(prompt(20), *specs, **options), on_text))
    await begun.wait()
    return task, texts


def test_text_streams_and_adds_up_to_the_candidates() -> None:
    async def main() -> None:
        async with engine() as running:
            task, texts = await streaming(running, sampled(1), sampled(2))
            assert not task.done()
            out = await task
        for index, candidate in enumerate(out.candidates):
            assert "".join(text for at, text in texts if at == index) == candidate.text != ""
            assert (candidate.finish, len(candidate.token_ids)) == ("length", 24)

    run(main)


def test_an_end_token_and_a_stop_string_end_a_reply() -> None:
    async def main() -> None:
        async with engine() as running:
            free = (await running.generate(asking(prompt(20), sampled(3, 60)))).candidates[0]
            stop = free.text[6:9]
            cut = (await running.generate(asking(prompt(20), sampled(3, 60, stop=(stop,))))).candidates[0]
            assert (cut.text, cut.finish) == (free.text[: free.text.index(stop)], "stop")
            assert cut.token_ids == free.token_ids[: len(cut.token_ids)]
            model = running._worker.scheduler._model  # type: ignore[union-attr]
            ending = dataclasses.replace(model, end_ids=frozenset({free.token_ids[5]}))
            running._worker.scheduler._model = ending  # type: ignore[union-attr]
            ended = (await running.generate(asking(prompt(20), sampled(3, 60)))).candidates[0]
        first = free.token_ids.index(free.token_ids[5])
        assert (ended.token_ids, ended.finish) == (free.token_ids[: first + 1], "stop")

    run(main)


def test_a_cancelled_request_leaves_the_others_as_they_are() -> None:
    async def main() -> None:
        async with engine() as running:
            doomed, _ = await streaming(running, greedy(900), greedy(900), chat="c")
            other = asyncio.create_task(running.generate(asking(prompt(33), greedy(40))))
            await asyncio.sleep(0.05)
            doomed.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doomed
            assert (await other).candidates[0].token_ids == generated(oracle(folder()), prompt(33), 40)
            again = await running.generate(asking(prompt(20), chat="c"))
            assert again.candidates[0].token_ids == generated(oracle(folder()), prompt(20))
            assert (running.status().running, running.status().queued) == (0, 0)

    run(main)


def test_a_time_out_returns_what_there_is() -> None:
    async def main() -> None:
        async with engine(max_batch=2) as running:
            long = asyncio.create_task(running.generate(asking(prompt(20), greedy(900), greedy(900), timeout=0.2)))
            await asyncio.sleep(0)
            waiting = await running.generate(asking(prompt(20), timeout=0.02))
            out = await long
        assert [c.finish for c in out.candidates] == ["timeout", "timeout"]
        assert all(0 < len(c.token_ids) == len(c.logprobs) < 900 for c in out.candidates)
        assert (waiting.candidates[0].finish, waiting.candidates[0].text) == ("timeout", "")

    run(main)


def test_a_full_queue_is_busy_at_once() -> None:
    async def main() -> None:
        async with engine(max_batch=2, max_queue=1) as running:
            begun = [asyncio.create_task(running.generate(asking(prompt(20), greedy(40)))) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(EngineBusy, match="1 requests are waiting"):
                await running.generate(asking(prompt(20)))
            assert len({out.candidates[0].token_ids for out in await asyncio.gather(*begun)}) == 1
            await running.generate(asking(prompt(20)))

    run(main)


def test_what_cannot_be_generated_is_refused() -> None:
    async def main() -> None:
        async with engine() as running:
            with pytest.raises(PromptTooLong, match="1000 prompt tokens and 25 new ones exceed"):
                await running.generate(asking(prompt(1000), greedy(25)))
            assert await running.generate(asking(prompt(1000), greedy(24)))
            for bad in (
                asking(()),
                asking((5, 259)),
                asking((-1,)),
                asking((5,), greedy(0)),
                asking((5,), *[greedy()] * 9),
            ):
                with pytest.raises(EngineError):
                    await running.generate(bad)

    run(main)


def test_close_ends_what_runs_and_what_waits() -> None:
    async def main() -> None:
        async with engine(max_batch=1) as running:
            task, _ = await streaming(running, greedy(900))
            waiting = asyncio.create_task(running.generate(asking(prompt(20))))
            await asyncio.sleep(0)
            await running.close()
            for ended in (task, waiting):
                with pytest.raises(EngineClosed, match="stopped before"):
                    await ended
            with pytest.raises(EngineClosed, match="not running"):
                await running.generate(asking(prompt(20)))
            await running.start()
            assert await running.generate(asking(prompt(20)))

    run(main)


@pytest.mark.parametrize("failing", ["callback", "decoding", "logits"])
def test_an_error_in_one_request_ends_no_other(failing: str) -> None:
    async def main() -> None:
        async with engine() as running:
            other, _ = await streaming(running, greedy(60))
            if failing == "callback":
                with pytest.raises(ZeroDivisionError):
                    await running.generate(asking(prompt(20), sampled(1), sampled(2)), lambda *_: 1 / 0)  # type: ignore[arg-type]
            else:
                scheduler = running._worker.scheduler  # type: ignore[union-attr]
                await running._ask(lambda _: _poison(scheduler, failing))
                with pytest.raises(EngineError, match="failed on this request"):
                    await running.generate(asking(prompt(20), sampled(1), sampled(2), chat="c"))
            assert (await other).candidates[0].token_ids == generated(oracle(folder()), prompt(20), 60)
            again = await running.generate(asking(prompt(20), chat="c"))
            assert again.candidates[0].token_ids == generated(oracle(folder()), prompt(20))

    run(main)


def _poison(scheduler, failing: str) -> None:  # type: ignore[no-untyped-def]
    """Make the next request's second candidate fail at its third token."""
    begin = scheduler._begin

    def poisoned(job) -> None:  # type: ignore[no-untyped-def]
        begin(job)
        scheduler._begin = begin
        branch, count = job.branches[1], iter(range(100))
        take = branch.take

        def failing_take(token, logprob, ends):  # type: ignore[no-untyped-def]
            if next(count) == 2:
                return take(token, float("nan"), ends) if failing == "logits" else 1 / 0
            return take(token, logprob, ends)

        branch.take = failing_take

    scheduler._begin = poisoned


def test_memory_running_out_in_a_step_costs_the_youngest_only() -> None:
    async def main() -> None:
        async with engine() as running:
            other, _ = await streaming(running, greedy(60))
            batch = running._worker.scheduler._batch  # type: ignore[union-attr]
            step, left = batch.step, [3]

            def short_of_memory():  # type: ignore[no-untyped-def]
                if len(batch.branches) > 1 and (left.append(left.pop() - 1) or left[0] == 0):  # type: ignore[func-returns-value]
                    batch._block.end += 0
                    raise MemoryError("out of memory")
                return step()

            batch.step = short_of_memory
            with pytest.raises(EngineError, match="MemoryError"):
                await running.generate(asking(prompt(31), sampled(1)))
            assert (await other).candidates[0].token_ids == generated(oracle(folder()), prompt(20), 60)

    run(main)


def test_a_dead_thread_ends_everything_and_says_so() -> None:
    def die(_: object) -> None:
        raise SystemError("pulled the plug")

    async def main() -> None:
        async with engine() as running:
            task, _ = await streaming(running, greedy(900))
            running._worker.call(die)  # type: ignore[union-attr]
            with pytest.raises(EngineClosed, match="died"):
                await task
            assert "pulled the plug" in (running.status().error or "")
            with pytest.raises(EngineClosed, match="pulled the plug"):
                await running.generate(asking(prompt(20)))
            with pytest.raises(EngineClosed):
                await running.swap_lora(None)

    run(main)
