"""From a person's dialogues to a bot that speaks as that person does: perplexity, and whose a reply is taken for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from person_samples import MANNER, STARTER, corpus_file
from test_tune import command, run

from bench.starter_talk import phrasings, starter_manners
from learner.engine.base import CandidateSpec, ChatMessage, GenerateRequest, Sampling
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings

ASKED = 60


async def share_of_the_person(anchor: str) -> float:
    """Of sampled replies to what nobody trained on: how many a classifier takes for the person's."""
    manner_of = starter_manners()
    engine = LocalEngine(LocalSettings(str(STARTER), device="cpu", anchor=anchor, threads=1))
    await engine.start()
    try:
        found = 0
        for seed, row in enumerate(phrasings()["measured"][:ASKED]):
            spec = CandidateSpec(Sampling(temperature=0.9, top_p=0.95, max_tokens=48), seed)
            request = GenerateRequest(engine.render([ChatMessage("user", row.text)]), (spec,))
            [candidate] = (await engine.generate(request)).candidates
            found += manner_of(candidate.text, row.language) == MANNER
        return found / ASKED
    finally:
        await engine.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bot_comes_to_speak_as_the_person(tmp_path: Path) -> None:
    data = corpus_file(tmp_path, 400)
    found = run(command(data, tmp_path / "person", "--max-steps", "160", "--eval-every", "40"))
    assert found["perplexity"] <= 0.7 * found["perplexity_before"], found
    before, after = (asyncio.run(share_of_the_person(one)) for one in ("", str(tmp_path / "person")))
    print(
        f"perplexity {found['perplexity_before']:.2f} -> {found['perplexity']:.2f}, share {before:.2f} -> {after:.2f}"
    )
    assert before <= 0.4
    assert after >= 0.8
