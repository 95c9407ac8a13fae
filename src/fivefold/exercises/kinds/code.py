"""Questions about source code: arguments of functions, their bodies, where they are, what they are for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings, UnfitPassage

NAME = "code"
FEWEST = 2
"""Functions with a name of their own that a passage must have."""
SHORTEST_LINE = 12
"""Characters of a first line that can be asked for."""
INTRODUCTIONS = Phrasings(
    training=(
        "Here is some Python code.",
        "I am reading this module:",
        "The file below is part of a library.",
        "Look at the source code.",
        "This code was written by somebody else, and I have to work with it.",
    ),
    held_out=("The program text under review:", "A developer hands over this source file."),
)
ARGUMENTS = Phrasings(
    training=(
        Asking("What arguments does the function {name} take?", "def {name}("),
        Asking("How is {name} called? Give its parameters.", "{name}("),
        Asking("Repeat the line in which {name} is defined.", "def {name}"),
        Asking("List the parameters of {name}."),
        Asking("I want to call {name}. What must I pass?"),
    ),
    held_out=(
        Asking("State the signature of {name}.", "def {name}("),
        Asking("Reproduce the parameter list that {name} declares.", "{name}("),
    ),
)
BODIES = Phrasings(
    training=(
        Asking("What is the first line of the body of {name}?", "The first line is:\n"),
        Asking("Repeat the body of {name}.", "def {name}({arguments}):\n"),
        Asking("Write out the function {name} as it is in the file."),
        Asking("Which line follows the line that begins with def {name}?"),
        Asking("Show me how {name} starts.", "def {name}({arguments}):\n"),
    ),
    held_out=(
        Asking("Reproduce the implementation of {name}.", "def {name}({arguments}):\n"),
        Asking("Quote what stands directly under the definition line of {name}."),
    ),
)
OPEN = Phrasings(
    training=(
        Asking("What does {name} do?", "The function {name}"),
        Asking("Explain {name} to a beginner."),
        Asking("What is this code for?", "This code"),
        Asking("Which functions are defined in the code?", "- "),
        Asking("Write a docstring for {name}."),
    ),
    held_out=(
        Asking("Describe the behaviour of {name} and its result.", "{name}"),
        Asking("Comment on the purpose of this source file."),
    ),
)
_FUNCTION = re.compile(
    r"^[ \t]*(?:async )?def (?P<name>\w+)\((?P<arguments>[^()]*)\)(?: *->[^\n:]+)?:\n(?P<line>[ \t]+[^\n]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the passage: its name, its arguments on one line, its first line, how deep it stands."""

    name: str
    arguments: str
    line: str
    depth: float


def named_functions(text: str) -> list[Function]:
    """Functions with arguments whose name is defined once in the text."""
    found = []
    for match in _FUNCTION.finditer(text):
        name = match["name"]
        arguments = " ".join(match["arguments"].split()).strip(" ,")
        once = len(re.findall(rf"def {name}\(", text)) == 1
        if once and arguments not in {"", "self", "cls"} and len(match["line"].strip()) >= SHORTEST_LINE:
            found.append(Function(name, arguments, match["line"].strip(), match.start() / len(text)))
    return found


def build(order: Order) -> Exercise:
    """A passage of code; one of its questions is an open one, the others have answers."""
    random, side = order.random, order.side
    introduction = random.choice(INTRODUCTIONS.of(side))
    passage = order.library.passage(random, ("code",), order.size - order.tokens(introduction) - 8)
    functions = named_functions(passage.text)
    if len(functions) < max(FEWEST, order.questions // 2):
        raise UnfitPassage
    random.shuffle(functions)
    made: dict[str, Question] = {}
    for number in range(3 * order.questions):
        if len(made) == order.questions:
            break
        function = functions[number % len(functions)]
        if len(made) == 1 + order.questions // 3:
            question = _question(random.choice(OPEN.of(side)), function, None)
        elif random.random() < 0.5:
            question = _question(random.choice(ARGUMENTS.of(side)), function, function.arguments)
        else:
            question = _question(random.choice(BODIES.of(side)), function, function.line)
        made.setdefault(question.text, question)
    document = f"{introduction}\n\n```python\n{passage.text}\n```"
    return Exercise(NAME, document, tuple(made.values()), (passage.package,))


def _question(asking: Asking, function: Function, answer: str | None) -> Question:
    values = {"name": function.name, "arguments": function.arguments}
    text, prefix = asking.question.format(**values), asking.prefix.format(**values)
    return Question(text, answer, prefix, NAME, None if answer is None else function.depth)


KIND = ExerciseKind(
    NAME,
    1.0,
    {"introductions": INTRODUCTIONS, "arguments": ARGUMENTS, "bodies": BODIES, "open": OPEN},
    build,
)
