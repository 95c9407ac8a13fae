"""Several short documents in one prompt, each with a title: which says something, and what one says."""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings, UnfitPassage
from fivefold.exercises.passages import PROSE, Passage
from fivefold.exercises.sentences import Sentence, named_sentences

NAME = "multi_document"
FEWEST = 2
"""Questions that the documents must allow; short ones allow fewer than are wanted."""
FEWEST_TOKENS = 120
"""Of each document; with less room there are fewer documents."""
INTRODUCTIONS = Phrasings(
    training=(
        "Here are several documents.",
        "These texts were found in one folder.",
        "The following articles have different subjects.",
        "Use the sources below.",
        "I have collected some texts:",
    ),
    held_out=("A set of documents is given.", "The reader below consists of separate pieces."),
)
HEADS = Phrasings(
    training=(
        "Document {number}: {title}",
        "[{number}] {title}",
        "## Text {number} ({title})",
        "{number}. {title}",
    ),
    held_out=("Document {number} (title: {title})", "Piece {number} - {title}"),
)
WHICH = Phrasings(
    training=(
        Asking(
            'In which document is the sentence that begins with "{beginning}"? Give its number.', "Number"
        ),
        Asking('Which of the texts says: "{sentence}"?', "This is said in number"),
        Asking(
            'I remember the words "{beginning}". What is the title of the text where they stand?', 'Title: "'
        ),
        Asking('Where do I find "{beginning}"? Name the title.'),
        Asking('"{sentence}" Which number does the text with this sentence have?', "It is number"),
    ),
    held_out=(
        Asking('Identify the piece that contains "{beginning}" by its number.', "It is contained in number"),
        Asking('State the title under which "{sentence}" is found.', "The title is"),
    ),
)
QUOTES = Phrasings(
    training=(
        Asking('Quote from "{title}" the sentence that begins with "{beginning}".', "{beginning}"),
        Asking('In text {number}, how does the sentence "{beginning} ..." end?', "{beginning}"),
        Asking('What does document {number} say after "{beginning}"?'),
        Asking('Complete from "{title}": {beginning}', "{beginning}"),
        Asking('Copy the sentence of number {number} which starts "{beginning}".'),
    ),
    held_out=(
        Asking('Cite the sentence of "{title}" whose opening is "{beginning}".', "{beginning}"),
        Asking('From piece {number}, continue literally: "{beginning}"', "{beginning}"),
    ),
)
OPEN = Phrasings(
    training=(
        Asking("What is number {number} about?", "Number {number} is about"),
        Asking('Summarize "{title}" in two sentences.'),
        Asking("How do number {number} and the others differ?"),
        Asking("Give one sentence about each of the texts.", "1."),
        Asking("Which of the texts would you read first, and why?"),
    ),
    held_out=(
        Asking("Characterize each piece briefly.", "1."),
        Asking('Outline the content of "{title}".'),
    ),
)


def build(order: Order) -> Exercise:
    """Passages with titles, one after another; one question is an open one, the others have answers."""
    random, side = order.random, order.side
    introduction, head = random.choice(INTRODUCTIONS.of(side)), random.choice(HEADS.of(side))
    count = max(2, min(random.randint(3, 8), order.size // FEWEST_TOKENS))
    room = (order.size - order.tokens(introduction)) // count - 24
    passages = [order.library.passage(random, PROSE, room) for _ in range(count)]
    if len({passage.title for passage in passages}) < count:
        raise UnfitPassage
    parts = [
        f"{head.format(number=number, title=passage.title)}\n\n{passage.text}"
        for number, passage in enumerate(passages, start=1)
    ]
    document = "\n\n".join([introduction, *parts])
    whole = {sentence.text for sentence in named_sentences(document)}
    named = [
        (number, sentence)
        for number, passage in enumerate(passages)
        for sentence in named_sentences(passage.text)
        if sentence.text in whole
    ]
    if len(named) < min(FEWEST, order.questions):
        raise UnfitPassage
    questions = tuple(
        _question(order, passages, place, at, document)
        for at, place in enumerate(random.sample(named, min(order.questions, len(named))))
    )
    return Exercise(NAME, document, questions, tuple(sorted({passage.package for passage in passages})))


def _question(
    order: Order, passages: list[Passage], place: tuple[int, Sentence], at: int, document: str
) -> Question:
    """The first question asks which, the second for a quotation, the third an open one, and so on."""
    number, sentence = place
    asking = order.random.choice((WHICH, QUOTES, OPEN)[at % 3].of(order.side))
    title = passages[number].title
    values = {
        "number": number + 1,
        "title": title,
        "beginning": sentence.beginning,
        "sentence": sentence.text,
    }
    answers = (title if "title" in asking.question.lower() else str(number + 1), sentence.rest, None)
    text, prefix = asking.question.format(**values), asking.prefix.format(**values)
    answer = answers[at % 3]
    depth = None if answer is None else document.find(sentence.text) / len(document)
    return Question(text, answer, prefix, NAME, depth)


KIND = ExerciseKind(
    NAME,
    1.0,
    {"introductions": INTRODUCTIONS, "heads": HEADS, "which": WHICH, "quotes": QUOTES, "open": OPEN},
    build,
)
