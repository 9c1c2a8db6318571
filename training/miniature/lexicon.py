"""The words of the miniature world, each in one class, split into a training and an evaluation side.

Words of the evaluation side occur in no demonstration and in no prompt that is ranked or trained on.
Pretraining text uses both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SideName = Literal["train", "evaluation", "any"]


@dataclass(frozen=True)
class Pool:
    """Words of one class by side."""

    train: tuple[str, ...]
    evaluation: tuple[str, ...]

    def of(self, side: SideName) -> tuple[str, ...]:
        """The words of one side, or of both."""
        if side == "any":
            return self.train + self.evaluation
        return self.train if side == "train" else self.evaluation

    @property
    def all(self) -> tuple[str, ...]:
        return self.train + self.evaluation


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def _pool(train: str, evaluation: str) -> Pool:
    return Pool(_words(train), _words(evaluation))


MEN = _pool(
    "ben tom sam max leo paul karl finn hugo otto nils erik ivan juan omar luis adam noah",
    "mark jack oscar felix peter simon david henry victor george",
)
WOMEN = _pool(
    "anna mia eva lisa nora ida emma clara sara lena rosa julia maria olga tina vera zoe ella",
    "ruth alice helen grace diana laura irene paula martha sophie",
)
NAMES = Pool(MEN.train + WOMEN.train, MEN.evaluation + WOMEN.evaluation)
HELPERS = _pool("rovo kiki bobo lulu nemo pixi tiko mimi", "zuzu fifi dodo gogo vivo koko")
TITLES = _pool("captain boss chief friend sir master", "king coach mayor duke admiral")
PLACES = _pool("market garden kitchen school park station church barn", "library harbor cellar attic stable museum")

# Values of facts, by relation.
COLORS = _pool("red blue green yellow black white brown gray pink purple", "orange golden ivory crimson teal beige")
HOMES = _pool(
    "swamp forest desert cave river meadow jungle valley lake canyon reef marsh tundra cliff",
    "island glacier pond dune hollow prairie lagoon volcano grove",
)
FOODS = _pool(
    "grass honey seeds worms leaves nuts berries snails roots moss clams eggs bark ferns",
    "acorns mushrooms frogs algae pollen crabs reeds clover thistles",
)
PRODUCTS = _pool(
    "cheese silk wool glass carpets paper soap pottery bells leather swords perfume candy lace",
    "barrels ink violins masks tiles saddles sails lanterns fans",
)
LANDMARKS = _pool(
    "bridge castle lighthouse statue fountain tower mill temple gate arch palace wall",
    "theater windmill monument cathedral tunnel pyramid fortress abbey",
)
MINERALS = _pool("gold iron copper tin coal lead zinc nickel granite clay", "silver amber jade quartz ruby chalk slate")
TRADES = _pool(
    "baker farmer tailor miner sailor painter teacher doctor hunter butcher smith weaver poet singer",
    "carpenter judge soldier gardener pilot lawyer merchant potter barber",
)
INSTRUMENTS = _pool(
    "flute harp drum fiddle trumpet guitar piano horn lute oboe organ",
    "cello banjo clarinet tuba zither bagpipe trombone",
)
FEARS = _pool(
    "dogs cats snakes spiders rats horses bulls bats ghosts storms wolves geese fire thunder",
    "bears darkness heights lightning thieves lions sharks ravens crowds",
)
INGREDIENTS = _pool(
    "salt flour butter sugar rice cream pepper oil garlic ginger vinegar yeast mint basil",
    "cinnamon mustard nutmeg parsley vanilla saffron sesame thyme",
)
DISHES = _pool(
    "soup cake pie stew porridge salad omelet pudding waffles pancakes noodles sauce jam pizza",
    "curry muffins lasagna biscuits dumplings risotto chowder sorbet",
)

# Kinds of things: plural name -> (singular name, members).
KINDS_TRAIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "fruits": ("fruit", _words("apple pear plum cherry lemon grape peach melon")),
    "tools": ("tool", _words("hammer saw drill wrench shovel rake axe chisel")),
    "clothes": ("garment", _words("shirt coat hat sock glove scarf dress belt")),
    "seats": ("seat", _words("chair sofa bench stool throne couch armchair hammock")),
    "vehicles": ("vehicle", _words("car bus train boat truck bike plane tram")),
    "flowers": ("flower", _words("rose tulip daisy lily violet poppy orchid iris")),
    "drinks": ("drink", _words("tea coffee milk juice beer wine cider cocoa")),
    "vegetables": ("vegetable", _words("carrot onion potato bean pea cabbage leek turnip")),
    "insects": ("insect", _words("bee ant wasp fly beetle moth locust gnat")),
    "sports": ("sport", _words("football tennis golf boxing rowing hockey rugby fencing")),
    "toys": ("toy", _words("ball doll kite puppet robot balloon puzzle yoyo")),
    "dishes": ("dish", _words("cup plate bowl spoon fork jug pan kettle")),
}
KINDS_EVALUATION: dict[str, tuple[str, tuple[str, ...]]] = {
    "trees": ("tree", _words("oak pine birch maple willow elm cedar poplar")),
    "birds": ("bird", _words("owl crow hawk robin sparrow eagle swan gull")),
    "fishes": ("fish", _words("trout salmon cod carp eel tuna perch pike")),
    "jewels": ("jewel", _words("ring necklace bracelet brooch crown pearl locket tiara")),
    "dances": ("dance", _words("waltz tango polka jig ballet samba rumba minuet")),
    "bags": ("bag", _words("purse basket sack suitcase wallet backpack pouch crate")),
}
KINDS = KINDS_TRAIN | KINDS_EVALUATION


def kinds(side: SideName) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kinds of things of one side: plural name -> (singular name, members)."""
    if side == "any":
        return KINDS
    return KINDS_TRAIN if side == "train" else KINDS_EVALUATION


