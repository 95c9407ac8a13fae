"""Models on the Hugging Face hub: `hf:owner/repository[@revision][:file]`.

huggingface_hub is asked what the repository holds and where a file lies (it knows the user's
token and the hub's rules); the bytes come through our own download, which continues what broke off
and checks the SHA-256. Only data files are taken: no pickles and no code. Converting is not done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files.download import Progress, Remote, check_room, download, file_sha256
from fivefold.files.gguf import part_paths
from fivefold.files.huggingface import INDEX, WEIGHTS
from fivefold.files.quantized import MODELOPT_CONFIG
from fivefold.files.store import inside

PREFIX = "hf:"
TIMEOUT_SECONDS = 30.0
LISTED = 12

_REFERENCE = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@\s]+))?(?::(?P<file>[^\s:]+))?", re.ASCII
)
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_BESIDE_SAFETENSORS = frozenset(
    {
        "config.json",
        "generation_config.json",
        INDEX,
        MODELOPT_CONFIG,
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
    }
)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A reference to a repository. `revision` and `file` are empty when they are left open."""

    repository: str
    revision: str
    file: str

    @property
    def folder(self) -> str:
        """The folder's name in the store: one for each reference, whatever is in it."""
        owner, name = self.repository.split("/")
        return "+".join(quote(part, safe="") for part in ("hf", owner, name, self.revision, self.file))


@dataclass(frozen=True, slots=True)
class HubFiles:
    """What was fetched: files with their sizes and SHA-256 (where known), and the one to open."""

    commit: str
    licence: str
    entry: str
    files: dict[str, int]
    sha256: dict[str, str]


def parse_reference(text: str) -> HubReference:
    """Read `hf:owner/repository[@revision][:file]`; InputError if it is written otherwise."""
    match = _REFERENCE.fullmatch(text)
    if match is None or (match["file"] and not inside(match["file"])):
        raise InputError(
            "not a reference to the hub", where=text, remedy="write hf:owner/repository[@revision][:file]"
        )
    return HubReference(match["repository"], match["revision"] or "", match["file"] or "")


def fetch_from_hub(reference: HubReference, stage: Path, progress: Progress) -> HubFiles:
    """Fetch the model's files into `stage`, under the names they have in the repository.

    Files that an earlier call left there whole are kept. InputError when the repository, the
    revision or the file does not exist or is not free to read, or when the choice is not clear;
    FivefoldError for the network and the disk.
    """
    where = f"{PREFIX}{reference.repository}"
    progress("asking the hub", 0, None)
    api = huggingface_hub.HfApi()
    try:
        info: Any = api.model_info(
            reference.repository,
            revision=reference.revision or None,
            files_metadata=True,
            timeout=TIMEOUT_SECONDS,
        )
    except Exception as error:  # the boundary to another library, whose network errors have many types
        raise _explained(error, where) from error
    siblings = {str(one.rfilename): one for one in info.siblings or () if inside(str(one.rfilename))}
    chosen, entry = choose(sorted(siblings), reference.file, where)
    sizes = {name: int(siblings[name].size or 0) for name in chosen}
    hashes = {name: str(siblings[name].lfs.sha256) for name in chosen if siblings[name].lfs}
    there = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())
    check_room(stage, max(sum(sizes.values()) - there, 0))
    for name in chosen:
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (name in hashes and target.exists() and file_sha256(target) == hashes[name]):
            target.unlink(missing_ok=True)
            remote = _remote(api, reference.repository, str(info.sha), name, hashes.get(name, ""))
            download(remote, target, progress)
    tags = [str(tag) for tag in info.tags or ()]
    licence = next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "unknown")
    sizes = {name: (stage / name).stat().st_size for name in chosen}
    return HubFiles(str(info.sha), licence, entry, sizes, hashes)


