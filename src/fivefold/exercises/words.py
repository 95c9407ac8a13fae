"""Names and values for needles and tables, of everyday words; a side has its own.

That a name was seen in training must not help to find it in a test.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fivefold.core.errors import InputError

from .catalogue import Side

_ADJECTIVES = {
    "training": """
        amber ancient bitter brave bright broken calm clever crimson curious eager early faint frozen
        gentle golden hidden hollow humble icy jolly keen lazy lively lonely lucky merry narrow noisy
        patient polished proud quick quiet rapid rusty sharp silent silver sleepy smooth steady stormy
        tall
    """,
    "held_out": """
        azure bold breezy cheerful chilly clumsy cosmic dusty elegant fancy fearless fuzzy giant graceful
        grumpy honest jagged mellow mighty misty nimble odd pale plucky purple royal shiny sturdy tidy
        tiny velvet vivid wandering wild witty wooden young zesty
    """,
}
_NOUNS = {
    "training": """
        anchor apple arrow badger barrel basket beacon bell bridge button candle canyon castle cherry
        clock comet compass copper cradle crow desert dolphin drum eagle engine falcon feather fiddle
        forest fox garden glacier hammer harbor helmet island jacket kettle ladder lantern lemon lion
        maple marble meadow mirror needle oak orchard otter paddle pebble pepper piano pigeon pirate
        planet raven ribbon river rocket saddle sailor shovel spider summit thunder tiger tower tunnel
        turtle valley violin walnut whistle
    """,
    "held_out": """
        acorn almond antelope balloon banjo beetle blanket boulder breeze cactus camel canoe carpet cello
        cliff clover cobra cottage dagger daisy dragon ember fern fountain gazelle goblet hedgehog heron
        igloo jasmine jungle koala lagoon lizard locket magnet mammoth mango moose nectar obelisk octopus
        oyster panther parrot pelican pumpkin quartz rabbit saffron sandal satchel sparrow teapot tulip
        umbrella vulture wagon willow yacht zebra
    """,
}


def name(random: Random, side: Side, between: str = " ") -> str:
    """An adjective and a noun."""
    return f"{random.choice(_ADJECTIVES[side].split())}{between}{random.choice(_NOUNS[side].split())}"


def word(random: Random, side: Side) -> str:
    """A noun."""
    return random.choice(_NOUNS[side].split())


def digits(random: Random, count: int) -> str:
    """A number of so many digits, the first not 0."""
    return str(random.randrange(10 ** (count - 1), 10**count))


def unused(draw: Callable[[], str], used: set[str], text: str) -> str:
    """What `draw` makes, drawn again until it is new and not in the text; it is added to `used`.

    InputError if a thousand draws bring nothing new.
    """
    for _ in range(1000):
        made = draw()
        if made not in used and made.lower() not in text.lower():
            used.add(made)
            return made
    raise InputError("no name is left that is not in the text", remedy="ask for fewer keys")