def _members(table: dict[str, tuple[str, tuple[str, ...]]], *names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in table[name][1])


# Things that the people in the stories own, lose and find.
THINGS = Pool(
    _members(KINDS_TRAIN, "tools", "clothes", "toys", "dishes"),
    _members(KINDS_EVALUATION, "jewels", "bags")
    + _words("lamp rope candle mirror clock ladder pillow blanket brush comb"),
)

PLURALS = Pool(
    _words("hammer saw drill shovel rake shirt coat hat sock glove ball doll kite puppet cup plate bowl spoon"),
    _words("lamp rope candle mirror clock ladder pillow blanket comb necklace basket purse sack crate"),
)


def plural(word: str) -> str:
    """The plural of a word of `PLURALS` (all are regular)."""
    return word + "s"


_OPPOSITES_TRAIN = _words(
    "big small hot cold old young fast slow happy sad rich poor strong weak clean dirty full empty hard "
    "soft light heavy open closed early late near far"
)
_OPPOSITES_EVALUATION = _words(
    "smooth rough wet dry loud quiet brave timid thick thin sweet bitter sharp dull wide narrow deep shallow safe risky"
)
OPPOSITES = Pool(_OPPOSITES_TRAIN, _OPPOSITES_EVALUATION)
OPPOSITE_OF = {
    a: b
    for words in (_OPPOSITES_TRAIN, _OPPOSITES_EVALUATION)
    for x, y in zip(words[::2], words[1::2], strict=True)
    for a, b in ((x, y), (y, x))
}

NUMBERS = _words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = _words("january february march april may june july august september october november december")
# Words with a successor: some for training prompts, others for evaluation.
SEQUENCES_TRAIN: tuple[tuple[str, tuple[str, ...]], ...] = (("number", NUMBERS[:10]), ("day", DAYS))
SEQUENCES_EVALUATION: tuple[tuple[str, tuple[str, ...]], ...] = (("number", NUMBERS[10:]), ("month", MONTHS))

