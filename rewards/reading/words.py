"""Words that an answer may carry: units with their sizes, and words that change a value."""

from fractions import Fraction

from rewards.reading.tree import words_of

_PREFIXES = {
    "n": "1e-9", "u": "1e-6", "m": "1e-3", "c": "1e-2", "d": "1e-1", "k": "1e3", "M": "1e6",
    "G": "1e9",
}  # fmt: skip
_PREFIXED = {
    "m": "length", "g": "mass", "s": "time", "L": "volume", "l": "volume", "V": "voltage",
    "A": "current", "W": "power", "J": "energy", "N": "force", "Pa": "pressure", "Hz": "frequency",
    "F": "capacitance", "C": "charge", "K": "temperature", "H": "inductance", "mol": "amount",
    "eV": "electron energy", "cal": "heat", "T": "field", "Ω": "resistance", "ohm": "resistance",
}  # fmt: skip
_SIZED = {
    "length": "m meter metre=1 km kilometer kilometre=1000 cm centimeter centimetre=0.01 "
    "mm millimeter millimetre=0.001 in inch inches=0.0254 ft foot feet=0.3048 yd yard=0.9144 "
    "mi mile=1609.344 micron micrometer=1e-6 nanometer=1e-9",
    "mass": "g gram=1 kg kilogram=1000 mg milligram=0.001 lb lbs pound=453.59237 "
    "oz ounce=28.349523125 ton tonne=1e6",
    "time": "s sec second=1 min minute=60 h hr hour=3600 day=86400 week=604800 ms "
    "millisecond=0.001",
    "cycle": "month=1 yr year=12",
    "volume": "L l liter litre=1 mL ml milliliter millilitre=0.001",
    "speed": "mph=0.44704 kph kmh=0.2777777777777778",
    "money": "dollar usd=1 cent=0.01",
    "rupee": "rupee rs=1", "yen": "yen=1", "yuan": "yuan rmb=1", "euro": "euro eur=1",
    "sterling": "gbp quid=1 pence=0.01",
    "count": "unit=1", "square count": "sq=1", "field": "tesla=1", "current": "amp ampere=1",
    "voltage": "volt=1", "power": "watt=1", "energy": "joule=1", "force": "newton=1",
    "pressure": "pascal=1", "atmosphere": "atm=1", "radian": "rad radian=1", "decibel": "dB=1",
    "rotation": "rpm=1", "revolution": "rev revolution=1",
}  # fmt: skip


def _table() -> dict[str, tuple[str, Fraction]]:
    units: dict[str, tuple[str, Fraction]] = {}
    for unit, dimension in _PREFIXED.items():
        units[unit] = (dimension, Fraction(1))
        for prefix, size in _PREFIXES.items():
            units.setdefault(prefix + unit, (dimension, Fraction(size)))
    for dimension, entries in _SIZED.items():
        names: list[str] = []
        for entry in entries.split():
            name, _, size = entry.partition("=")
            names.append(name)
            if size:
                for each in names:
                    units[each] = (dimension, Fraction(size))
                names = []
    return units


UNITS = _table()
"""Dimension and size of each unit by its name in the singular."""

_WORK = {"mass": 1, "length": 2, "time": -2}
DERIVED: dict[str, tuple[dict[str, int], Fraction]] = {
    "speed": ({"length": 1, "time": -1}, Fraction(1)),
    "volume": ({"length": 3}, Fraction(1, 1000)),
    "frequency": ({"time": -1}, Fraction(1)),
    "force": ({"mass": 1, "length": 1, "time": -2}, Fraction(1000)),
    "energy": (_WORK, Fraction(1000)),
    "pressure": ({"mass": 1, "length": -1, "time": -2}, Fraction(1000)),
    "power": (_WORK | {"time": -3}, Fraction(1000)),
    "voltage": (_WORK | {"time": -3, "current": -1}, Fraction(1000)),
    "resistance": (_WORK | {"time": -3, "current": -2}, Fraction(1000)),
    "charge": ({"current": 1, "time": 1}, Fraction(1)),
}
"""Dimensions made of others, with their powers, and the size in metres, grams and seconds."""

SCALES = {
    "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12,
}  # fmt: skip
"""Powers of ten by name."""

SEPARATORS = {
    "and": "and",
    "or": "or",
    "by": "by",
    "и": "and",
    "和": "and",
    "或": "or",
    "或者": "or",
}
"""Words between the parts of a list."""

CHANGES_VALUE = words_of(
    "more less most least fewer greater than over under above below up down not no except squared "
    "cubed half halves third thirds quarter quarters twice double triple dozen dozens minus plus "
    "times divided negative positive remainder mod modulo base am pm a.m. p.m. if when where for "
    "unless between from to through until before after bc ad th st nd rd sqrt per-cent o'clock "
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday yes true false only any every all "
    "infinitely undefined none nothing multiple multiples power root but neither nor"
)
"""Words after a number that make it another value, or no plain value at all."""

FILLERS = words_of(
    "the a an is are about approximately roughly exactly between all answer equals set of around "
    "there so thus hence therefore only"
)
"""Words before a value that leave it as it is."""

PERCENT = frozenset(("percent", "percentage", "pct", "percents"))
DEGREES = frozenset(("degree", "degrees", "deg"))
CURRENCY = {
    "$": "dollar", "€": "euro", "£": "gbp", "₹": "rupee", "¥": "yen", "¢": "cent", "₽": "ruble",
    "₩": "won", "฿": "baht", "元": "yuan",
}  # fmt: skip
SQUARES = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}


def unit_of(word: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit, its plural included; None for another word."""
    for form in (word, word.rstrip("."), word.removesuffix("s"), word.removesuffix("es")):
        if form in UNITS or form.casefold() in UNITS:
            return UNITS.get(form) or UNITS[form.casefold()]
    return None
