"""Names of runs: two words and a number, easy to say and to type."""

from __future__ import annotations

from random import Random

# fmt: off
_FIRST = (
    "able", "amber", "ancient", "arctic", "autumn", "bold", "brave", "bright", "brisk", "calm", "clever", "cool",
    "coral", "cosmic", "crisp", "curious", "daring", "deep", "eager", "early", "easy", "fair", "fancy", "fast",
    "fierce", "fluffy", "fond", "free", "fresh", "gentle", "giant", "glad", "golden", "grand", "green", "happy",
    "hardy", "honest", "humble", "icy", "jolly", "keen", "kind", "light", "lively", "long", "loud", "lucky",
    "mellow", "merry", "mighty", "misty", "neat", "nimble", "noble", "odd", "pale", "patient", "plain", "polite",
    "proud", "quick", "quiet", "rapid", "rare", "ready", "red", "rich", "ripe", "round", "royal", "rusty",
    "shiny", "short", "shy", "silent", "silver", "simple", "sleepy", "smart", "smooth", "snowy", "soft", "solid",
    "spicy", "steady", "still", "stout", "strong", "sunny", "super", "sweet", "swift", "tall", "tame", "tender",
    "tidy", "tiny", "tough", "true", "vast", "vivid", "warm", "wild", "wise", "witty", "young", "zesty",
)
# fmt: on
# fmt: off
_SECOND = (
    "ant", "badger", "bat", "bear", "beaver", "bee", "bird", "bison", "boar", "bobcat", "buck", "bull", "camel",
    "cat", "cheetah", "cobra", "cod", "condor", "cougar", "cow", "coyote", "crab", "crane", "crow", "deer",
    "dingo", "dog", "dolphin", "donkey", "dove", "dragon", "duck", "eagle", "eel", "elk", "emu", "falcon",
    "ferret", "finch", "fish", "fox", "frog", "gecko", "goat", "goose", "gull", "hare", "hawk", "hen", "heron",
    "horse", "ibex", "ibis", "jackal", "jaguar", "kiwi", "koala", "lamb", "lark", "lemur", "lion", "lizard",
    "llama", "lobster", "lynx", "magpie", "mole", "moose", "mouse", "mule", "newt", "octopus", "orca", "oryx",
    "otter", "owl", "ox", "panda", "parrot", "pelican", "pigeon", "pony", "puma", "quail", "rabbit", "raccoon",
    "ram", "raven", "robin", "salmon", "seal", "shark", "sheep", "sloth", "snail", "sparrow", "spider", "squid",
    "stork", "swan", "tapir", "tern", "tiger", "toad", "trout", "turtle", "viper", "walrus", "wasp", "weasel",
    "whale", "wolf", "wombat", "wren", "yak", "zebra",
)
# fmt: on


def propose_name(random: Random) -> str:
    """Such as `brave-otter-17`. There are about a million; the caller draws again when one is taken."""
    return f"{random.choice(_FIRST)}-{random.choice(_SECOND)}-{random.randint(1, 99)}"


def is_run_name(text: str) -> bool:
    """Whether a text could be the name of a run: a cheap check before asking the database."""
    return 0 < len(text) <= 64 and text.isascii() and text.replace("-", "").isalnum()
