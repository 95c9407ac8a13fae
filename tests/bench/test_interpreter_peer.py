"""Peers in another interpreter: the scripts that run there, with packages that pretend, and how they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fivefold.bench import Subject, Work, open_peers
from fivefold.bench.peers import PACKAGES, Peer
from fivefold.core.errors import FivefoldError, InputError

Interpreter = Callable[..., Path]
WORKS = [Work("batch", 3, 8, 5), Work("decode", 1, 1, 6), Work("prefill", 1, 20, 1), Work("depth", 1, 9, 4)]

OPENVINO = """
class Tensor:
    def __init__(self, array):
        assert array.dtype.name == "int64" and array.shape[0] == 1
        self.size = array.shape[1]
"""

OPENVINO_GENAI = """
__version__ = "fake 1"
class SchedulerConfig: pass
class GenerationConfig: pass
class Part:
    def __init__(self, count): self.generated_ids = [7] * count
class Handle:
    def __init__(self, config):
        assert config.ignore_eos and not config.do_sample
        self.left, self.new = config.max_new_tokens, 0
    def can_read(self): return self.new > 0
    def read(self):
        new, self.new = self.new, 0
        return {0: Part(new)}
class ContinuousBatchingPipeline:
    def __init__(self, model, schedule, device, properties):
        assert device == "CPU" and properties == {"INFERENCE_NUM_THREADS": 2}
        self.handles, self.names = [], set()
        print("a line that is not for us")
    def add_request(self, name, tensor, config):
        assert name not in self.names
        self.names.add(name)
        self.handles.append(Handle(config))
        return self.handles[-1]
    def has_non_finished_requests(self): return any(handle.left for handle in self.handles)
    def step(self):
        for handle in self.handles:
            if handle.left:
                handle.left -= 1
                handle.new += 1
"""

VLLM = """
__version__ = "fake 2"
class SamplingParams:
    def __init__(self, **options):
        assert options["ignore_eos"] and options["temperature"] == 0.0
        self.count = options["max_tokens"]
class EngineArgs:
    def __init__(self, **options):
        assert options["max_num_seqs"] == 3 and options["max_model_len"] == 22
class Completion:
    def __init__(self, count): self.token_ids = [1] * count
class Output:
    def __init__(self, name, count): self.request_id, self.outputs = name, [Completion(count)]
class LLMEngine:
    @classmethod
    def from_engine_args(cls, options): return cls()
    def __init__(self): self.requests = {}
    def add_request(self, name, prompt, sampling):
        assert prompt["prompt_token_ids"]
        self.requests[name] = [0, sampling.count]
    def has_unfinished_requests(self): return bool(self.requests)
    def step(self):
        for each in self.requests.values(): each[0] += 1
        outputs = [Output(name, done) for name, (done, most) in self.requests.items()]
        self.requests = {name: each for name, each in self.requests.items() if each[0] < each[1]}
        return outputs
"""

TORCH = """
import contextlib
bool = "bool"
def set_num_threads(count): assert count == 2
class Tensor:
    def __init__(self, rows): self.shape = (len(rows), len(rows[0]))
def tensor(rows): return Tensor(rows)
def ones_like(tensor): return tensor
def zeros(count, dtype): return [False] * count
inference_mode = contextlib.nullcontext
"""

TRANSFORMERS = """
__version__ = "fake 3"
class AutoModelForCausalLM:
    @classmethod
    def from_pretrained(cls, folder, dtype): return cls()
    def eval(self): return self
    def generate(self, inputs, **options):
        assert options["max_new_tokens"] == options["min_new_tokens"] and not options["do_sample"]
        for _ in range(options["max_new_tokens"]):
            assert options["stopping_criteria"][0](inputs, None) == [False] * inputs.shape[0]
"""

FAKES = {
    "openvino": {"openvino": OPENVINO, "openvino_genai": OPENVINO_GENAI},
    "vllm": {"vllm": VLLM},
    "transformers": {"torch": TORCH, "transformers": TRANSFORMERS},
}


@contextmanager
def opened(name: str, python: Path, folder: Path) -> Iterator[Peer]:
    """One peer, on a model that is only a name."""
    model = folder / "model.gguf"
    model.write_bytes(b"GGUF")
    models = {} if PACKAGES[name].reads_gguf else {name: str(folder)}
    with open_peers({name: str(python)}, models, Subject(model, 2, 500), WORKS) as peers:
        (peer,) = peers
        yield peer


def test_every_package_has_a_script_and_a_pretender() -> None:
    assert PACKAGES.keys() == FAKES.keys()


@pytest.mark.parametrize("name", FAKES)
def test_a_package_is_loaded_once_and_answers_rounds(
    name: str, interpreter: Interpreter, tmp_path: Path
) -> None:
    with opened(name, interpreter(**FAKES[name]), tmp_path) as peer:
        assert peer.name == name
        assert peer.version.startswith("fake")
        process = peer.process
        for work in WORKS * 2:
            reading = peer.measure(work, peer.settings[0], 1)
            assert reading.rate > 0
        assert peer.process == process


def test_a_package_that_is_not_there_is_told(interpreter: Interpreter, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"No module named 'openvino.*openvino-genai is installed"),
        opened("openvino", interpreter(), tmp_path),
    ):
        pass


def test_a_package_that_dies_while_loading_is_told(interpreter: Interpreter, tmp_path: Path) -> None:
    dying = "import os, sys\nprint('no such instruction', file=sys.stderr, flush=True)\nos._exit(4)\n"
    with (
        pytest.raises(FivefoldError, match="status 4: no such instruction"),
        opened("openvino", interpreter(openvino=dying), tmp_path),
    ):
        pass


STEPS = {
    "raises": ("raise RuntimeError('out of memory')", "openvino failed: RuntimeError: out of memory"),
    "dies": ("import os; os._exit(9)", "openvino ended with status 9"),
}


@pytest.mark.parametrize("fault", STEPS)
def test_a_package_that_fails_in_a_round_is_told(
    fault: str, interpreter: Interpreter, tmp_path: Path
) -> None:
    code, said = STEPS[fault]
    faulty = OPENVINO_GENAI.replace(
        "for handle in self.handles:\n            if", f"{code}\n        for handle in []:\n            if"
    )
    assert code in faulty
    python = interpreter(openvino=OPENVINO, openvino_genai=faulty)
    with opened("openvino", python, tmp_path) as peer:
        with pytest.raises(FivefoldError, match=said):
            peer.measure(WORKS[0], "", 1)
        if fault == "raises":
            with pytest.raises(FivefoldError, match=said):
                peer.measure(WORKS[1], "", 1)


def test_a_package_that_stops_early_is_no_measurement(interpreter: Interpreter, tmp_path: Path) -> None:
    short = OPENVINO_GENAI.replace("config.max_new_tokens, 0", "2, 0")
    python = interpreter(openvino=OPENVINO, openvino_genai=short)
    with opened("openvino", python, tmp_path) as peer, pytest.raises(FivefoldError, match="fewer tokens"):
        peer.measure(WORKS[0], "", 1)


def test_a_program_that_is_no_interpreter_is_told(
    program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    with (
        pytest.raises(FivefoldError, match="gave no figures"),
        opened("openvino", program("python", "echo hello"), tmp_path),
    ):
        pass
    silent = program("python", "exit 0")
    silent.chmod(0o644)
    with pytest.raises(InputError, match="cannot be run"), opened("openvino", silent, tmp_path):
        pass
