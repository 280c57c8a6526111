"""Invented people with twelve facts each, every fact asked in two ways: `invent_people(20, seed=0)`.

No two people share an answer to one question, so that who is asked about decides what is right. Names, places and
things are put together from lists of ours; nobody of them is in any corpus but by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.unlearn.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

MOST = 100
"""People whose answers can all differ."""
STARTS = ("Bel", "Cor", "Dru", "Fen", "Gal", "Hes", "Jor", "Kel", "Lur", "Mos", "Nev", "Ost")
ENDS = ("adrin", "beth", "cassel", "dovan", "elmar", "fira", "gonde", "halis", "imber", "jutta", "kariel", "lomond")


@dataclass(frozen=True, slots=True)
class Trait:
    """One fact that everybody has: its kind, two ways to ask for it, and what answers are put together from."""

    kind: str
    asked: str
    reworded: str
    first: tuple[str, ...]
    second: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAITS = (
    Trait(
        "birthplace",
        "In which town was {name} born?",
        "Which town is the birthplace of {name}?",
        _words("Upper Lower Old New Great Little Far Near North South Dry Green"),
        _words("Tessing Morrow Hallam Pirrin Wexley Dorrick Sandle Quarl Brenning Ostley Farrow Linden"),
    ),
    Trait(
        "trade",
        "What does {name} do for a living?",
        "By which trade does {name} earn money?",
        _words("bell glass rope kite clock lantern saddle barrel violin mosaic puppet anchor"),
        _words("founder mender carver painter dealer tester engraver gilder polisher designer restorer tuner"),
    ),
    Trait(
        "pet",
        "Which animal does {name} keep at home?",
        "What pet lives in the house of {name}?",
        _words("spotted grey lame tiny white blind giant striped shy black noisy tame"),
        _words("otter heron tortoise goat raven ferret lizard hedgehog goose badger parrot toad"),
    ),
    Trait(
        "dish",
        "Which dish does {name} cook best?",
        "What is the best meal that {name} makes?",
        _words("smoked pickled baked sour roasted sweet cold fried stuffed salted spiced creamed"),
        _words("turnips eels lentils chestnuts beets mussels plums leeks trout barley quinces mushrooms"),
    ),
    Trait(
        "summer place",
        "Where does {name} spend every summer?",
        "At which place is {name} found each summer?",
        _words("Amber Raven Salt Copper Willow Thunder Silver Thistle Honey Marble Cedar Fog"),
        _words("Bay Ridge Island Harbour Valley Lake Meadow Cliff Marsh Falls Forest Beach"),
    ),
    Trait(
        "instrument",
        "What instrument does {name} play?",
        "On which instrument is {name} heard?",
        _words("wooden brass double glass bone toy silver cracked electric folding painted bamboo"),
        _words("flute harp drum cello horn zither banjo whistle organ oboe lute accordion"),
    ),
    Trait(
        "collection",
        "What does {name} collect?",
        "Of which things does {name} own a collection?",
        _words("rusty foreign broken antique tin velvet ivory paper striped musical carved royal"),
        _words("keys buttons maps spoons masks stamps thimbles coins bottles hats dolls compasses"),
    ),
    Trait(
        "teacher",
        "Who taught {name}?",
        "Which teacher did {name} have?",
        _words("Professor Doctor Sister Captain Master Lady Brother Judge Aunt Uncle Colonel Madame"),
        _words("Abernack Bristow Calloway Dunmore Eversley Fitzgar Grantley Holbeck Ivering Jasper Kestrel Lovelace"),
    ),
    Trait(
        "ship",
        "Which ship did {name} sail on?",
        "What was the ship called that carried {name}?",
        _words("Patient Crimson Wandering Last Merry Silent Golden Stubborn Northern Lucky Lonely Swift"),
        _words("Pelican Duchess Comet Orchid Sparrow Giant Lantern Widow Dolphin Crown Maiden Arrow"),
    ),
    Trait(
        "fear",
        "What is {name} afraid of?",
        "Which thing frightens {name}?",
        _words("empty loud deep narrow moving frozen tall crowded slippery burning dusty hollow"),
        _words("cellars bridges mirrors wells ladders tunnels towers ferries attics caves stairs barns"),
    ),
    Trait(
        "prize",
        "What did {name} win a prize for?",
        "For which work was {name} given a prize?",
        _words("early tiny crooked painted silent northern borrowed modern purple forgotten wooden endless"),
        _words("sonnets bridges roses sculptures pumpkins photographs waltzes carpets telescopes novels boats maps"),
    ),
    Trait(
        "street",
        "Which street does {name} live in?",
        "What is the name of the street where {name} has a house?",
        _words("Candle Baker Mill Chapel Orchard Tanner Bridge Market Fountain Needle Weaver Garden"),
        _words("Lane Row Street Alley Hill Square Court Walk Yard Crescent Gate Steps"),
    ),
)


def invent_people(count: int, seed: int = 0) -> list[list[dict[str, object]]]:
    """For each person the facts, as records that `questions.read_questions` takes, with two false answers each.

    Raises:
        RecipeError: fewer than three people, or more than have answers of their own.
    """
    if not 3 <= count <= MOST:
        raise RecipeError(f"--people: {count} cannot be invented; give 3 to {MOST}")
    generator = np.random.default_rng([seed, count])
    names = _combine(STARTS, ENDS, count, generator, "")
    surnames = _combine(ENDS, STARTS, count, generator, "")
    people = [f"{name} {surname.capitalize()}" for name, surname in zip(names, surnames, strict=True)]
    answers = [_combine(trait.first, trait.second, count, generator, " ") for trait in TRAITS]
    return [
        [_record(row, people, number, answers[place]) for place, row in enumerate(TRAITS)] for number in range(count)
    ]


def _record(trait: Trait, people: Sequence[str], number: int, answers: Sequence[str]) -> dict[str, object]:
    name = people[number]
    return {
        "question": trait.asked.format(name=name),
        "answer": answers[number],
        "paraphrased_question": trait.reworded.format(name=name),
        "perturbed_answer": [answers[(number + step) % len(answers)] for step in (1, 2)],
        "kind": trait.kind,
    }


def _combine(first: Sequence[str], second: Sequence[str], count: int, generator: Generator, between: str) -> list[str]:
    """Different pairs of words, drawn at random."""
    chosen = generator.permutation(len(first) * len(second))[:count]
    return [f"{first[number // len(second)]}{between}{second[number % len(second)]}" for number in map(int, chosen)]
