"""The load generator against a server that behaves as a test wants."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from fivefold.bench.load.generator import generate
from fivefold.bench.load.plan import LongPrompt, Plan
from fivefold.bench.load.record import Load, Record
from fivefold.bench.load_process import generate_load, read_load
from fivefold.core.errors import FivefoldError

PLAN = Plan(
    base="",
    model="fake-model",
    endpoint="chat",
    clients=3,
    requests=7,
    words=12,
    tokens=5,
    seed=4,
    timeout=20,
)


def run(server: ModuleType, behaviour: Any, plan: Plan) -> Load:
    """The plan's load on a server that behaves so."""

    async def loaded() -> Load:
        async with server.serving(behaviour) as base:
            return await generate(replace(plan, base=base))

    return asyncio.run(loaded())


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("mode", ["whole", "chunked", "cut"])
def test_a_closed_loop_asks_for_all_and_counts_what_came(
    fake_server: ModuleType, mode: str, endpoint: Any
) -> None:
    behaviour = fake_server.Behaviour(mode)
    load = run(fake_server, behaviour, replace(PLAN, endpoint=endpoint))
    assert len(load.records) == len(behaviour.bodies) == 7
    for record in load.records:
        assert record.error == ""
        assert record.finished
        assert record.counted
        assert (record.tokens, len(record.chunks), record.prompt_tokens) == (5, 5, 12)
        assert record.due <= record.sent <= record.chunks[0]
        assert record.chunks == sorted(record.chunks)
        assert record.chunks[-1] <= record.ended
    for body in behaviour.bodies:
        assert body["stream"] is True
        assert body["ignore_eos"] is True
        assert body["temperature"] == 0
        assert body["max_tokens"] == 5
        assert body["model"] == "fake-model"


def texts(behaviour: Any) -> list[str]:
    return sorted(body["messages"][0]["content"] for body in behaviour.bodies)


def test_prompts_are_distinct_and_follow_from_the_seed(fake_server: ModuleType) -> None:
    first, again, other = (fake_server.Behaviour() for _ in range(3))
    run(fake_server, first, PLAN)
    run(fake_server, again, replace(PLAN, clients=7))
    run(fake_server, other, replace(PLAN, seed=5))
    assert len({text[:20] for text in texts(first)}) == 7
    assert texts(first) == texts(again) != texts(other)


def test_prompts_share_what_they_are_told_to(fake_server: ModuleType) -> None:
    behaviour = fake_server.Behaviour()
    run(fake_server, behaviour, replace(PLAN, shared=5))
    words = [text.split() for text in texts(behaviour)]
    assert len({tuple(each[:5]) for each in words}) == 1
    assert len({tuple(each[5:]) for each in words}) == 7
    assert {len(each) for each in words} == {12}


def test_no_more_clients_than_told_are_under_way(fake_server: ModuleType) -> None:
    load = run(fake_server, fake_server.Behaviour(pause=0.01), PLAN)
    for record in load.records:
        together = [other for other in load.records if other.sent <= record.sent < other.ended]
        assert len(together) <= 3


def test_a_time_bounds_when_requests_begin(fake_server: ModuleType) -> None:
    load = run(fake_server, fake_server.Behaviour(pause=0.005), replace(PLAN, requests=0, seconds=0.2))
    assert len(load.records) >= 3
    assert all(record.sent < 0.25 and record.finished for record in load.records)


def test_arrivals_are_a_poisson_process_of_the_seed() -> None:
    plan = replace(PLAN, rate=50.0, requests=4000)
    arrivals = list(plan.arrivals())
    assert arrivals == list(plan.arrivals())
    assert arrivals != list(replace(plan, seed=9).arrivals())
    gaps = [later - at for at, later in zip([0.0, *arrivals], arrivals, strict=False)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.06)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.15)
    bounded = list(replace(plan, requests=0, seconds=2.0).arrivals())
    assert bounded == [at for at in arrivals if at < 2.0]


