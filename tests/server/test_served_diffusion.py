"""Diffusion models over HTTP: drafts of the block in flight, infilling, choices of denoisers, and clients
that leave in the middle of a block."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusion_models import END, MASK, make_diffusion_model

from fivefold.engine import AsyncEngine, Engine, EngineOptions, LoadOptions, load
from fivefold.server import ModelConfig, make_app, serve
from fivefold.server.served import ServedModel

TEXT, CHAT, INFILL = "/v1/completions", "/v1/chat/completions", "/v1/fim/completions"
OPEN = "\u2581"
BODY: dict[str, Any] = {
    "prompt": [int(token) for token in range(40, 63)], "max_tokens": 22, "temperature": 0, "ignore_eos": True,
}  # fmt: skip
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
NAMES = ["sdar", "fast-dllm", "wedlm", "llada", "dream"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ServedModel]:
    """Makes served models of a diffusion family; each has a context of 256 tokens, one for each byte."""

    def make(name: str, **options: Any) -> ServedModel:
        folder: Path = tmp_path_factory.mktemp(name)
        make_diffusion_model(name, folder)
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        loaded = load(folder, LoadOptions(activations="float", threads=1, entries=2048))
        engine = AsyncEngine(Engine(loaded, EngineOptions(**options)))
        return serve(ModelConfig(name, name), loaded, engine, 1234)

    return make


@pytest.fixture(scope="module")
def app(served: Callable[..., ServedModel], run_app: Callable[..., Any]) -> Iterator[Any]:
    """All families in one application."""
    with run_app(make_app([served(name) for name in NAMES])) as process:
        yield process


def choices(reply: Any) -> list[dict[str, Any]]:
    return [one for chunk in reply.chunks for one in chunk["choices"]]


def replayed(parts: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Drafts with the final text before each."""
    text, found = "", []
    for one in parts:
        if one["final"]:
            text += one["text"] if "text" in one else one["delta"].get("content", "")
        else:
            found.append((text, one["draft"]))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_drafts_become_the_text(name: str, app: Any) -> None:
    whole = app.ask(TEXT, {**BODY, "model": name, "return_token_ids": True}).json
    text = whole["choices"][0]["text"]
    asked = {"stream": True, "diffusing": True, "stream_options": {"include_usage": True}}
    reply = app.ask(TEXT, {**BODY, "model": name, **asked})
    parts = choices(reply)
    assert "".join(one["text"] for one in parts) == text, "who knows no drafts reads the answer"
    for usage in (reply.chunks[-1]["usage"], whole["usage"]):
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (23, 22)
    drafts = replayed(parts)
    assert drafts and all(one["text"] == "" for one in parts if not one["final"])
    assert any(draft["open"] for _, draft in drafts)
    for before, draft in drafts:
        assert text.startswith(before) and draft["position"] + draft["tokens"] <= 22
        assert draft["text"].count(OPEN) == draft["open"]
        filled = draft["text"].split(OPEN)[0].rstrip("\ufffd")
        assert (before + filled) == text[: len(before + filled)], "filled places keep their tokens here"


def test_a_chat_has_drafts_too(app: Any) -> None:
    body = {"model": "sdar", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 13,
            "temperature": 0.7, "seed": 5, "stream": True}  # fmt: skip
    plain = choices(app.ask(CHAT, body))
    assert not any({"final", "draft"} & set(one) for one in plain), "only who asks is told"
    parts = choices(app.ask(CHAT, {**body, "diffusing": True}))
    content = "".join(one["delta"].get("content", "") for one in parts)
    assert content == "".join(one["delta"].get("content", "") for one in plain)
    drafts = replayed(parts)
    assert drafts and all(one["delta"] == {} for one in parts if not one["final"])
    assert all(content.startswith(before) for before, _ in drafts)
    assert (parts[-1]["finish_reason"], parts[-1]["final"]) == (plain[-1]["finish_reason"], True)


def test_stop_strings_are_looked_for_in_final_text_only(app: Any) -> None:
    body = {**BODY, "model": "sdar", "temperature": 1, "seed": 4}
    text = app.ask(TEXT, body).json["choices"][0]["text"]
    stop = next(one for one in text[9:] if one.isascii() and one not in text[:9])
    parts = choices(app.ask(TEXT, {**body, "stop": stop, "stream": True, "diffusing": True}))
    assert "".join(one["text"] for one in parts) == text[: text.index(stop)]
    assert (parts[-1]["finish_reason"], parts[-1]["stop_reason"], parts[-1]["final"]) == ("stop", stop, True)
    assert any(not one["final"] for one in parts), "which drafts a slow reader misses is not said"


def test_log_probabilities_and_the_least_tokens(app: Any) -> None:
    body = {**BODY, "model": "sdar", "logprobs": 2, "ignore_eos": False, "min_tokens": 7, "temperature": 1,
            "seed": 11, "stream": True, "diffusing": True, "logit_bias": {str(END): 5}}  # fmt: skip
    reply = app.ask(TEXT, {**body, "stream_options": {"include_usage": True}})
    told = [one["logprobs"] for one in choices(reply) if one["logprobs"]]
    count = sum(len(one["tokens"]) for one in told)
    assert reply.chunks[-1]["usage"]["completion_tokens"] == count >= 7
    assert all(one["logprobs"] is None for one in choices(reply) if not one["final"])


