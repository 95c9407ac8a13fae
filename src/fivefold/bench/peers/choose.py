"""The peers that a user names on the command line: NAME=PATH, and what each of them is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fivefold.core.errors import InputError

from ..work import Work
from .interpreter import PACKAGES, InterpreterPeer
from .llama_cpp import LlamaCpp
from .peer import Peer, Subject


def parse_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE pairs, separated by commas or given one by one; each name once."""
    pairs: dict[str, str] = {}
    for text in filter(None, (part.strip() for given in texts for part in given.split(","))):
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(
                f"{text!r} is not NAME=VALUE", where=option, remedy="for example llama.cpp=FOLDER"
            )
        if name in pairs:
            raise InputError(f"{name} is named twice", where=option, remedy="name each once")
        pairs[name] = value
    return pairs


@contextmanager
def open_peers(
    named: Mapping[str, str], models: Mapping[str, str], subject: Subject, works: Sequence[Work]
) -> Iterator[list[Peer]]:
    """Start the peers, ready to be measured on any of `works`; they are ended when the block is left.

    `models` names another file or folder for a peer. InputError for a name that is not known, a tool that is
    missing, and a package that does not read GGUF files and was given nothing else.
    """
    for name in models:
        if name not in named:
            raise InputError(
                f"{name} is not among the peers", where="--peer-model", remedy="name it in --peers"
            )
    for name, path in named.items():
        check_peer(name, path, models.get(name), subject)
    peers: list[Peer] = []
    try:
        for name, path in named.items():
            own = replace(subject, model=Path(models.get(name, subject.model)))
            peers.append(_open(name, Path(path), own, works))
        yield peers
    finally:
        for peer in peers:
            peer.close()


def check_peer(name: str, path: str, model: str | None, subject: Subject) -> None:
    """InputError if a peer cannot be what it is named as, before anything is loaded."""
    if name != "llama.cpp" and name not in PACKAGES:
        known = ", ".join(("llama.cpp=FOLDER", *(f"{package}=PYTHON" for package in PACKAGES)))
        raise InputError(f"{name!r} is not known", where="--peers", remedy=f"choose from {known}")
    if not Path(path).exists():
        raise InputError("there is no such file or folder", where=path, remedy="check --peers")
    if model is not None and not Path(model).exists():
        raise InputError("there is no such file or folder", where=model, remedy="check --peer-model")
    if name in PACKAGES and not PACKAGES[name].reads_gguf and model is None and subject.model.is_file():
        raise InputError(
            f"{name} does not read {subject.model.name}", where="--peers",
            remedy=f"name a Hugging Face folder of the same model: --peer-model {name}=FOLDER",
        )  # fmt: skip


def _open(name: str, path: Path, subject: Subject, works: Sequence[Work]) -> Peer:
    if name == "llama.cpp":
        tools = LlamaCpp(path, subject)
        for work in works:
            tools.require(work)
        return tools
    peer = InterpreterPeer(name, path, subject, works)
    try:
        peer.load()
    except BaseException:
        peer.close()
        raise
    return peer
