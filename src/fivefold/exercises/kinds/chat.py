"""A conversation about a text: some turns have passed, and the question is the user's next one.

What the assistant has said before is taken from the text, so that no model is needed to write it.
"""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings, UnfitPassage
from fivefold.exercises.passages import ANY
from fivefold.exercises.sentences import Sentence, named_sentences

NAME = "chat"
FEWEST = 2
"""Questions that a text must allow; a short one has fewer than are wanted."""
TURN_TOKENS = 60
"""Room for each earlier turn about the text."""
OPENINGS = Phrasings(
    training=(
        Asking("Hello! I want to talk about this text with you.\n\n{text}", "Gladly. I have read it."),
        Asking("{text}\n\nHave you read this?", "Yes, I have. What would you like to know?"),
        Asking("Please help me to understand something:\n\n{text}", "Of course. Where shall we begin?"),
        Asking("Here is what I am working on.\n\n{text}", "Thank you. How can I help you with it?"),
        Asking(
            "My teacher gave me this text.\n\n{text}", "It is an interesting one. Ask me anything about it."
        ),
    ),
    held_out=(
        Asking("We are going to discuss the excerpt below.\n\n{text}", "I am ready to discuss it."),
        Asking("{text}\n\nThat was the excerpt. Let us go on.", "Understood. Please go on."),
    ),
)
TURNS = Phrasings(
    training=(
        Asking('What comes after "{beginning}"?', "{rest}"),
        Asking('Is there a sentence that begins with "{beginning}"?', "Yes, it reads: {sentence}"),
        Asking("Tell me one sentence of it that matters.", "{sentence}"),
        Asking("Show me any sentence from the middle.", 'For example: "{sentence}"'),
        Asking('"{beginning}" - how does that end?', "It ends like this: {rest}"),
    ),
    held_out=(
        Asking("Pick a sentence from the excerpt.", 'I pick this one: "{sentence}"'),
        Asking('Please complete "{beginning}" for me.', "{sentence}"),
    ),
)
QUOTES = Phrasings(
    training=(
        Asking('Thanks. And what does it say after "{beginning}"?', "{beginning}"),
        Asking('Good. Now give me the sentence that begins "{beginning}".'),
        Asking('One more: "{beginning}" ...', "{beginning}"),
        Asking('I also need the rest of "{beginning}".', "The rest is:"),
        Asking('Can you find "{beginning}" too, and read it to me?'),
    ),
    held_out=(
        Asking('Next, recite the sentence opening with "{beginning}".', "{beginning}"),
        Asking('Now the same for "{beginning}", please.', "{beginning}"),
    ),
)
RECALLS = Phrasings(
    training=(
        Asking("What was the last thing that I asked you before this?", 'You asked: "'),
        Asking("Repeat my previous question."),
        Asking("I forgot my last question. What was it?", "It was:"),
        Asking("What did I want to know a moment ago?"),
        Asking("Say again what I asked just now.", 'You asked: "'),
    ),
    held_out=(
        Asking("Restate the request which I made directly before.", 'Your request was: "'),
        Asking("Which question did you answer last?", "I answered the question:"),
    ),
)
OPEN = Phrasings(
    training=(
        Asking("What do you think of the text?", "I think"),
        Asking("Could you explain the most difficult part?"),
        Asking("So what is it all about?", "It is about"),
        Asking("Write me a short message that tells a friend about the text."),
        Asking("What should I ask you next about it?"),
        Asking("Give me three questions that the text answers.", "1."),
    ),
    held_out=(
        Asking("Wrap up what the excerpt says."),
        Asking(
            "Which thought in the excerpt deserves attention, and why?", "The thought that deserves attention"
        ),
    ),
)


def build(order: Order) -> Exercise:
    """One to three turns after the text; the questions: a quotation, an open one, what was asked before."""
    random, side = order.random, order.side
    turns = random.randint(1, 3)
    opening = random.choice(OPENINGS.of(side))
    taken = order.tokens(opening.question, opening.prefix) + turns * TURN_TOKENS + 12
    passage = order.library.passage(random, ANY, order.size - taken)
    sentences = named_sentences(passage.text)
    if len(sentences) < turns + min(FEWEST, order.questions):
        raise UnfitPassage
    chosen = random.sample(sentences, min(turns + order.questions, len(sentences)))
    history = [("user", opening.question.format(text=passage.text)), ("assistant", opening.prefix)]
    for sentence in chosen[:turns]:
        turn = random.choice(TURNS.of(side))
        history += [("user", _filled(turn.question, sentence)), ("assistant", _filled(turn.prefix, sentence))]
    before = history[-2][1]
    made = []
    for at, sentence in enumerate(chosen[turns:]):
        phrasings, answer, depth = (
            (QUOTES, sentence.rest, sentence.depth),
            (OPEN, None, None),
            (RECALLS, before, 1.0),
        )[at % 3]
        asking = random.choice(phrasings.of(side))
        text, prefix = _filled(asking.question, sentence), _filled(asking.prefix, sentence)
        made.append(Question(text, answer, prefix, NAME, depth))
    return Exercise(NAME, "", tuple(made), (passage.package,), tuple(history))


def _filled(template: str, sentence: Sentence) -> str:
    values = {"beginning": sentence.beginning, "rest": sentence.rest, "sentence": sentence.text}
    return template.format(**values)


KIND = ExerciseKind(
    NAME,
    1.0,
    {"openings": OPENINGS, "turns": TURNS, "quotes": QUOTES, "recalls": RECALLS, "open": OPEN},
    build,
)
