"""What the Transformers backend takes and what it refuses, and that it says so in one sentence."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_models import save_foreign

from fivefold.backends import transformers_backend
from fivefold.core.errors import FivefoldError, InputError, UnsupportedError
from fivefold.core.request import EvictionChoice, Request
from fivefold.engine import Engine, LoadOptions, inspect_model, load, need_of
from fivefold.engine.described import described
from fivefold.files import open_checkpoint

Folder = Callable[[str], Path]


def changed(source: Path, target: Path, **keys: Any) -> Path:
    """A copy of a folder with other keys in its config.json."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **keys}))
    return target


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "mamba",
            r"MambaForCausalLM: .* of its 3 layers 0, 1, 2 do not attend through Transformers' attention",
        ),
        ("jamba", r"JambaForCausalLM: .* it has layers of the kind linear_attention, mamba"),
        ("bloom", r"BloomForCausalLM: .* do not attend through Transformers' attention interface"),
    ],
)
def test_other_caches_and_other_attention_are_refused(name: str, reason: str, foreign: Folder) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        need_of(foreign(name), LoadOptions())


def test_chunks_are_refused(foreign: Folder) -> None:
    """Asked of the backend itself: Llama 4 has a family."""
    with pytest.raises(UnsupportedError, match="it has layers of the kind chunked_attention"):
        transformers_backend().outline(open_checkpoint(foreign("llama4")))


def test_a_window_is_found_however_long_it_is(tmp_path: Path) -> None:
    """It is longer than every text that is tried at load."""
    save_foreign("olmo3", tmp_path, sliding_window=300)
    layout = described(open_checkpoint(tmp_path), LoadOptions()).model.layout
    assert [group.window for group in layout.groups] == [300, None]


def test_angles_that_depend_on_other_requests_are_kept_out(tmp_path: Path) -> None:
    factors = {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0, **factors}
    save_foreign("phi3", tmp_path, rope_parameters=rope, original_max_position_embeddings=128)
    assert need_of(tmp_path, LoadOptions()).longest == 128
    with pytest.raises(InputError, match="a context of 129 is outside the model's"):
        need_of(tmp_path, LoadOptions(context=129))


