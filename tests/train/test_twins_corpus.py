"""Records of packages as a corpus: what is given, what is written, what is held out, and in what order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from twin_corpus import LISTED, make_tiny_corpus

from fivefold.core.errors import FileError, InputError
from fivefold.train.twins.corpus import END, Making, make_corpus, read_split, read_tokenizer
from fivefold.train.twins.records import SPLITS, read_records, shuffled
from fivefold.train.twins.turns import Turns

ONE = """\
Package: libfoo-perl
Source: foo (1.0-1)
Version: 1.0-1+b2
Installed-Size: 12
Maintainer: A Team <team@example.org>
Architecture: all
Depends: perl:any,
 libbar-perl
Description: does foo
Description-md5: 00
Section: perl
Filename: pool/main/f/foo/libfoo-perl_1.0-1+b2_all.deb
Size: 3
SHA256: 11
"""


def test_a_record_has_what_is_given_and_what_is_written() -> None:
    (record,) = read_records(ONE)
    assert record.source == "foo"
    assert record.given == "Package: libfoo-perl\nSource: foo\nVersion: 1.0-1+b2\nDescription: does foo"
    assert record.written == (
        "\nMaintainer: A Team <team@example.org>\nArchitecture: all\nDepends: perl:any, libbar-perl"
        "\nSection: perl\nFilename: pool/main/f/foo/libfoo-perl_1.0-1+b2_all.deb"
    )


def test_a_package_without_a_source_is_its_own_and_each_comes_once() -> None:
    text = ONE.replace("Source: foo (1.0-1)\n", "")
    records = read_records(f"{text}\n{text.replace('1.0-1+b2', '0.9')}")
    assert [record.source for record in records] == ["libfoo-perl"]
    assert "1.0-1+b2" in records[0].given


def test_what_has_no_records_is_refused() -> None:
    with pytest.raises(FileError, match="no records of packages are in it"):
        read_records("Package: nothing else\n", "a.txt")


def test_splits_share_no_source_and_their_order_is_drawn() -> None:
    records = read_records(LISTED)
    splits = shuffled(records, 0)
    sources = {split: {record.source for record in splits[split]} for split in SPLITS}
    assert all(sources.values())
    assert not sources["training"] & sources["test"] and not sources["training"] & sources["validation"]
    assert sum(map(len, splits.values())) == len(records)
    assert splits["training"] != shuffled(records, 1)["training"]


def test_a_corpus_holds_the_records_as_tokens_and_texts(tmp_path: Path) -> None:
    folder = make_tiny_corpus(tmp_path)
    tokenizer, records = read_tokenizer(folder), read_split(folder, "validation")
    lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert len(lines) == len(records)
    for number, line in enumerate(lines):
        tokens, given = records[number].tolist(), int(records.given[number])
        assert tokenizer.decode(tokens[:given]) == line["given"]
        assert tokenizer.decode(tokens[given:-1]) == line["written"]
        assert tokens[-1] == tokenizer.token_to_id(END)
        assert tokenizer.encode(line["given"]).ids == tokens[:given]
    assert not (folder / "test.npz").exists()  # nothing that trains can read it
    described = json.loads((folder / "corpus.json").read_text())
    assert described["splits"]["training"]["records"] == len(read_split(folder, "training"))


def test_long_records_are_left_out(tmp_path: Path) -> None:
    whole = read_split(make_tiny_corpus(tmp_path), "training")
    longest = int(np.median(whole.lengths))
    making = Making(vocabulary=300, longest=longest)
    described = make_corpus(tmp_path / "list.txt", tmp_path / "shorter", making)
    assert described["splits"] == json.loads((tmp_path / "shorter" / "corpus.json").read_text())["splits"]
    kept = read_split(tmp_path / "shorter", "training")
    assert kept.lengths.max() <= longest and 0 < len(kept) < len(whole)
    assert len(kept) == (whole.lengths <= longest).sum()


def test_a_corpus_is_not_written_over_and_a_missing_one_is_told(tmp_path: Path) -> None:
    folder = make_tiny_corpus(tmp_path)
    with pytest.raises(InputError, match="the corpus is there already"):
        make_corpus(tmp_path / "list.txt", folder, Making(vocabulary=300))
    with pytest.raises(FileError, match="no records can be read"):
        read_split(tmp_path, "training")
    with pytest.raises(FileError, match="the tokenizer is missing"):
        read_tokenizer(tmp_path)


def test_an_epoch_has_each_record_once_in_parts_that_fit() -> None:
    rows = np.random.default_rng(0).integers(5, 90, 400).astype(np.int32)
    turns = Turns(rows, 256, seed=3)
    parts = turns.epoch(0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    assert all(len(part) * rows[part].max() <= 256 for part in parts)
    filled = sum(rows[part].sum() for part in parts) / sum(len(part) * rows[part].max() for part in parts)
    assert filled > 0.8  # parts are of records of about one length
    assert [part.tolist() for part in turns.epoch(1)] != [part.tolist() for part in parts]


def test_a_part_does_not_depend_on_those_before_it() -> None:
    rows = np.random.default_rng(1).integers(5, 90, 50).astype(np.int32)
    walked, asked = Turns(rows, 256, seed=3), Turns(rows, 256, seed=3)
    in_order = [walked.part(number).tolist() for number in range(60)]
    assert asked.part(59).tolist() == in_order[59] and asked.part(7).tolist() == in_order[7]
    until = walked.reaching(int(rows.sum()) + 1)
    assert until == len(walked.epoch(0)) + 1
