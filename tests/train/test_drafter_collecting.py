"""Conversations from a model's file and texts: which prompts there are, and folders that are filled up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twin_corpus import make_tiny_corpus

from fivefold.chat import ChatTemplate
from fivefold.core.errors import InputError
from fivefold.engine import load
from fivefold.exercises import Library, Rendering, Side, Text
from fivefold.files import open_checkpoint, write_gguf
from fivefold.train.drafter import collecting
from fivefold.train.drafter.asking import GENERAL, PLAIN, Asking, prompt_of
from fivefold.train.drafter.collecting import Collection, Said, collect_conversations, usual_taps
from fivefold.train.drafter.completing import RECORD, Corpus
from fivefold.train.drafter.conversations import list_shards, read_shard
from fivefold.train.twins.corpus import read_split
from fivefold.train.twins.records import Split

CONTEXT = 2048
TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
SENTENCES = "The keeper of the lighthouse wrote down every ship that passed in the {word} morning. "
WORDS = ["early", "bright", "misty", "frozen", "golden", "quiet", "stormy", "gentle"]


def made_up(folder: Path | None, side: Side) -> tuple[Text, ...]:
    """Some texts of a side."""
    text = "\n\n".join(SENTENCES.format(word=WORDS[n % 8]) * (1 + n % 3) for n in range(200))
    return tuple(Text(f"{side}-{kind}", "a.txt", kind, side, text) for kind in ("prose", "manual"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model with bytes for tokens and a longer context."""
    given, path = open_checkpoint(TINY), tmp_path / "tiny.gguf"
    write_gguf(path, {**given.metadata, "llama.context_length": CONTEXT}, list(given.tensors.values()))
    return path


@pytest.fixture
def rendering(model: Path) -> Rendering:
    loaded = load(model)
    return Rendering(ChatTemplate.of(loaded.checkpoint, loaded.vocabulary), loaded.vocabulary)


def test_prompts_are_the_same_again_and_of_all_kinds(rendering: Rendering) -> None:
    asking = Asking((300, 500), 3, {"summary": 1.0})
    libraries = [Library(made_up(None, side), rendering.count) for side in ("training", "held_out")]
    prompts = [[prompt_of(asking, library, rendering, n) for n in range(60)] for library in libraries]
    again = Library(made_up(None, "training"), rendering.count)
    assert [prompt_of(asking, again, rendering, n) for n in (5, 40)] == [prompts[0][n] for n in (5, 40)]
    assert {one.kind for one in prompts[0]} == {GENERAL, PLAIN, "summary"}
    assert {one.temperature for one in prompts[0]} == {0.0, 0.7}
    assert not {one.tokens for one in prompts[0]} & {one.tokens for one in prompts[1]}
    assert len({one.seed for side in prompts for one in side}) == 120


def test_a_folder_is_filled_up(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "texts", made_up)
    collection = Collection(
        5, 2, answer=6, shard=2, batch=3, asking=Asking((300, 500), kinds={"summary": 1.0})
    )
    said: list[Said] = []
    folder = tmp_path / "data"
    assert collect_conversations(model, tmp_path, folder, collection, 1, said.append) == 4
    names = ["held-out-000-00000", *(f"training-000-{n:05d}" for n in range(3))]
    assert [path.name for path in list_shards(folder)] == names == [one.name for one in said]
    before = [read_shard(path) for path in list_shards(folder)]
    assert [len(shard.conversations) for shard in before] == [2, 2, 2, 1]
    assert all(0 < shard.written <= 6 * len(shard.conversations) for shard in before)
    kept = [one.tokens.tolist() for one in before[1].conversations]
    shutil.rmtree(folder / names[1])
    assert collect_conversations(model, tmp_path, folder, collection, 1, said.append) == 1
    assert [one.tokens.tolist() for one in read_shard(folder / names[1]).conversations] == kept
    assert "tokens/s" in said[0].line()