def test_what_is_refused_of_drafts(app: Any, tiny_app: Any) -> None:
    reply = app.ask(TEXT, {**BODY, "model": "sdar", "diffusing": True})
    assert reply.status == 400 and reply.error["param"] == "diffusing"
    assert "streams only" in reply.error["message"]
    for body in ({"diffusing": True, "decoding": "autoregressive"}, {"diffusing": True}):
        asked = tiny_app if "decoding" not in body else app
        model = {} if asked is tiny_app else {"model": "sdar"}
        reply = asked.ask(TEXT, {**BODY, **model, **body, "stream": True})
        assert reply.status == 400 and reply.error["param"] == "diffusing", reply.body
        assert "no drafts" in reply.error["message"]
    assert tiny_app.ask(TEXT, {**BODY, "diffusing": False}).status == 200


@pytest.mark.parametrize("name", ["llada", "dream"])
def test_a_gap_is_filled_by_what_is_on_both_sides(name: str, app: Any) -> None:
    body = {"model": name, "prompt": "def add(a, b):", "max_tokens": 9, "temperature": 0, "ignore_eos": True}
    one, other = (
        app.ask(TEXT, {**body, "suffix": suffix}).json for suffix in ("    return result", "    pass")
    )
    plain = app.ask(TEXT, body).json
    texts = {answer["choices"][0]["text"] for answer in (one, other, plain)}
    assert len(texts) == 3, "what stands behind the gap matters"
    assert one["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] + len("    return result")
    assert one["usage"]["completion_tokens"] == 9
    infilled = app.ask(INFILL, {**body, "suffix": "    pass", "random_seed": 3}).json
    assert infilled["choices"] == other["choices"]
    parts = choices(app.ask(INFILL, {**body, "suffix": "    pass", "stream": True}))
    assert "".join(part["text"] for part in parts) == other["choices"][0]["text"]


def test_mistrals_name_of_the_seed(app: Any) -> None:
    body = {"model": "llada", "prompt": "ab", "suffix": "yz", "max_tokens": 8, "temperature": 1}
    drawn = [app.ask(INFILL, {**body, "random_seed": seed}).json["choices"][0]["text"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert app.ask(TEXT, {**body, "seed": 1}).json["choices"][0]["text"] == drawn[0]


def test_who_cannot_fill_a_gap_says_so(app: Any, tiny_app: Any) -> None:
    body = {**BODY, "suffix": "end"}
    for path in (TEXT, INFILL):
        for asked, name, said in (
            (app, "sdar", "behind their block"),
            (app, "wedlm", "behind their block"),
            (tiny_app, "tiny", "does not see text behind the answer"),
        ):
            reply = asked.ask(path, {**body, "model": name})
            assert (reply.status, reply.error["param"]) == (400, "suffix"), reply.body
            assert said in reply.error["message"]
    long = app.ask(TEXT, {**body, "model": "llada", "suffix": "x" * 240})
    assert (long.status, long.error["param"]) == (400, "suffix")


def test_a_request_chooses_its_denoiser(app: Any) -> None:
    def passes(**fields: Any) -> int:
        parts = choices(app.ask(TEXT, {**BODY, "model": "sdar", "stream": True, "diffusing": True, **fields}))
        return sum(not one["final"] for one in parts)

    slow, fast = (
        passes(denoiser="low_confidence"),
        passes(denoiser="confidence_threshold:threshold=0,least=4"),
    )
    assert fast < slow and passes(denoiser="low_confidence:steps=1") == fast
    for line, said in (
        ("best", "there is no denoiser"),
        ("low_confidence:speed=3", "has no 'speed'"),
        ("low_confidence:steps=-1", "from 0 to 1024"),
        ("confidence_threshold:least=0", "from 1 to 1024"),
        ("confidence_threshold:threshold=nan", "from 0 to 1024"),
        ("confidence_threshold:as_drawn=1", "true or false"),
    ):
        reply = app.ask(TEXT, {**BODY, "model": "sdar", "denoiser": line})
        assert (reply.status, reply.error["param"]) == (400, "denoiser"), reply.body
        assert said in reply.error["message"]
    reply = app.ask(TEXT, {**BODY, "model": "sdar", "denoiser": "low_confidence", "decoding": "speculative"})
    assert (reply.status, reply.error["param"]) == (400, "denoiser")


def test_a_span_is_rewritten_in_its_place(app: Any) -> None:
    standing, suffix = "    result = a - b\n", "    return result"
    body = {"model": "llada", "prompt": "def add(a, b):\n", "suffix": suffix, "edited": standing,
            "temperature": 0, "ignore_eos": True}  # fmt: skip
    little = app.ask(TEXT, {**body, "rewritten": 0.2, "return_token_ids": True}).json
    tokens = little["choices"][0]["token_ids"]
    ids = app.ask(TEXT, {**BODY, "model": "llada", "prompt": standing, "return_token_ids": True}).json
    stood = ids["choices"][0]["prompt_token_ids"]
    kept = sum(one == other for one, other in zip(tokens, stood, strict=True))
    assert kept >= len(standing) - 4 and little["usage"]["completion_tokens"] == len(standing)
    assert little["usage"]["prompt_tokens"] == len("def add(a, b):\n") + len(standing) + len(suffix)
    much, edited = (
        app.ask(path, {**body, **fields}).json["choices"][0]["text"]
        for path, fields in (
            (INFILL, {"rewritten": 0.9}),
            (TEXT, {"denoiser": "editing:editing_threshold=0.3"}),
        )
    )
    assert len({little["choices"][0]["text"], much, edited, standing}) == 4
    longer = app.ask(TEXT, {**body, "rewritten": 0.2, "max_tokens": 30}).json
    assert longer["usage"]["completion_tokens"] == 30
    parts = choices(app.ask(TEXT, {**body, "rewritten": 0.2, "stream": True, "diffusing": True}))
    drafts = [draft for _, draft in replayed(parts)]
    assert {draft["tokens"] for draft in drafts} == {len(standing)}
    assert all(0 < draft["open"] <= 4 for draft in drafts), "no more is open than a fifth of it"


def test_who_cannot_rewrite_says_so(app: Any, tiny_app: Any) -> None:
    body = {**BODY, "edited": "abc", "rewritten": 0.5, "max_tokens": 10}
    for asked, fields, param, said in (
        (tiny_app, {"model": "tiny"}, "edited", "writes no blocks here"),
        (app, {"model": "wedlm"}, "edited", "does not see the text"),
        (app, {"model": "llada", "rewritten": 0}, "rewritten", "leaves tokens as they stand"),
        (app, {"model": "llada", "rewritten": 2}, "rewritten", "from 0 to 1"),
        (app, {"model": "llada", "edited": None}, "rewritten", "no text to rewrite"),
        (app, {"model": "llada", "edited": ""}, "edited", "edited is empty"),
        (app, {"model": "llada", "max_tokens": 2}, "max_tokens", "the answer may have 2"),
        (app, {"model": "llada", "edited": "x" * 250, "max_tokens": None}, "edited", "there is room for"),
        (app, {"model": "sdar", "suffix": "end"}, "suffix", "behind their block"),
    ):
        reply = asked.ask(TEXT, {**body, **fields})
        assert (reply.status, reply.error["param"]) == (400, param), reply.body
        assert said in reply.error["message"]


@pytest.mark.parametrize("name", ["llada", "dream"])
def test_a_request_chooses_what_is_kept_for_a_block(name: str, app: Any) -> None:
    body = {**BODY, "model": name, "max_tokens": 40}
    exact = app.ask(TEXT, body).json["choices"]
    assert app.ask(TEXT, {**body, "caching": "none"}).json["choices"] == exact
    texts = {
        app.ask(TEXT, {**body, "caching": kept}).json["choices"][0]["text"] for kept in ("prefix", "dual")
    }
    assert len({exact[0]["text"], *texts}) == 3, "three ways to see other rows"
    for fields, said in (
        ({"caching": "all"}, "choose of none, prefix, dual"),
        ({"model": "sdar", "caching": "dual"}, "others keep their entries anyway"),
    ):
        reply = app.ask(TEXT, {**body, **fields})
        assert (reply.status, reply.error["param"]) == (400, "caching"), reply.body
        assert said in reply.error["message"]


@pytest.mark.parametrize("name", ["sdar", "fast-dllm", "wedlm", "llada"])
def test_clients_that_leave_in_the_middle_of_blocks_take_no_page_along(
    name: str, served: Callable[..., ServedModel], run_app: Callable[..., Any]
) -> None:
    model, chance = served(name, prefix_cache=False), random.Random(3)
    asked = {**BODY, "model": name, "stream": True, "diffusing": True, "max_tokens": 60}
    with run_app(make_app([model])) as app:

        async def many() -> None:
            leaving = [None, *(chance.uniform(0, 0.2) for _ in range(24))]
            bodies = [{**asked, "prompt": BODY["prompt"][: chance.randint(2, 23)]} for _ in leaving]
            await asyncio.gather(
                *(app.answer(TEXT, body, leaves=at) for body, at in zip(bodies, leaving, strict=True))
            )
            while (figures := model.engine.figures()).running + figures.waiting:
                await asyncio.sleep(0.01)

        app.run(many(), 120)
        assert model.engine.figures().cache.used == 0
        model.engine._engine.check_integrity()
        alone = app.ask(TEXT, {**BODY, "model": name}).json
        assert alone["usage"]["completion_tokens"] == 22


def test_the_mask_in_a_text_is_text(app: Any) -> None:
    body = {**BODY, "model": "llada", "prompt": [70, MASK, 71], "stream": True, "diffusing": True}
    drafts = replayed(choices(app.ask(TEXT, body)))
    assert drafts[0][1]["position"] == 0 and drafts[0][1]["tokens"] == 22