def test_code_that_comes_with_a_model_is_not_run(foreign: Folder, tmp_path: Path) -> None:
    folder = changed(
        foreign("gpt-neox"), tmp_path / "own", model_type="own", architectures=["OwnForCausalLM"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    )  # fmt: skip
    (folder / "own.py").write_text(f"open({str(tmp_path / 'was_here')!r}, 'w')\n")
    with pytest.raises(UnsupportedError, match=r"model type 'own', and code that comes .* is never run"):
        load(folder)
    assert not (tmp_path / "was_here").exists()


def test_models_that_do_more_than_write_are_not_taken_for_others(foreign: Folder, tmp_path: Path) -> None:
    folder = changed(foreign("gpt-neox"), tmp_path / "sorts", architectures=["GPTNeoXForTokenClassification"])
    with pytest.raises(UnsupportedError, match="Transformers takes it for GPTNeoXForCausalLM"):
        load(folder)


def test_quantized_weights_are_refused(foreign: Folder) -> None:
    checkpoint = open_checkpoint(foreign("gpt-neox"))
    quantized = {**checkpoint.metadata, "quantization_config": {"quant_method": "gptq"}}
    with pytest.raises(UnsupportedError, match="its weights are quantized, and no family here takes"):
        described(dataclasses.replace(checkpoint, metadata=quantized), LoadOptions())


@pytest.mark.parametrize(
    ("there", "reason"), [(False, "1 of its weights are missing"), (True, "1 .* left over")]
)
def test_weights_that_do_not_fit_are_refused(
    there: bool, reason: str, foreign: Folder, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = changed(foreign("gpt-neox"), tmp_path / "other")
    file = folder / "model.safetensors"
    weights = load_file(file)
    if there:
        weights["gpt_neox.layers.0.attention.extra.weight"] = torch.zeros(3)
    else:
        del weights["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(FivefoldError, match=reason):
        load(folder, LoadOptions(threads=1))


def test_a_model_that_means_something_else_with_pages_is_refused(
    foreign: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if its attention asked for what the pages do not do: here, another factor."""
    from fivefold.backends.transformers import attention

    monkeypatch.setattr(attention, "scoring_of", lambda query, rest: attention.Scoring(0.5))
    with pytest.raises(UnsupportedError, match=r"its logits with attention over pages are \S+ away"):
        load(foreign("gpt-neox"), LoadOptions(threads=1))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (LoadOptions(cache_format="int8"), "--kv: the Transformers backend stores no entries as int8"),
        (LoadOptions(isa="portable"), "--isa: torch chooses its kernels itself"),
        (LoadOptions(reference=True), "the reference executor has no Program"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(
    options: LoadOptions, reason: str, foreign: Folder
) -> None:
    with pytest.raises(InputError, match=reason):
        load(foreign("gpt-neox"), options)


def test_what_it_takes_is_known_before_and_free_afterwards(foreign: Folder) -> None:
    folder = foreign("gpt-neox")
    need = need_of(folder, LoadOptions(context=100))
    checkpoint = open_checkpoint(folder)
    stored = sum(tensor.stored_bytes for tensor in checkpoint.tensors.values())
    assert stored <= need.weights < 1.01 * stored + 1000
    entry = 3 * 4 * (12 + 12) * 4  # layers, heads, key and value, float32
    assert need.least_bytes - need.weights == need.least * entry
    loaded: Any = load(folder, LoadOptions(threads=1, entries=need.least, context=100))
    assert loaded.backend == "transformers"
    assert abs(loaded.runner.cache_bytes - need.least * entry) <= 33 * entry
    gone = weakref.ref(loaded.runner)
    del loaded
    gc.collect()
    assert gone() is None, "something still holds the weights"


def test_inspect_says_who_runs_it(foreign: Folder) -> None:
    told = inspect_model(foreign("olmo3"))
    assert told["backend"] == "transformers"
    assert told["notice"].startswith(
        "no family here takes Olmo3ForCausalLM: it runs on the Transformers backend"
    )
    assert (told["family"], told["layers"], told["kv_heads"]) == ("olmo3", 4, 2)
    assert told["decode_weight_bytes"] > 0
    assert [line.split("; ")[0].split(": ")[-1] for line in told["refused"]] == [
        "the model has no chat template"
    ]
    assert inspect_model(foreign("mamba"))["refused"][0].endswith("take a model of another architecture")


def command(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with something run before."""
    program = f"import sys\n{before}\nfrom fivefold.cli import main\nsys.argv[1:] = {list(arguments)}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )


def test_without_the_extra_a_sentence_says_what_to_install(foreign: Folder) -> None:
    found = command("run", str(foreign("olmo3")), "-p", "a", before="sys.modules['torch'] = None")
    assert found.returncode == 2
    assert "Olmo3ForCausalLM: there is no family for this architecture" in found.stderr
    assert found.stderr.rstrip().endswith("pip install fivefold[transformers]")
    assert len(found.stderr.splitlines()) == 1


def test_run_says_on_stderr_who_runs_it_and_answers(foreign: Folder) -> None:
    found = command("run", str(foreign("olmo3")), "--raw", "-p", "a", "--max-tokens", "3", "--json")
    assert found.returncode == 0
    assert found.stderr.startswith(
        "fivefold: no family here takes Olmo3ForCausalLM: it runs on the Transformers"
    )
    assert len(found.stderr.splitlines()) == 1
    answer = json.loads(found.stdout)
    assert len(answer["tokens"]) == 3 and answer["cache_format"] == "f32"


def test_nothing_of_the_base_package_imports_torch() -> None:
    rooms = "bench, chat, cli, decode, engine, models, quantize, server"
    program = (
        f"import sys, fivefold.backends, importlib\n"
        f"[importlib.import_module('fivefold.' + room) for room in {rooms!r}.split(', ')]\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_its_entries_are_not_evicted(tmp_path: Path) -> None:
    """Neither for all requests nor for one."""
    save_foreign("olmo3", tmp_path)
    reason = "entries of a model of the Transformers backend cannot be evicted; write eviction"
    for name in ("window", "snapkv", "adakv"):
        for refuse in (need_of, load):
            with pytest.raises(UnsupportedError, match=reason):
                refuse(tmp_path, LoadOptions(eviction=name))
    assert inspect_model(tmp_path)["evictions"] == ["none"]
    engine = Engine(load(tmp_path, LoadOptions(threads=1, entries=1000, max_rows=64)))
    with pytest.raises(UnsupportedError, match=reason):
        engine.submit(Request("x", tuple(range(5, 50)), eviction=EvictionChoice("window", 16)))
    assert engine.figures().cache.used == 0 and not engine.busy