def test_records_of_a_corpus_are_asked_for_as_they_are_given(tmp_path: Path) -> None:
    folder = make_tiny_corpus(tmp_path)
    corpus, asking = Corpus(folder), Corpus(folder).asking(2, 0.5)
    sides: dict[Side, Split] = {"training": "training", "held_out": "validation"}
    heats = set()
    for side, split in sides.items():
        held = read_split(folder, split)
        prompts = [corpus.prompt(asking, side, n) for n in range(len(held))]
        assert prompts == [Corpus(folder).prompt(asking, side, n) for n in range(len(held))]
        for number, one in enumerate(prompts):
            assert list(one.tokens) == held[number][: held.given[number]].tolist()
            assert len(one.tokens) <= asking.longest and one.kind == RECORD
        heats |= {one.temperature for one in prompts}
    assert heats == {0.0, 0.7}


@pytest.fixture
def twin(tmp_path: Path) -> tuple[Path, Path]:
    """An untrained twin, and its corpus."""
    pytest.importorskip("torch")
    from fivefold.train.running import Places
    from fivefold.train.twins.run import Run, Training

    corpus, folder = make_tiny_corpus(tmp_path), tmp_path / "twin"
    folder.mkdir()
    sizes = Training(rows=600, room=512, hidden=32, layers=2, heads=4, kv_heads=2, head_size=8, ffn=32)
    Run(Places(corpus, folder / "model.safetensors"), sizes).save()
    return folder, corpus


def test_a_twin_writes_records_for_its_drafter(twin: tuple[Path, Path], tmp_path: Path) -> None:
    folder, corpus = tmp_path / "data", twin[1]
    collection = Collection(3, 2, answer=6, shard=2, batch=2, asking=Corpus(corpus).asking())
    said: list[Said] = []
    assert collect_conversations(*twin, folder, collection, 1, said.append) == 3
    splits: tuple[tuple[str, Split], ...] = (("training", "training"), ("held-out", "validation"))
    for name, split in splits:
        shard, records = read_shard(folder / f"{name}-000-00000"), read_split(corpus, split)
        given = [one.tokens[: one.prompt].tolist() for one in shard.conversations]
        assert given == [records[n][: records.given[n]].tolist() for n in range(2)]
        assert {one.kind for one in shard.conversations} == {RECORD}
    assert collect_conversations(*twin, folder, collection, 1, said.append) == 0
    with pytest.raises(InputError, match="it has 1 conversations, and 2 are asked for"):
        collect_conversations(*twin, folder, replace(collection, conversations=4), 1, said.append)
    long = replace(collection, answer=600)
    with pytest.raises(InputError, match="no room for a prompt"):
        collect_conversations(*twin, tmp_path / "long", long, 1, said.append)
    other = replace(collection, asking=Asking())
    with pytest.raises(InputError, match="were asked for otherwise"):
        collect_conversations(twin[0], corpus, folder, other, 1, said.append)


def test_records_must_be_there_and_of_the_models_tokenizer(
    twin: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    asking = Corpus(twin[1]).asking()
    for collection in (Collection(3, 999, asking=asking), Collection(999, 1, asking=asking)):
        with pytest.raises(InputError, match="999 records are asked for, and there are"):
            collect_conversations(*twin, tmp_path / "data", collection, 1, list)
    with pytest.raises(InputError, match="another tokenizer"):
        collect_conversations(model, twin[1], tmp_path / "data", Collection(2, 1, asking=asking), 1, list)
    assert not (tmp_path / "data").exists()


def test_usual_taps_are_layers_of_the_model() -> None:
    assert usual_taps(30) == (1, 15, 29)
    assert [usual_taps(layers) for layers in (1, 2, 4)] == [(0,), (1,), (1, 2, 3)]


def test_what_is_too_long_is_refused(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(collecting, "texts", made_up)
    monkeypatch.setattr(collecting, "ROOM", 0)
    collection = Collection(2, 1, answer=6, asking=Asking((300, 310), kinds={"summary": 1.0}, plain=0.0))
    with pytest.raises(InputError, match=r"a prompt of kind .* tokens, more than 310"):
        collect_conversations(model, tmp_path, tmp_path / "data", collection, 1, lambda said: None)
