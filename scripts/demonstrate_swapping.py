"""The model behind a name is swapped while a client goes on: SmolLM2, Gemma, GPT-OSS, llama-server, back.

    scripts/demonstrate_swapping.py MODEL.gguf --llama-server PROGRAM

One client sends the same chat over and over, whole and streamed in turn. Meanwhile one line of fivefold.toml
is changed each time and the server told to read it again. The tiny models of Gemma's and GPT-OSS's form have
random weights and the tokenizer of MODEL; the engine elsewhere is llama.cpp's own server on MODEL. A line is
printed for each swap: how long it took, how many requests were answered until the next, what the first one
said, and what was changed. Ends with status 1 if any request failed, or if a model of this server said two
different things, for then an answer came from another one than the name led to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.files import default_store, open_checkpoint, resolve, write_gguf
from fivefold.formats import FORMATS

NAME, SECONDS = "demo", 600.0
ELSEWHERE = ("llama-server", "fivefold")
CHAT: dict[str, Any] = {
    "model": NAME, "messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 8,
    "temperature": 0,
}  # fmt: skip
HIDDEN, HEAD, HEADS, KV, FFN, EXPERTS = 64, 16, 4, 2, 64, 8
KEYS: dict[str, Any] = {
    "block_count": 6, "context_length": 2048, "embedding_length": HIDDEN, "feed_forward_length": FFN,
    "attention.head_count": HEADS, "attention.head_count_kv": KV, "attention.key_length": HEAD,
    "attention.value_length": HEAD, "attention.layer_norm_rms_epsilon": 1e-6, "attention.sliding_window": 64,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "gemma3": {"rope.freq_base": 1e6},
    "gpt-oss": {
        "rope.freq_base": 150000.0, "expert_feed_forward_length": FFN, "expert_count": EXPERTS,
        "expert_used_count": 2,
    },
}  # fmt: skip


def shapes(architecture: str, tokens: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a tiny model, by llama.cpp's names."""
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (tokens, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    block: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (HIDDEN,), "attn_q.weight": (HEADS * HEAD, HIDDEN),
        "attn_k.weight": (KV * HEAD, HIDDEN), "attn_v.weight": (KV * HEAD, HIDDEN),
        "attn_output.weight": (HIDDEN, HEADS * HEAD), "post_attention_norm.weight": (HIDDEN,),
    }  # fmt: skip
    if architecture == "gemma3":
        block |= {
            "attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,), "ffn_norm.weight": (HIDDEN,),
            "post_ffw_norm.weight": (HIDDEN,), "ffn_gate.weight": (FFN, HIDDEN),
            "ffn_up.weight": (FFN, HIDDEN), "ffn_down.weight": (HIDDEN, FFN),
        }  # fmt: skip
    else:
        found["output.weight"] = (tokens, HIDDEN)
        block |= {"attn_sinks.weight": (HEADS,), "ffn_gate_inp.weight": (EXPERTS, HIDDEN),
                  "ffn_gate_inp.bias": (EXPERTS,)}  # fmt: skip
        for part, outer, inner in (("gate", FFN, HIDDEN), ("up", FFN, HIDDEN), ("down", HIDDEN, FFN)):
            block[f"ffn_{part}_exps.weight"] = (EXPERTS, outer, inner)
            block[f"ffn_{part}_exps.bias"] = (EXPERTS, outer)
    for layer in range(KEYS["block_count"]):
        found |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return found


def write_tiny(path: Path, architecture: str, model: Path) -> None:
    """A model of that form with random weights and the tokens of another."""
    known = open_checkpoint(model).metadata
    metadata = {key: value for key, value in known.items() if key.startswith("tokenizer.")}
    keys = {f"{architecture}.{key}": value for key, value in (KEYS | OWN[architecture]).items()}
    random = np.random.default_rng(7)
    tensors = []
    for name, shape in shapes(architecture, len(known["tokenizer.ggml.tokens"])).items():
        values = random.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])
        values = 1 + 0.1 * values if "norm" in name else values
        form = "q8_0" if len(shape) > 1 and "bias" not in name and "gate_inp" not in name else "f32"
        packed = FORMATS[form].pack(np.ascontiguousarray(values, np.float32).ravel())
        tensors.append(Tensor(name, form, shape, packed))
    write_gguf(path, {"general.architecture": architecture, **metadata, **keys}, tensors)


@dataclass
class Client(threading.Thread):
    """Sends the chat over and over until it is told to stop."""

    port: int
    texts: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """One request after the other."""
        number = 0
        while not self.stop.is_set():
            number += 1
            began = time.monotonic()
            try:
                text = ask(f"http://127.0.0.1:{self.port}", {**CHAT, "stream": number % 2 == 0})
                self.texts.append((began, time.monotonic(), text))
            except (OSError, ValueError, KeyError) as error:
                told = error.read()[:300] if isinstance(error, urllib.error.HTTPError) else b""
                self.failures.append(f"{error} {told.decode(errors='replace')}".strip())

    def wait_for(self, count: int) -> None:
        """Until so many more requests have ended."""
        wanted, deadline = len(self.texts) + len(self.failures) + count, time.monotonic() + SECONDS
        while len(self.texts) + len(self.failures) < wanted:
            if time.monotonic() > deadline:
                raise SystemExit(f"no answer within {SECONDS:g} s")
            time.sleep(0.01)


