"""Learned parts that stand beside a model: each one safetensors file of float16 or packed bytes, tied to the
model by a fingerprint, and where such files lie.

What else a part is stands in the header's free text, each value as JSON. The fingerprint is taken of what all
number formats of a model have alike: its sizes, and the names and numbers of its vectors (norms and biases),
which are never quantized. So a part serves its model in any format, and no other: also not the same one under
other names of weights, since files with other names may have rows in another order. Beside a file NAME a part
is NAME.<suffix>, in a folder it has the bare suffix as its name; others are shipped in this package. What the
parts are is for the modules that read each kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError, FivefoldError, UnsupportedError
from fivefold.files.layout import Outline
from fivefold.files.safetensors import free_text, open_safetensors
from fivefold.files.safetensors_write import single_file
from fivefold.files.whole import whole_file
from fivefold.formats import format_of
from fivefold.program import Model, weight_name

SHIPPED = Path(__file__).parent / "shipped"

_BYTES = "u8"


def model_fingerprint(model: Model, checkpoint: Checkpoint) -> str:
    """64 hexadecimal digits that tell a model from others, whatever its matrices are stored as, and whether
    it has a side drafter or not."""
    digest = hashlib.sha256(json.dumps(asdict(model.shape), sort_keys=True).encode())
    program = model.main
    for name, weight in program.weights.items():
        own = name not in program.constants and not name.startswith(weight_name(""))
        if len(weight.shape) == 1 and own:
            digest.update(json.dumps([name, weight.shape]).encode())
            digest.update(weight.of(lambda tensor: _numbers(checkpoint.tensors[tensor])).tobytes())
    return digest.hexdigest()


def _numbers(tensor: Tensor) -> Float32:
    """A tensor without factors, as float32."""
    count = int(np.prod(tensor.shape))
    return format_of(tensor.format, tensor.name).unpack(tensor.data, count).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class PartKind:
    """A kind of learned part: what people call it, the version of its file's layout, the word that files of
    it end with before .safetensors, and the command that trains one."""

    name: str
    format: str
    word: str
    command: str

    @property
    def damaged(self) -> str:
        """What to do with a file that cannot be read."""
        return f"take another file, or train it again: {self.command}"

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """FileError in place of what goes wrong inside: a file that does not fit itself."""
        try:
            yield
        except FileError:
            raise
        except FivefoldError as error:
            raise FileError(error.what, where=str(path), remedy=self.damaged) from None
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"its description cannot be read ({error})", where=str(path), remedy=self.damaged
            ) from None

    def found(self, model: Model, checkpoint: Checkpoint, folder: Path = SHIPPED) -> tuple[Path, str] | None:
        """The file of a model's part, and the model's fingerprint; None if there is none.

        It is one that lies beside the model, whoever's it is, or the model's own of those in a folder.
        """
        beside = self.beside(checkpoint.path)
        if beside.exists():
            return beside, model_fingerprint(model, checkpoint)
        if not model.programs or next(folder.glob(self._files), None) is None:
            return None
        wanted = model_fingerprint(model, checkpoint)
        found = self.shipped(wanted, folder)
        return None if found is None else (found, wanted)

    @property
    def _files(self) -> str:
        return f"*.{self.word}.safetensors"

    def beside(self, path: Path) -> Path:
        """Where the part of the model at `path` lies if somebody put one there."""
        own = f"{self.word}.safetensors"
        return path / own if path.is_dir() else path.with_name(f"{path.name}.{own}")

    def shipped(self, fingerprint: str, folder: Path = SHIPPED) -> Path | None:
        """The file in a folder that was made for the model of that fingerprint, if there is one."""
        for path in sorted(folder.glob(self._files)):
            if json.loads(free_text(path).get("fingerprint", '""')) == fingerprint:
                return path
        return None

    def write(self, path: Path, arrays: Mapping[str, Any], described: Mapping[str, Any]) -> None:
        """Write a part: bytes as they are, and what else there is as float16. It takes its name in one step.

        FivefoldError if it cannot be written.
        """
        with np.errstate(over="ignore"):  # it is refused below, by name
            stored = {
                name: np.ascontiguousarray(values, values.dtype if values.dtype == np.uint8 else np.float16)
                for name, values in arrays.items()
            }
        too_large = next((name for name, values in stored.items() if not np.isfinite(values).all()), None)
        if too_large is not None:
            raise FivefoldError(
                f"numbers of {too_large} are too large for float16", where=str(path),
                remedy="train with a lower rate",
            )  # fmt: skip
        outlines = [
            Outline(name, _BYTES if values.dtype == np.uint8 else "f16", values.shape)
            for name, values in stored.items()
        ]
        text = {"kind": f"fivefold {self.name}", "format": self.format}
        text |= {name: json.dumps(value) for name, value in described.items()}
        head, places = single_file(path.name, outlines, text, str(path))
        try:
            with whole_file(path) as file:
                file.write(head)
                for name in sorted(places, key=lambda one: places[one].offset):
                    file.write(stored[name].tobytes())
        except OSError as error:
            raise FivefoldError(
                f"cannot be written ({error.strerror or error})", where=str(path),
                remedy="check the folder, its permissions and the room on the disk",
            ) from None  # fmt: skip

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays, of bytes or float32, and what is said of them; FileError if the file is no such part,
        ValueError if its text is not JSON."""
        tensors, text = open_safetensors(path), free_text(path)
        if text.get("kind") != f"fivefold {self.name}" or text.get("format") != self.format:
            raise FileError(
                f"this is no {self.name} of format {self.format}", where=str(path), remedy=self.damaged
            )
        arrays = {
            name: tensor.data.reshape(tensor.shape) if tensor.format == _BYTES else _numbers(tensor)
            for name, tensor in tensors.items()
        }
        described = {
            name: json.loads(value) for name, value in text.items() if name not in ("kind", "format")
        }
        return arrays, described

    def require(
        self, made_for: tuple[str, str], fingerprint: str, checkpoint: Checkpoint, path: Path
    ) -> None:
        """UnsupportedError unless a part, made for (name, fingerprint), is the checkpoint's."""
        name, found = made_for
        if found != fingerprint:
            raise UnsupportedError(
                f"the {self.name} was made for {name or 'another model'}, and this model "
                f"({checkpoint.path.name}) is another", where=str(path),
                remedy=f"train one for it: {self.command}",
            )  # fmt: skip