def choose(names: Sequence[str], wanted: str, where: str) -> tuple[list[str], str]:
    """Which files of a repository make the model, and which one is opened.

    The file that was named, with its other parts; else the only GGUF file; else, when there is no
    GGUF file, the safetensors files with configuration and tokenizer. InputError otherwise.
    """
    if wanted:
        if wanted not in names:
            near = [name for name in names if name.endswith(".gguf")] or list(names)
            raise InputError(
                f"there is no file {wanted!r}", where=where, remedy=f"the repository has {_listed(near)}"
            )
        if not wanted.endswith(".gguf"):
            raise InputError(f"{wanted!r} is not a GGUF file", where=where, remedy="name a .gguf file")
        return _with_parts(wanted, names, where)
    models = sorted({_first_part(name) for name in names if name.endswith(".gguf")})
    if len(models) > 1:
        raise InputError(
            f"the repository has {len(models)} GGUF files ({_listed(models)})",
            where=where,
            remedy=f"name one: fivefold pull {where}:{models[0]}",
        )
    if models:
        return _with_parts(models[0], names, where)
    weights = _safetensors(names)
    if not weights or "config.json" not in names:
        raise InputError(
            "the repository has neither a GGUF file nor safetensors files with a config.json",
            where=where,
            remedy="choose a repository with a GGUF file",
        )
    beside = _BESIDE_SAFETENSORS - ({INDEX} if weights == [WEIGHTS] else set())
    return [*weights, *(name for name in names if name in beside)], "."


def _safetensors(names: Sequence[str]) -> list[str]:
    """The weights that a folder is opened by: the file of that name, else the shards of that name.

    Repositories may hold the same weights again under other names; without these two all are taken.
    """
    if WEIGHTS in names:
        return [WEIGHTS]
    files = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    shards = [name for name in files if _SHARD.fullmatch(name)] if INDEX in names else []
    return shards or files


def _first_part(name: str) -> str:
    parts = part_paths(PurePosixPath(name))
    return str(parts[0]) if parts else name


def _with_parts(name: str, names: Sequence[str], where: str) -> tuple[list[str], str]:
    parts = [str(part) for part in part_paths(PurePosixPath(name)) or [PurePosixPath(name)]]
    missing = [part for part in parts if part not in names]
    if missing:
        raise InputError(
            f"the repository lacks {_listed(missing)}", where=where, remedy="choose another file or revision"
        )
    return parts, parts[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _remote(api: huggingface_hub.HfApi, repository: str, commit: str, name: str, sha256: str) -> Remote:
    """Where a file of a commit lies. Credentials go to the hub's own host only."""
    url = huggingface_hub.hf_hub_url(repository, name, revision=commit, endpoint=api.endpoint)
    try:
        metadata = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS, endpoint=api.endpoint)
    except Exception as error:  # as above
        raise _explained(error, f"{PREFIX}{repository}:{name}") from error
    headers: dict[str, str] = {}
    if urlsplit(metadata.location).netloc == urlsplit(url).netloc:
        token = huggingface_hub.get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Remote(metadata.location, metadata.size, sha256, headers)


def _explained(error: Exception, where: str) -> FivefoldError:
    """The error for people: what they can change exits with 2, the network with 1."""
    if isinstance(error, GatedRepoError):
        return InputError(
            "the repository asks for consent to its terms",
            where=where,
            remedy="agree on its web page and log in with `hf auth login`",
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError("there is no such revision", where=where, remedy="check the name after @")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return InputError(
            "there is no such repository, or it is not public",
            where=where,
            remedy="check the name; for a private one log in with `hf auth login`",
        )
    if isinstance(error, EntryNotFoundError):
        return InputError("there is no such file", where=where, remedy="check the name after the colon")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return FivefoldError(
            f"the hub answered with status {error.response.status_code}",
            where=where,
            remedy="try again later",
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return FivefoldError(
        f"the hub cannot be reached ({reason})",
        where=where,
        remedy="check the network and the proxy, or name a .gguf file on this machine",
    )