def test_an_open_loop_does_not_wait_for_answers(fake_server: ModuleType) -> None:
    plan = replace(PLAN, rate=200.0, requests=10)
    load = run(fake_server, fake_server.Behaviour(pause=0.05), plan)
    assert [record.due for record in load.records] == list(plan.arrivals())
    assert all(record.sent >= record.due for record in load.records)
    assert max(record.sent for record in load.records) < min(record.ended for record in load.records)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuse", "HTTP status 503: no room"),
        ("fail", "the server failed: the step failed"),
        ("drop", "the connection ended before the response did"),
        ("garbage", "no HTTP response"),
    ],
)
def test_what_goes_wrong_is_told_for_each_request(fake_server: ModuleType, mode: str, said: str) -> None:
    load = run(fake_server, fake_server.Behaviour(mode), PLAN)
    assert len(load.records) == 7
    assert all(said in record.error for record in load.records)


def test_a_server_that_is_not_there_is_told() -> None:
    load = asyncio.run(generate(replace(PLAN, base="http://127.0.0.1:9")))
    assert len(load.records) == 7
    assert all(record.error and not record.finished for record in load.records)


def test_a_server_that_says_nothing_is_left(fake_server: ModuleType) -> None:
    behaviour = fake_server.Behaviour("silent")
    load = run(fake_server, behaviour, replace(PLAN, requests=2, timeout=0.1))
    assert all("within 0.1 s" in record.error for record in load.records)
    assert behaviour.left_early == 2


def test_chunks_with_several_tokens_and_servers_without_usage(fake_server: ModuleType) -> None:
    several = run(fake_server, fake_server.Behaviour(tokens_a_chunk=5), replace(PLAN, tokens=20))
    assert [(record.tokens, len(record.chunks)) for record in several.records] == [(20, 4)] * 7
    uncounted = run(fake_server, fake_server.Behaviour(usage=False), PLAN)
    assert [(record.tokens, record.counted) for record in uncounted.records] == [(5, False)] * 7


def test_a_long_prompt_arrives_while_others_stream(fake_server: ModuleType) -> None:
    behaviour = fake_server.Behaviour(pause=0.01)
    plan = replace(PLAN, tokens=1000, long=LongPrompt(300, 0.2))
    load = run(fake_server, behaviour, plan)
    assert load.long is not None
    assert load.long.error == ""
    assert load.long.prompt_tokens == 300
    assert len(load.records) == 3
    for record in load.records:
        assert not record.finished
        assert record.error == ""
        assert record.chunks[0] < load.long.sent < load.long.chunks[0] <= record.chunks[-1] + 0.2
    assert load.long.sent - max(record.chunks[0] for record in load.records) >= 0.15
    assert sorted(len(text.split()) for text in texts(behaviour)) == [12, 12, 12, 300]


def test_keys_are_sent(fake_server: ModuleType) -> None:
    behaviour = fake_server.Behaviour()
    run(fake_server, behaviour, replace(PLAN, requests=1, key="secret"))
    assert "Authorization: Bearer secret\r\n" in behaviour.heads[0]


def test_plans_and_loads_pass_between_processes() -> None:
    plan = replace(PLAN, base="http://x", long=LongPrompt(5, 1.0))
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(PLAN.to_json()) == PLAN
    load = Load([Record(0.0, 0.1, 0.5, [0.2, 0.3], 2, 9, True, True)], 0.1, Record(1.0, 1.0, error="no"))
    assert Load.from_json(load.to_json()) == load


def test_the_generator_is_a_process_of_its_own(fake_server: ModuleType) -> None:
    behaviour = fake_server.Behaviour()

    async def loaded() -> Load:
        async with fake_server.serving(behaviour) as base:
            return await asyncio.to_thread(generate_load, replace(PLAN, base=base))

    load = asyncio.run(loaded())
    assert len(behaviour.bodies) == 7
    assert all(record.finished for record in load.records)


def test_a_generator_that_fails_is_told() -> None:
    with pytest.raises(FivefoldError, match="load generator ended with status 1"):
        generate_load(replace(PLAN, clients="many"))  # type: ignore[arg-type]


def test_an_answer_that_was_cut_short_is_told() -> None:
    whole = Load([Record(0.0, 0.1, 0.5, [0.2, 0.3], 2, 9, True, True)], 0.1).to_json()
    assert read_load(whole, "http://x").to_json() == whole
    for cut in range(len(whole)):
        with pytest.raises(FivefoldError, match=f"answer of {cut} characters is damaged"):
            read_load(whole[:cut], "http://x")
