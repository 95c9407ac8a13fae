"""A needle in noise: a few sentences repeated, and between them some that matter. RULER's niah_single_1.

Small models find such needles at any length that they can read at all.
"""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise
from fivefold.exercises.kind import ExerciseKind, Needle, Order, Phrasings
from fivefold.exercises.needles import asked, drawn

NAME = "needle_noise"
NOISE = Phrasings(
    training=(
        "The train leaves at noon. The coffee is warm. Somebody sings. Nothing else happens. Time goes by.",
        "Rain falls on the roof. The cat is asleep. A door stands open. It is a quiet day in the village.",
        "One page follows another. The clerk turns them slowly. There is nothing written here. He goes on.",
        "The waves come in. The waves go out. Gulls cry over the pier. The lamp of the lighthouse turns.",
        "Row after row of corn. A fence, a field, a fence. The road is straight. We keep driving.",
    ),
    held_out=(
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
        "Snow covers the hills. The wind is cold. Birds fly south. Another mile is behind us. We walk on.",
    ),
)
NEEDLES = Phrasings(
    training=(
        Needle(
            "Most of the following text says nothing. Somewhere in it there is a code. I will ask for it.",
            "The access code of the {key} is {value}.",
            (
                ("What is the access code of the {key}?", "The access code of the {key} is"),
                ("Which code opens the {key}? Answer with the code only.", ""),
                ("Look for the {key} in the text above. What is its code?", "Its access code is"),
            ),
        ),
        Needle(
            "Read this dull text with care. It hides a telephone number.",
            "To reach the {key}, dial {value}.",
            (
                ("Which number must I dial to reach the {key}?", "To reach the {key}, dial"),
                ("I want to call the {key}. What is the number?", ""),
                ("Tell me the telephone number of the {key}.", "The number of the {key} is"),
            ),
        ),
        Needle(
            "Here are my notes. Keep the ticket numbers in mind.",
            "Ticket number {value} belongs to the {key}.",
            (
                ("Which ticket number belongs to the {key}?", "The {key} has ticket number"),
                ("What is the {key}'s ticket number?", ""),
                ("Somebody asks for the ticket of the {key}. Give me its number.", "Ticket number"),
            ),
        ),
        Needle(
            "There is a measurement in what follows. Remember it.",
            "It was found that the {key} weighs {value} grams.",
            (
                ("How many grams does the {key} weigh?", "The {key} weighs"),
                ("State the weight of the {key}.", ""),
                ("How heavy is the {key}, according to the text?", "According to the text, it weighs"),
            ),
        ),
        Needle(
            "Below is a long text. One line of it is about an account. Find out its number.",
            "Please note: account {value} was opened for the {key}.",
            (
                ("Which account was opened for the {key}?", "The account of the {key} is"),
                ("Give the account number of the {key}.", "Account"),
                ("For the {key} an account was opened. What number does it have?", ""),
            ),
        ),
    ),
    held_out=(
        Needle(
            "A special magic number is hidden within the following text. Make sure to memorize it. I will "
            "quiz you about the number afterwards.",
            "One of the special magic numbers for {key} is: {value}.",
            (
                (
                    "What is the special magic number for {key} mentioned in the provided text?",
                    "The special magic number for {key} mentioned in the provided text is",
                ),
                (
                    "The text mentions a special magic number for {key}. Which one?",
                    "The special magic number for {key} is",
                ),
            ),
        ),
        Needle(
            "Some serial numbers are contained in this text. Memorize them, they are needed later.",
            "Keep in mind that the serial number for {key} reads {value}.",
            (
                ("How does the serial number for {key} read?", "The serial number for {key} reads"),
                ("Quote the serial number for {key} from the text.", "The serial number for {key} is"),
            ),
        ),
    ),
)


def build(order: Order) -> Exercise:
    """Lines of one noise, the needles between them at places drawn evenly; one to three if not said."""
    phrasing = order.random.choice(NEEDLES.of(order.side))
    noise = order.random.choice(NOISE.of(order.side))
    count = order.needles or order.random.randint(1, 3)
    needles = drawn(order, phrasing, count, noise)
    taken = order.tokens(phrasing.introduction, *(needle.sentence for needle in needles)) + 2 * count + 2
    lines = [noise] * max(1, int((order.size - taken) / (order.tokens("\n".join([noise] * 20)) / 20)))
    for needle in needles:
        lines.insert(order.random.randint(0, len(lines)), needle.sentence)
    document = f"{phrasing.introduction}\n\n" + "\n".join(lines)
    depths = [document.find(needle.sentence) / len(document) for needle in needles]
    return Exercise(NAME, document, asked(order, phrasing, needles, depths, NAME), ())


KIND = ExerciseKind(NAME, 1.0, {"noise": NOISE, "needles": NEEDLES}, build)
