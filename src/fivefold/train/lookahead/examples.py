"""Stored examples: what the model keeps of a document and of questions about it, and what answers look at.

A folder of examples has one folder for each document, found by walking it:

    document.json            tokens, kinds of questions, answers, and how they were made
    keys.npy, values.npy     of the document, (layers, KV heads, T, D) float16; keys are rotated already
    0.keys.npy, 0.values.npy the same of question 0, for the S tokens that follow the document
    0.target.npy             (layers, query heads, T + S) float16: the attention which the rows of the answer
                             pay to each token of the prompt, the mean over these rows

Several questions share a document, whose entries are by far the largest part: it is stored once. A document
is written into a hidden folder and takes its name in one step, so a folder with a name is whole, and it is
never changed. Arrays are mapped when they are read. Who makes the numbers is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Int32
from fivefold.core.errors import FileError, FivefoldError, InputError
from fivefold.train.stored import whole_folder, whole_folders

FORMAT = 1
"""Version of the layout above."""

DOCUMENT = "document.json"
SHORTEST_PROMPT = 64
"""Tokens of a prompt at least: below that nothing is worth leaving out."""

Float16 = npt.NDArray[np.float16]

_REMEDY = "remove that folder and make the example again"
_KEYS = {"format", "tokens", "settings", "questions"}
_QUESTION_KEYS = {"tokens", "answer", "kind"}
_PARTS = ("keys", "values", "target")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What follows a document in one prompt (S tokens), and what its answer looked at.

    tokens  (S,) ids, those of the template before the answer among them.
    keys    (layers, KV heads, S, D) float16, rotated; values (layers, KV heads, S, V).
    target  (layers, query heads, T + S) float16, the mean over the rows of the answer.
    answer  (A,) ids of the answer, whose rows the target is of.
    kind    what was asked, for figures: "needle", "summary" and such.
    """

    tokens: Int32
    keys: Float16
    values: Float16
    target: Float16
    answer: Int32
    kind: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """The tokens that several prompts begin with (T), and the questions that are asked about them.

    keys (layers, KV heads, T, D) float16, rotated; values (layers, KV heads, T, V). `settings` say how the
    numbers were made, as JSON takes them; `name` is that of the folder.
    """

    name: str
    tokens: Int32
    keys: Float16
    values: Float16
    questions: tuple[Question, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return len(self.tokens) + max(len(question.tokens) for question in self.questions)


def write_document(folder: Path, document: Document) -> Path:
    """Write one document into a folder of examples, which is made if need be; the document's own folder.

    InputError if arrays do not fit each other or it is there already, FivefoldError if it cannot be written.
    """
    _check(document, InputError, document.name)
    target = folder / document.name
    with whole_folder(target, "example") as hidden:
        for name, values in _arrays(document).items():
            with (hidden / name).open("wb") as file:
                np.save(file, np.ascontiguousarray(values, np.float16), allow_pickle=False)
        text = json.dumps(_description(document), ensure_ascii=False)
        (hidden / DOCUMENT).write_text(text, encoding="utf-8")
    return target


def list_documents(folder: Path) -> list[Path]:
    """The folders of all whole documents, in the order of their names; FileError if there is none."""
    remedy = "name a folder that examples were made into"
    return whole_folders(folder, DOCUMENT, "no examples lie here", remedy)


def read_document(path: Path) -> Document:
    """One document, its arrays mapped (their pages are private: nothing is ever written back).

    FileError if something is missing or does not fit.
    """
    where = str(path)
    try:
        described = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
        if described.keys() != _KEYS or described["format"] != FORMAT:
            raise ValueError(f"format {described.get('format')} is not {FORMAT}")
        questions = []
        for number, question in enumerate(described["questions"]):
            if question.keys() != _QUESTION_KEYS:
                raise ValueError(f"question {number} has the keys {', '.join(question)}")
            keys, values, target = (_mapped(path / f"{number}.{part}.npy") for part in _PARTS)
            tokens, answer = (np.array(question[part], np.int32) for part in ("tokens", "answer"))
            questions.append(Question(tokens, keys, values, target, answer, str(question["kind"])))
        document = Document(
            path.name, np.array(described["tokens"], np.int32), _mapped(path / "keys.npy"),
            _mapped(path / "values.npy"), tuple(questions), described["settings"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"the example cannot be read ({error})", where=where, remedy=_REMEDY) from None
    _check(document, FileError, where)
    return document


def _mapped(path: Path) -> Float16:
    """An array as it lies in a file. Copy-on-write, because torch asks for memory that may be written."""
    found: Float16 = np.load(path, mmap_mode="c", allow_pickle=False)
    if found.dtype != np.float16:
        raise ValueError(f"{path.name} has numbers of {found.dtype}")
    return found


def _arrays(document: Document) -> dict[str, npt.NDArray[Any]]:
    """Arrays by the name of their file."""
    found: dict[str, npt.NDArray[Any]] = {"keys.npy": document.keys, "values.npy": document.values}
    for number, question in enumerate(document.questions):
        found[f"{number}.keys.npy"] = question.keys
        found[f"{number}.values.npy"] = question.values
        found[f"{number}.target.npy"] = question.target
    return found


def _description(document: Document) -> dict[str, Any]:
    """What document.json says."""
    questions = [
        {"tokens": one.tokens.tolist(), "answer": one.answer.tolist(), "kind": one.kind}
        for one in document.questions
    ]
    return {
        "format": FORMAT, "tokens": document.tokens.tolist(), "settings": dict(document.settings),
        "questions": questions,
    }  # fmt: skip


def _check(document: Document, kind: type[FivefoldError], where: str) -> None:
    """An error of that kind unless all arrays fit each other."""

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise kind(what, where=where, remedy=_REMEDY if kind is FileError else "give arrays that fit")

    name = document.name
    require(bool(name) and name == Path(name).name and not name.startswith("."), f"{name!r} names no folder")
    require(bool(document.questions), "the document has no questions")
    require(document.keys.ndim == 4, "keys are not (layers, KV heads, T, D)")
    layers, heads, _, size = document.keys.shape
    width = document.values.shape[-1]
    tokens = len(document.tokens)
    require(tokens > 0, "the document has no tokens")
    _check_entries((document.keys, document.values), (layers, heads, tokens), (size, width), require)
    queries = document.questions[0].target.shape[1] if document.questions[0].target.ndim == 3 else 0
    require(queries > 0 and queries % heads == 0, f"{queries} query heads do not share {heads} KV heads")
    for number, question in enumerate(document.questions):
        own = len(question.tokens)
        label = f"question {number}: "
        require(own > 0 and len(question.answer) > 0, f"{label}it has no tokens or no answer")
        require(tokens + own >= SHORTEST_PROMPT, f"{label}a prompt of {tokens + own} tokens is too short")
        _check_entries((question.keys, question.values), (layers, heads, own), (size, width), require, label)
        shape = (layers, queries, tokens + own)
        require(question.target.shape == shape, f"{label}target {question.target.shape} is not {shape}")


def _check_entries(
    entries: Sequence[npt.NDArray[Any]],
    shape: tuple[int, int, int],
    widths: tuple[int, int],
    require: Any,
    label: str = "",
) -> None:
    """Keys and values of the same layers, heads and tokens."""
    for word, values, width in zip(("keys", "values"), entries, widths, strict=True):
        require(values.shape == (*shape, width), f"{label}{word} {values.shape} are not {(*shape, width)}")
