"""Peers: other engines on the same work. One file for those with tools of their own, one for packages."""

from .choose import open_peers, parse_pairs
from .interpreter import PACKAGES, InterpreterPeer
from .llama_cpp import SERVER, LlamaCpp, find_tool
from .peer import Peer, Subject

__all__ = [
    "PACKAGES", "SERVER", "InterpreterPeer", "LlamaCpp", "Peer", "Subject", "find_tool", "open_peers",
    "parse_pairs",
]  # fmt: skip
