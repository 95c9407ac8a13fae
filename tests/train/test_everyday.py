"""Everyday questions: many, apart by side, and about nothing that the benchmark asks about."""

from __future__ import annotations

import re
from importlib.resources import files
from random import Random

from fivefold.train.drafter.everyday import LEFT_OUT, PHRASINGS, TOPICS, everyday_question

BENCHMARK = files("fivefold.bench.parallel").joinpath("general.txt").read_text().lower()


def test_no_topic_is_one_of_the_benchmark() -> None:
    for topic in set(TOPICS["training"]) - LEFT_OUT:
        stem = topic.lower().removesuffix("s")
        assert not re.search(rf"\b{re.escape(stem)}s?\b", BENCHMARK), topic
    assert set(TOPICS["training"]) >= LEFT_OUT, "the others are never drawn anyway"


def test_sides_are_apart() -> None:
    for part in (TOPICS, PHRASINGS):
        assert not set(part["training"]) & set(part["held_out"])
        assert all(len(set(side)) == len(side) and all(side) for side in part.values())


def test_questions_are_many_and_whole() -> None:
    asked = {everyday_question(Random(number), "training") for number in range(2000)}
    assert len(asked) > 1500 and all("{" not in question for question in asked)
    words = " ".join(asked)
    assert not any(f" {topic} " in words for topic in LEFT_OUT if " " in topic)
    assert everyday_question(Random(3), "held_out") == everyday_question(Random(3), "held_out")
