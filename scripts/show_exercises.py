"""Fetch the texts of exercises, and print some exercises to look at.

    .venv/bin/python scripts/show_exercises.py FOLDER                     # fetch, and say what there is
    .venv/bin/python scripts/show_exercises.py FOLDER --side held_out --count 3 --kind quote --tokens 500

FOLDER keeps the packages; it should lie outside of the source tree. Tokens are those of the model.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from fivefold.cli.options import find_model
from fivefold.engine import LoadOptions, load
from fivefold.exercises import WEIGHTS, Drawing, Exercise, exercises, texts
from fivefold.exercises.texts import sizes


def shown(exercise: Exercise, most: int) -> str:
    """An exercise as a person would read it, its messages cut in the middle to `most` characters."""
    lines = [f"==== {exercise.kind}, of {', '.join(exercise.packages) or 'no package'}"]
    for message in exercise.messages(exercise.questions[0])[:-1]:
        lines.append(f"{message['role']}> {cut(message['content'], most)}")
    if exercise.document:
        lines.append(f"document> {cut(exercise.document, most)}")
    for question in exercise.questions:
        depth = "" if question.depth is None else f" at {question.depth:.2f}"
        lines += [f"  ? {question.text}", f"    [{question.prefix}] = {question.answer}{depth}"]
    return "\n".join(lines)


def cut(text: str, most: int) -> str:
    """The text without its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}\n   [...]\n{text[-most // 2 :]}"


def main() -> None:
    """Say what texts there are, or print exercises."""
    parser = argparse.ArgumentParser(description="Look at texts and exercises.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", choices=["training", "held_out"], default="training")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(WEIGHTS))
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=1200, help="characters of a document that are shown")
    parser.add_argument("--model", default="smollm2-135m")
    asked = parser.parse_args()
    found = texts(asked.folder, asked.side)
    if not asked.count:
        for (package, kind), size in sizes(found).items():
            print(f"{package:<24}{kind:<8}{size:>12,} characters")
        return
    vocabulary = load(find_model(asked.model), LoadOptions()).vocabulary

    def count_tokens(text: str) -> int:
        return len(vocabulary.encode(text.encode()))

    kinds = {asked.kind: 1.0} if asked.kind else WEIGHTS
    drawing = Drawing((asked.tokens, asked.tokens), asked.seed, kinds)
    for exercise in exercises(found, count_tokens, drawing, asked.count):
        print(textwrap.dedent(shown(exercise, asked.most)), end="\n\n")


if __name__ == "__main__":
    main()