def ask(url: str, body: dict[str, Any]) -> str:
    """The text of a whole answer; ValueError if it is cut off, or under another name."""
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        data = reply.read().decode()
    if not body.get("stream"):
        told = json.loads(data)
        chunks = [told]
        text = told["choices"][0]["message"]["content"]
    else:
        lines = data.split("\n")  # an engine that is long silent sends comments too
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if events[-1] != "[DONE]":
            raise ValueError("the stream has no end")
        chunks = [json.loads(event) for event in events[:-1]]
        parts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
        text = "".join(part or "" for part in parts)
    if any("error" in chunk or chunk["model"] != body["model"] for chunk in chunks):
        raise ValueError(f"an answer of another kind: {data[:300]}")
    return str(text)


@contextlib.contextmanager
def running(command: list[str], ready: str) -> Iterator[str]:
    """A server as a process, once it answers 200 at `ready`; without that, the first line that it prints."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if ready else None, text=True
    ) as child:
        try:
            line = ""
            if not ready and child.stdout is not None:
                line = child.stdout.readline()
            deadline = time.monotonic() + SECONDS
            while ready and not answers(ready):
                if child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not run")
                time.sleep(0.1)
            yield line
        finally:
            child.terminate()


def answers(url: str) -> bool:
    """Whether there is a 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def swap(port: int, config: Path, line: str) -> float:
    """Write the line and have the file read again; seconds until requests went to the new model."""
    config.write_text(
        f'[server]\nport = 0\nmemory = "1500MB"\n\n[[model]]\nname = "{NAME}"\ncontext = 1024\n'
        f'memory = "700MB"\n{line}\n'
    )
    if port == 0:
        return 0.0
    began = time.monotonic()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/admin/reload", method="POST")
    with urllib.request.urlopen(request, timeout=SECONDS):
        return time.monotonic() - began


def report(client: Client, changes: list[tuple[float, float, str, str]]) -> int:
    """A line for each swap and one for all; how many different answers too many there were."""
    said: dict[str, set[str]] = {}
    for number, (began, ended, which, line) in enumerate(changes):
        after = changes[number + 1][0] if number + 1 < len(changes) else float("inf")
        mine = [text for sent, came, text in client.texts if sent >= ended and came <= after]
        said.setdefault(which, set()).update(mine)
        first = mine[0][:24] if mine else ""
        print(f"{which:12} {ended - began:6.2f} s {len(mine):4} requests  {first!r:28} {line}", flush=True)
    wrong = sum(len(texts) - 1 for which, texts in said.items() if which not in ELSEWHERE)
    print(
        f"{len(client.texts)} requests answered and {len(client.failures)} failed in {len(changes) - 1} swaps"
    )
    for failure in client.failures[:5]:
        print(f"failed: {failure}", file=sys.stderr)
    return wrong


def main() -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description="Swap the model behind a name under a client.")
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="a chat model as a .gguf file")
    parser.add_argument("--llama-server", default="", help="llama.cpp's server; left out: another fivefold")
    parser.add_argument("--requests", type=int, default=6, help="requests between two swaps")
    asked = parser.parse_args()
    model = Path(resolve(asked.model, default_store()))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = {"smollm2": f'source = "{model}"'}
        for architecture in OWN:
            path = folder / f"{architecture}.gguf"
            write_tiny(path, architecture, model)
            lines[architecture] = f'source = "{path}"'
        other = free_port()
        command = [
            sys.executable,
            "-m",
            "fivefold",
            "serve",
            str(model),
            "--port",
            str(other),
            "--kv",
            "int8",
        ]
        if asked.llama_server:
            command = [asked.llama_server, "-m", str(model), "--port", str(other), "-c", "4096", "-t", "2"]
        elsewhere = ELSEWHERE[0] if asked.llama_server else ELSEWHERE[1]
        stack.enter_context(running(command, f"http://127.0.0.1:{other}/health"))
        lines[elsewhere] = f'upstream = "http://127.0.0.1:{other}/v1"\nupstream_model = "{model.stem}"'
        config = folder / "fivefold.toml"
        swap(0, config, lines["smollm2"])
        serving = [sys.executable, "-m", "fivefold", "serve", "--config", str(config)]
        line = stack.enter_context(running(serving, ""))
        match = re.search(r":(\d+)/v1", line)
        if match is None:
            raise SystemExit("fivefold serve does not run")
        client = Client(int(match[1]))
        client.start()
        changes = [(time.monotonic(), time.monotonic(), "smollm2", lines["smollm2"])]
        for which in ("gemma3", "gpt-oss", elsewhere, "smollm2", elsewhere):
            client.wait_for(asked.requests)
            began = time.monotonic()
            swap(client.port, config, lines[which])
            changes.append((began, time.monotonic(), which, lines[which].partition("\n")[0]))
            print(f"{len(client.texts)} answers; now {which}", file=sys.stderr, flush=True)
        client.wait_for(asked.requests)
        client.stop.set()
        client.join(SECONDS)
        wrong = report(client, changes)
    return 1 if client.failures or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
