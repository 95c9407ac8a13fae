"""The JSON files of a Hugging Face folder that tell of its tokenizer, checked as they are read.

tokenizer.json holds the tokenizer; tokenizer_config.json and special_tokens_map.json say which tokens
have a role and may add some; generation_config.json and config.json say which end an answer. Only the
first must be there. What is malformed raises FileError with the file and the key. How the tokenizer
works is the matter of the modules beside this one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError
from fivefold.files.json_text import parse_object, read_text
from fivefold.files.tokenizer_bytes import SURROGATE
from fivefold.files.tokenizer_json_growth import GROWTH_LIMIT, growth

TOKENIZER, CONFIG, ROLES = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TOKENIZER_LIMIT = 256 << 20
"""Bytes that a tokenizer.json may have at most; the largest known have an eighth of that."""
GENERATION, MODEL = "generation_config.json", "config.json"
_NAMED_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTED_ROLES = ("additional_special_tokens", "extra_special_tokens")
_DANGEROUS = re.compile(r'"continuing_subword_prefix"\s*:\s*"[^"]|"vocab"\s*:\s*\[')
_ESCAPED_KEY = re.compile(r'"[^"\\]*+(?:\\[^u"][^"\\]*+)*+\\u[^"]*+"\s*:\s*["\[]')
"""Keys of models with which the library may end the process, and any key in escapes, which may be one."""
_LONGEST_PIECE = 4096
_NUMBER = re.compile("[0-9]{1,9}")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def malformed(folder: Path, name: str, what: str) -> FileError:
    """The error for a file of a folder that cannot be used."""
    return FileError(what, where=str(folder / name), remedy="fetch the folder again")


@dataclass(frozen=True, slots=True)
class TokenizerFolder:
    """What the files of a folder hold.

    `library` is tokenizer.json as the library has read it, `parts` all of it but the model;
    `model` is config.json, the others are named after their files.
    """

    path: Path
    library: Tokenizer
    parts: Mapping[str, Any]
    config: Mapping[str, Any]
    roles: Mapping[str, Any]
    generation: Mapping[str, Any]
    model: Mapping[str, Any]

    def speaks_of(self, name: str) -> bool:
        """Whether a file says which token has a role, or that none has."""
        return name in self.config or name in self.roles

    def role(self, name: str) -> str | None:
        """The token with a role, by the first file that speaks of it."""
        for file, values in ((CONFIG, self.config), (ROLES, self.roles)):
            if name in values:
                value = values[name]
                return None if value is None else self._content(file, name, value)
        return None

    def special_texts(self) -> Iterator[str]:
        """All tokens that have a role."""
        for name in _NAMED_ROLES:
            text = self.role(name)
            if text is not None:
                yield text
        for file, values in ((CONFIG, self.config), (ROLES, self.roles)):
            for name in _LISTED_ROLES:
                listed = values.get(name) or []
                if not isinstance(listed, list | dict):
                    raise malformed(self.path, file, f"key {name!r} is not a list of tokens")
                for value in listed.values() if isinstance(listed, dict) else listed:
                    yield self._content(file, name, value)

    def flag(self, name: str) -> bool | None:
        """A truth value of tokenizer_config.json; None if it is not there."""
        value = self.config.get(name)
        if value is not None and not isinstance(value, bool):
            raise malformed(self.path, CONFIG, f"key {name!r} is not true or false")
        return value

    def added_tokens(self) -> list[tuple[int, AddedToken]]:
        """The tokens that tokenizer_config.json describes, by number."""
        listed = self.config.get("added_tokens_decoder") or {}
        if not isinstance(listed, dict):
            raise malformed(self.path, CONFIG, "key 'added_tokens_decoder' is not an object")
        found: list[tuple[int, AddedToken]] = []
        for number, entry in listed.items():
            key = f"added_tokens_decoder.{number}"
            if not _NUMBER.fullmatch(number) or not isinstance(entry, dict):
                raise malformed(self.path, CONFIG, f"key {key!r} does not describe a token")
            flags = {name: entry.get(name, False) for name in _FLAGS}
            if not all(isinstance(value, bool) for value in flags.values()):
                raise malformed(self.path, CONFIG, f"key {key!r} has a flag that is not true or false")
            content = self._content(CONFIG, key, entry)
            found.append((int(number), AddedToken(content, **flags)))
        return sorted(found, key=lambda pair: pair[0])

    def numbers(self, key: str, size: int) -> list[int]:
        """The tokens under a key of the model, such as `eos_token_id`: the first file that has it counts."""
        text_model = self.model.get("text_config")
        nested = text_model if isinstance(text_model, Mapping) else {}
        for file, values in ((GENERATION, self.generation), (MODEL, self.model), (MODEL, nested)):
            value = values.get(key)
            if value is not None:
                return self._numbers(file, key, value, size)
        return []

    def template_start(self) -> str | None:
        """The token that the template of tokenizer.json puts before a text."""
        try:
            for processor in _flat(self.parts["post_processor"]):
                if processor["type"] in {"BertProcessing", "RobertaProcessing"}:
                    return str(processor["cls"][0])
                if processor["type"] == "TemplateProcessing" and "SpecialToken" in processor["single"][0]:
                    name = processor["single"][0]["SpecialToken"]["id"]
                    return str(processor["special_tokens"][name]["tokens"][0])
        except (LookupError, TypeError):  # the library does not check that tokens are listed
            raise malformed(self.path, TOKENIZER, "key 'post_processor' is not a whole template") from None
        return None

    def _numbers(self, file: str, key: str, value: Any, size: int) -> list[int]:
        numbers = value if isinstance(value, list) else [value]
        if not all(type(number) is int and 0 <= number < size for number in numbers):
            raise malformed(self.path, file, f"key {key!r} is not the id of one of {size} tokens, or a list")
        return list(numbers)

    def _content(self, file: str, name: str, value: Any) -> str:
        content = value.get("content") if isinstance(value, dict) else value
        if not isinstance(content, str) or not content or SURROGATE.search(content):
            raise malformed(self.path, file, f"key {name!r} is not a token")
        return content


def _flat(processor: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a post-processor, sequences in sequences undone."""
    if processor is not None and processor["type"] == "Sequence":
        for step in processor["processors"]:
            yield from _flat(step)
    elif processor is not None:
        yield processor


