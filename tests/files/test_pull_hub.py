"""Pulling from the Hugging Face hub: the real client against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import download as download_module
from fivefold.files import list_models, open_checkpoint, pull, resolve
from fivefold.files.hub import HubReference, choose, parse_reference
from fivefold.files.store import inside

if TYPE_CHECKING:
    from conftest import Web

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(serve: Callable[[], Web], monkeypatch: pytest.MonkeyPatch) -> Web:
    """A hub; `publish` puts a repository on it."""
    web = serve()
    monkeypatch.setattr(constants, "ENDPOINT", web.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(download_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    return web


def publish(web: Web, files: dict[str, bytes], revision: str = "", large: bool = True) -> None:
    siblings: list[dict[str, Any]] = []
    for name, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        one: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
        if large and name.endswith((".gguf", ".safetensors")):
            one["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
        siblings.append(one)
        path = f"/o/r/resolve/{COMMIT}/{name}"
        web.bodies[path] = data
        web.headers[path] = {"ETag": f'"{sha256}"', "X-Repo-Commit": COMMIT}
    about = {
        "_id": "1", "id": "o/r", "sha": COMMIT, "siblings": siblings, "tags": ["gguf", "license:mit"],
        "downloads": 0, "likes": 0, "private": False,
    }  # fmt: skip
    address = "/api/models/o/r" + (f"/revision/{revision}" if revision else "")
    web.bodies[address] = json.dumps(about).encode()
    web.headers[address] = {"Content-Type": "application/json"}


def test_the_only_gguf_file_is_pulled(hub: Web, tmp_path: Path, tiny_gguf: Path) -> None:
    publish(hub, {"README.md": b"hello", "tiny.gguf": tiny_gguf.read_bytes(), "model.bin": b"pickle"})
    with pytest.raises(InputError, match="run `fivefold pull hf:o/r`"):
        resolve("hf:o/r", tmp_path)
    path = pull("hf:o/r", tmp_path)
    assert path == resolve("hf:o/r", tmp_path) == tmp_path / "hf+o+r++" / "tiny.gguf"
    assert list(open_checkpoint(path).tensors) == ["noise"]
    assert {file.name for file in path.parent.iterdir()} == {"tiny.gguf", "pulled.json"}
    (only,) = list_models(tmp_path)
    assert (only.record.name, only.record.source, only.record.licence) == (
        "hf:o/r",
        f"hf:o/r@{COMMIT}",
        "mit",
    )
    hub.asked.clear()
    assert pull("hf:o/r", tmp_path) == path
    assert not hub.asked


def test_a_named_file_of_a_revision_is_pulled(hub: Web, tmp_path: Path, tiny_gguf: Path) -> None:
    files = {"a.gguf": b"no", "sub/b.gguf": tiny_gguf.read_bytes()}
    publish(hub, files, revision="v2")
    path = pull("hf:o/r@v2:sub/b.gguf", tmp_path)
    assert path.read_bytes() == files["sub/b.gguf"]
    assert path.relative_to(tmp_path).parts[1:] == ("sub", "b.gguf")


def test_an_interrupted_pull_continues(hub: Web, tmp_path: Path, tiny_gguf: Path) -> None:
    publish(hub, {"tiny.gguf": tiny_gguf.read_bytes()})
    # The first body is the listing, the second the file.
    hub.cut = [10**6, 70_000, *[0] * download_module.ATTEMPTS]
    with pytest.raises(FivefoldError, match="goes on from there"):
        pull("hf:o/r", tmp_path)
    hub.asked.clear()
    assert pull("hf:o/r", tmp_path).read_bytes() == tiny_gguf.read_bytes()
    assert [headers["range"] for headers in hub.gets("fivefold")] == ["bytes=70000-"]


def test_wrong_content_is_refused(hub: Web, tmp_path: Path, tiny_gguf: Path) -> None:
    data = tiny_gguf.read_bytes()
    publish(hub, {"tiny.gguf": data})
    hub.bodies[f"/o/r/resolve/{COMMIT}/tiny.gguf"] = b"x" * len(data)
    with pytest.raises(FivefoldError, match="SHA-256"):
        pull("hf:o/r", tmp_path)
    assert not list_models(tmp_path)


def test_the_token_stays_with_the_hub(
    hub: Web, serve: Callable[[], Web], tmp_path: Path, tiny_gguf: Path
) -> None:
    elsewhere = serve()
    publish(hub, {"tiny.gguf": tiny_gguf.read_bytes()})
    elsewhere.bodies["/blob"] = tiny_gguf.read_bytes()
    file = f"/o/r/resolve/{COMMIT}/tiny.gguf"
    hub.redirect[file] = elsewhere.address + "/blob"
    hub.headers[file] |= {"X-Linked-Size": str(len(tiny_gguf.read_bytes()))}
    assert pull("hf:o/r", tmp_path).exists()
    assert elsewhere.asked
    assert not any("authorization" in headers for _, _, headers in elsewhere.asked)


def test_safetensors_come_with_what_they_need(hub: Web, tmp_path: Path) -> None:
    files = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"code",
        "onnx/model.safetensors": b"other",
    }
    publish(hub, files)
    folder = pull("hf:o/r", tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "pulled.json",
    }


def test_what_the_hub_does_not_have_is_said(hub: Web, tmp_path: Path) -> None:
    with pytest.raises(FivefoldError, match=r"hf:o/none: .*404|hf:o/none: there is no such repository"):
        pull("hf:o/none", tmp_path)
    publish(hub, {"tiny.gguf": b"x"})
    with pytest.raises(InputError, match=r"there is no file 'other\.gguf'; the repository has tiny\.gguf"):
        pull("hf:o/r:other.gguf", tmp_path)


def test_a_gated_repository_and_no_network_are_one_line(
    hub: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        FivefoldError, match=r"hf:o/r: the hub cannot be reached \(.*check the network"
    ) as caught:
        pull("hf:o/r", tmp_path)
    assert caught.value.status == 1

    def gated(*what: object, **more: object) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", gated)
    with pytest.raises(InputError, match="consent to its terms"):
        pull("hf:o/r", tmp_path)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf:o/r", HubReference("o/r", "", "")),
        ("hf:o/r@v1.0", HubReference("o/r", "v1.0", "")),
        ("hf:o/r@refs/pr/1:sub/x.gguf", HubReference("o/r", "refs/pr/1", "sub/x.gguf")),
        ("hf:o-1/r_2.3:x.gguf", HubReference("o-1/r_2.3", "", "x.gguf")),
    ],
)
def test_references_are_read(text: str, reference: HubReference) -> None:
    assert parse_reference(text) == reference
    assert "/" not in reference.folder


@pytest.mark.parametrize(
    "text", ["hf:", "hf:o", "hf:o/r/x", "hf:o/r:", "hf:o/r@", "hf:o/r:../x.gguf", "hf:o/r:/x.gguf", "hf:o/ r"]
)
def test_other_references_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write hf:owner/repository"):
        pull(text, tmp_path)


def test_the_choice_of_files() -> None:
    parts = [f"q8/m-{number:05d}-of-00002.gguf" for number in (1, 2)]
    assert choose(parts, "", "hf:o/r") == (parts, parts[0])
    assert choose([*parts, "a.gguf"], parts[1], "hf:o/r") == (parts, parts[0])
    with pytest.raises(InputError, match=r"2 GGUF files \(a.gguf, q8/m-00001.*hf:o/r:a.gguf"):
        choose(["a.gguf", *parts], "", "hf:o/r")
    with pytest.raises(InputError, match=r"lacks q8/m-00002-of-00002\.gguf"):
        choose(parts[:1], "", "hf:o/r")
    with pytest.raises(InputError, match="is not a GGUF file"):
        choose(["x.bin"], "x.bin", "hf:o/r")
    with pytest.raises(InputError, match="neither a GGUF file nor"):
        choose(["model.safetensors"], "", "hf:o/r")


def test_weights_that_stand_twice_are_taken_once() -> None:
    config, index = "config.json", "model.safetensors.index.json"
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    other = ["consolidated.safetensors", "x/model.safetensors"]
    assert choose([config, *other, *shards, index], "", "hf:o/r") == ([*shards, config, index], ".")
    whole = choose([config, *other, "model.safetensors", *shards, index], "", "hf:o/r")
    assert whole == (["model.safetensors", config], ".")
    assert choose([config, *other], "", "hf:o/r") == ([other[0], config], ".")


@pytest.mark.parametrize("name", ["llama-f32", "mistral-bf16"])
def test_a_pulled_folder_opens(hub: Web, tmp_path: Path, name: str) -> None:
    folder = Path(__file__).parents[1] / "models" / "data" / "folders" / name
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish(hub, {**files, "chat_template.jinja": b"{{ messages }}", "pytorch_model.bin": b"pickle"})
    path = pull("hf:o/r", tmp_path)
    assert {file.name for file in path.iterdir()} == {*files, "chat_template.jinja", "pulled.json"}
    checkpoint = open_checkpoint(path)
    assert set(checkpoint.tensors) == set(open_checkpoint(folder).tensors)
    assert checkpoint.metadata["tokenizer.chat_template"] == "{{ messages }}"


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../x", "a//x", "a/.", "c:x", "a\\x", "a\0"])
def test_names_that_lead_out_of_a_folder_are_known(name: str) -> None:
    assert not inside(name)