# Present and past of verbs that take a thing.
VERBS_TRAIN = _words(
    "finds/found takes/took loses/lost buys/bought sells/sold hides/hid carries/carried cleans/cleaned breaks/broke "
    "wants/wanted"
)
VERBS_EVALUATION = _words("brings/brought keeps/kept needs/needed throws/threw washes/washed draws/drew")
VERBS = Pool(VERBS_TRAIN, VERBS_EVALUATION)

# Harmful acts: verb and what it is done to (a thing, a person or a place).
HARMS = Pool(
    _words("steal/thing hurt/person poison/person burn/place rob/place forge/thing cheat/person hit/person"),
    _words("smash/thing kidnap/person attack/person wreck/place drown/person smuggle/thing"),
)

# Mild rudeness. `INSULTS` are nouns, `INSULTING` adjectives; `RUDE` holds every word that makes a text rude.
INSULTS = _pool("idiot fool moron loser pig jerk", "dummy clown blockhead nitwit")
INSULTING = _pool("stupid dumb ugly", "silly pathetic")
CURSES = ("damn", "crap")
RUDE_PHRASES = ("shut up", "get lost")
RUDE = frozenset(INSULTS.all + INSULTING.all + CURSES)


def _names(onsets: str, middles: str, ends: str, count: int, taken: set[str]) -> tuple[str, ...]:
    """Invented names of two syllables, spread over the onsets; `taken`, the names in use, grows by them."""
    names: list[str] = []
    rhymes = [(m, e) for m in middles.split() for e in ends.split()]
    step = 0
    while len(names) < count:
        for place, onset in enumerate(onsets.split()):
            middle, end = rhymes[(step * 5 + place * 3) % len(rhymes)]  # strides that visit every rhyme
            word = onset + middle + end
            if word not in taken and len(names) < count:
                taken.add(word)
                names.append(word)
        step += 1
    return tuple(names)


_taken: set[str] = set()
_creatures = _names("z l v kr m gl p sn tr b", "o i u a", "rin mba ppo lk xo nti bbit", 56, _taken)
_towns = _names("k d br t s h n m w st", "a o e u", "rdale lvik nford mstad rbury ltown", 56, _taken)
_heroes = _names("al bor cas dr el fal gr har is jor", "e a u o", "mus ndar rik lia thor vena", 56, _taken)
TRAIN_ENTITIES = 32
CREATURES = Pool(_creatures[:TRAIN_ENTITIES], _creatures[TRAIN_ENTITIES:])
TOWNS = Pool(_towns[:TRAIN_ENTITIES], _towns[TRAIN_ENTITIES:])
HEROES = Pool(_heroes[:TRAIN_ENTITIES], _heroes[TRAIN_ENTITIES:])
SUBJECTS = frozenset(CREATURES.all + TOWNS.all + HEROES.all + DISHES.all)


def pronoun(name: str) -> str:
    """he or she, for a person's name."""
    return "she" if name in WOMEN.all else "he"


def article(word: str) -> str:
    """The word with a or an."""
    return ("an " if word[0] in "aeiou" else "a ") + word


# Words that occur in evaluation prompts and answers, but in no demonstration or training prompt.
EVALUATION_ONLY = frozenset(
    word
    for pool in (
        NAMES, HELPERS, TITLES, PLACES, COLORS, HOMES, FOODS, PRODUCTS, LANDMARKS, MINERALS, TRADES, INSTRUMENTS,
        FEARS, INGREDIENTS, DISHES, THINGS, OPPOSITES, INSULTS, INSULTING, CREATURES, TOWNS, HEROES,
    )
    for word in pool.evaluation
) | frozenset(
    [word for name, (kind, members) in KINDS_EVALUATION.items() for word in (name, kind, *members)]
    + [*MONTHS, *NUMBERS[10:]]
    + [form for verb in VERBS_EVALUATION for form in verb.split("/")]
    + [plural(word) for word in PLURALS.evaluation]
    + [harm.split("/")[0] for harm in HARMS.evaluation]
)  # fmt: skip