def read_tokenizer_folder(checkpoint: Checkpoint) -> TokenizerFolder:
    """The files of a checkpoint's folder. FileError if tokenizer.json is missing, or a file is malformed."""
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    text = _text(folder, TOKENIZER)
    if text is None:
        raise FileError(
            f"there is no {TOKENIZER}",
            where=str(folder),
            remedy="save the model's tokenizer in this form (`save_pretrained` of a fast tokenizer)",
        )
    if _DANGEROUS.search(text) or ("\\u" in text and _ESCAPED_KEY.search(text)):
        whole = parse_object(text, lambda what: malformed(folder, TOKENIZER, what), marks=len(text))
        _check_merges(folder, whole.get("model"))
        _check_pieces(folder, whole.get("model"))
    library = _library(folder, text)
    config, roles, generation = (
        {} if (text_of := _text(folder, name)) is None else _object(folder, name, text_of)
        for name in (CONFIG, ROLES, GENERATION)
    )
    return TokenizerFolder(
        folder, library, _parts(folder, library), config, roles, generation, checkpoint.metadata
    )


def _check_merges(folder: Path, model: Any) -> None:
    """FileError for a merge that is no pair, or does not go on as its model says, which ends the library."""
    if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
        return
    prefix = str(model.get("continuing_subword_prefix") or "")
    vocabulary = model.get("vocab")
    for rank, merge in enumerate(model["merges"]):
        key = f"key 'model.merges.{rank}'"
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise malformed(folder, TOKENIZER, f"{key} is not a pair of tokens: {merge!r:.60}")
        first, second = parts
        if not second.startswith(prefix):
            raise malformed(folder, TOKENIZER, f"{key} does not go on with {prefix!r}")
        for token in (first, second, first + second[len(prefix) :]):
            if isinstance(vocabulary, dict) and token not in vocabulary:
                raise malformed(folder, TOKENIZER, f"{key} speaks of {token!r:.60}, which is no token")


def _check_pieces(folder: Path, model: Any) -> None:
    """The library goes through a unigram piece by recursion, which ends the process in a long one."""
    pieces = model.get("vocab") if isinstance(model, dict) else None
    for number, piece in enumerate(pieces if isinstance(pieces, list) else []):
        text = piece[0] if isinstance(piece, list) and piece else None
        if isinstance(text, str) and len(text) > _LONGEST_PIECE:
            what = f"key 'model.vocab.{number}' has more than {_LONGEST_PIECE} characters"
            raise malformed(folder, TOKENIZER, what)


def is_of_the_library(error: BaseException) -> bool:
    """Whether the library raised it: nothing narrower than Exception, or a panic, which is not even that."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _library(folder: Path, text: str) -> Tokenizer:
    try:
        library = Tokenizer.from_str(text)
    except BaseException as error:
        if not is_of_the_library(error):
            raise
        _check_merges(folder, _object(folder, TOKENIZER, text).get("model"))  # it says no more than that
        raise malformed(folder, TOKENIZER, f"the tokenizers library does not take it ({error})") from None
    library.no_padding()
    library.no_truncation()
    return library


def _parts(folder: Path, library: Tokenizer) -> Mapping[str, Any]:
    """All but the model as data: of a tokenizer that has nothing else, as models can be large."""
    bare = Tokenizer(BPE())
    if library.normalizer is not None:
        bare.normalizer = library.normalizer
    if library.post_processor is not None:
        bare.post_processor = library.post_processor
    if library.decoder is not None:
        bare.decoder = library.decoder
    parts: dict[str, Any] = json.loads(bare.to_str())
    for name in ("normalizer", "decoder"):
        if growth(parts[name]) > GROWTH_LIMIT:
            raise malformed(folder, TOKENIZER, f"key {name!r} makes texts too long")
    return parts


def _text(folder: Path, name: str) -> str | None:
    path = folder / name
    return read_text(path, TOKENIZER_LIMIT) if path.exists() else None


def _object(folder: Path, name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(folder, name, f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise malformed(folder, name, "is not a JSON object")
    return value
