"""Everyday questions: a topic in one of many phrasings, about no text.

What people ask an assistant is mostly not about a passage, and answers to it have phrases of their own. What
`fivefold bench parallel` asks about is left out, or the measure would be of what was learned; topics and
phrasings that are held out are apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType

PHRASINGS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "training": (
            "What is {topic}?", "Explain {topic} in a few sentences.", "How does {topic} work?",
            "Give me five tips about {topic}.", "Write a short story about {topic}.",
            "Why is {topic} important?", "What are the main parts of {topic}?", "Tell me about {topic}.",
            "Write a poem about {topic}.", "What should a beginner know about {topic}?",
            "Compare {topic} and {other}.", "List ten facts about {topic}.",
            "Write an email about {topic} to a friend.", "What is the history of {topic}?",
            "How can I learn more about {topic}?", "What are the benefits of {topic}?",
            "What problems come with {topic}?",
            "Write a dialogue about {topic} between a teacher and a student.",
            "Describe {topic} to a child.", "Summarize what is known about {topic}.",
            "Give an example of {topic} and explain it.",
            "Make a plan for a week that has to do with {topic}.", "Who is known for {topic}?",
            "Write a letter of complaint about {topic}.", "Is {topic} better than {other}? Why?",
            "What tools do I need for {topic}?", "Write a speech about {topic}.", "Define {topic}.",
            "What is the difference between {topic} and {other}?", "How much does {topic} cost?",
            "Write three questions about {topic} with their answers.",
            "What are common mistakes with {topic}?", "Write a Python program that has to do with {topic}.",
            "Write a review of a book about {topic}.", "How has {topic} changed in the last hundred years?",
            "Where can I find {topic}?", "Write an advertisement for {topic}.",
            "What does {topic} have to do with {other}?", "Give me a step by step guide to {topic}.",
            "What would the world be without {topic}?",
            "Write a paragraph that begins with the word {topic}.", "What do experts say about {topic}?",
        ),
        "held_out": (
            "Can you help me with {topic}?",
            "I want to write an article about {topic}. How should it begin?",
            "What do most people not know about {topic}?", "Name four kinds of {topic}.",
            "Write a joke about {topic}.", "How would you teach {topic}?",
        ),
    }
)  # fmt: skip

_TOPICS = {
    "training": """
            rain; thunderstorms; earthquakes; glaciers; deserts; coral reefs; forests; rivers;
            tides; the moon; comets; black holes; gravity; magnetism; electricity; batteries;
            solar panels; wind power; nuclear energy; steam engines; trains; airplanes;
            submarines; bridges; skyscrapers; tunnels; traffic lights; maps; compasses; clocks;
            calendars; money; banks; taxes; insurance; the stock market; credit cards; saving
            money; budgets; small businesses; marketing; customer service; teamwork; leadership;
            time management; public speaking; writing a resume; working from home; meetings;
            negotiation; trade unions; elections; democracy; constitutions; courts; human
            rights; the United Nations; the Roman Empire; ancient Egypt; the Middle Ages; the
            Renaissance; the industrial revolution; the second world war; explorers; pirates;
            castles; museums; libraries; newspapers; radio; television; the internet; search
            engines; social media; video games; smartphones; robots; artificial intelligence;
            computers; keyboards; printers; databases; algorithms; sorting numbers; prime
            numbers; fractions; percentages; geometry; triangles; probability; statistics;
            graphs; algebra; chess; card games; football; basketball; tennis; swimming; running;
            yoga; hiking; climbing; skiing; dancing; painting; drawing; photography; sculpture;
            music; guitars; pianos; singing; opera; theatre; movies; novels; poetry; fairy
            tales; mythology; philosophy; ethics; religion; psychology; memory; dreams; stress;
            anxiety; happiness; friendship; marriage; parenting; babies; schools; universities;
            homework; exams; reading; handwriting; spelling; grammar; translation; French;
            Spanish; sign language; vegetables; fruit; apples; bananas; potatoes; rice; pasta;
            pizza; cheese; chocolate; coffee; tea; sugar; salt; spices; breakfast; salads;
            baking; barbecues; vegetarian food; allergies; vitamins; exercise; headaches; colds;
            vaccines; doctors; dentists; hospitals; first aid; blood; the heart; the brain;
            bones; muscles; skin; eyes; hearing; teeth; dogs; horses; elephants; whales; birds;
            bees; spiders; snakes; fish; dinosaurs; evolution; genes; cells; plants; trees;
            flowers; gardening; compost; recycling; plastic; pollution; climate change; water;
            air; fire; soil; metals; gold; diamonds; glass; paper; wood; cotton; clothes; shoes;
            hats; fashion; furniture; kitchens; bathrooms; cleaning; laundry; painting a room;
            repairing a bike; changing a tire; driving; parking; camping; picnics; beaches;
            islands; mountains; cities; villages; farms; markets; restaurants; hotels; airports;
            passports; holidays; Christmas; weddings; gifts; toys; puzzles; jokes; magic tricks;
            zoos; circuses; detectives; police; firefighters; soldiers; astronauts; engineers;
            nurses; farmers; chefs; writers; scientists; inventors; kings and queens; Japan;
            China; India; Brazil; Canada; Egypt; Italy; Germany; Africa; the Amazon; Paris;
            London; New York; the ocean; the sun; stars; time travel; ghosts; dragons;
            superheroes
    """,
    "held_out": """
            rainbows; fog; caves; lighthouses; ferries; bicycles for children; roundabouts;
            pensions; mortgages; interviews with artists; juries; the Vikings; the printing
            press; typewriters; spreadsheets; passwords; decimals; volleyball; rowing; knitting;
            drums; ballet; short stories; logic; habits; neighbours; Latin; onions; noodles;
            pancakes; honey; sunburn; knees; penguins; butterflies; moss; rust; carpets;
            windows; moving house; sailing; Iceland; Kenya; Rome; meteors; vampires
    """,
}

TOPICS: Mapping[str, Sequence[str]] = MappingProxyType(
    {side: tuple(" ".join(topic.split()) for topic in text.split(";")) for side, text in _TOPICS.items()}
)


_LEFT_OUT = """
    rain; black holes; gravity; clocks; the stock market; markets; meetings; constitutions; chess;
    guitars; schools; vegetables; coffee; exercise; colds; vaccines; dogs; plants; gardening;
    flowers; water; mountains; farmers; farms; changing a tire; beaches; the second world war;
    climate change; libraries; artificial intelligence; triangles; saving money; trees; babies;
    homework; driving; clothes; vitamins
"""

LEFT_OUT = frozenset(" ".join(topic.split()) for topic in _LEFT_OUT.split(";"))
"""Topics that the benchmark's questions have, or come near to: they are drawn and drawn anew."""


def everyday_question(random: Random, side: str) -> str:
    """A question of that side."""
    while True:
        topic, other = random.sample(TOPICS[side], 2)
        question = random.choice(PHRASINGS[side]).format(topic=topic, other=other)
        if not LEFT_OUT & {topic, other}:
            return question
