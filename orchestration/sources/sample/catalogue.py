"""What the shop sells, where it has stores, and where its customers live."""

from dataclasses import dataclass

import numpy as np

from orchestration.sources.sample.dice import Dice, Ints, Keys, Text
from orchestration.sources.sample.fragments import members, money, text

CATEGORIES = {
    "Running Shoes": (6000, 18000, ["Trail Shoe", "Road Shoe", "Racer", "Spike"]),
    "Jackets": (5000, 28000, ["Rain Jacket", "Down Jacket", "Fleece", "Windbreaker"]),
    "Backpacks": (3000, 19000, ["Daypack", "Trekking Pack", "Commuter Pack", "Sling"]),
    "Tents": (12000, 60000, ["Tunnel Tent", "Dome Tent", "Tarp", "Bivouac"]),
    "Sleeping Bags": (6000, 35000, ["Down Bag", "Summer Bag", "Quilt", "Liner"]),
    "Cycling": (1500, 45000, ["Helmet", "Jersey", "Pannier", "Bike Light"]),
    "Climbing": (800, 20000, ["Harness", "Rope", "Chalk Bag", "Climbing Shoe"]),
    "Kitchen": (500, 9000, ["Stove", "Pot Set", "Mug", "Water Filter"]),
    "Baselayers": (2000, 9000, ["Merino Shirt", "Leggings", "Socks", "Gloves"]),
    "Electronics": (2500, 60000, ["Headlamp", "GPS Watch", "Power Bank", "Radio"]),
    "Kids": (1200, 9000, ["Kids Jacket", "Kids Boot", "Kids Pack", "Kids Hat"]),
    "Nutrition": (200, 4500, ["Energy Bar", "Freeze-dried Meal", "Gel", "Electrolyte"]),
}
BRANDS = ["Nordwind", "Alpaca Peak", "Trailhead", "Kestrel", "Blue Fjord", "Ridgeway"]
PRODUCTS_PER_CATEGORY = 20

#: city, region, country, time zone, share of customers
CITIES = [
    ("Berlin", "BE", "DE", "Europe/Berlin", 0.17),
    ("London", "ENG", "GB", "Europe/London", 0.16),
    ("Lisbon", "LX", "PT", "Europe/Lisbon", 0.08),
    ("Athens", "AT", "GR", "Europe/Athens", 0.06),
    ("New York", "NY", "US", "America/New_York", 0.18),
    ("Chicago", "IL", "US", "America/Chicago", 0.10),
    ("Los Angeles", "CA", "US", "America/Los_Angeles", 0.11),
    ("Toronto", "ON", "CA", "America/Toronto", 0.05),
    ("Sao Paulo", "SP", "BR", "America/Sao_Paulo", 0.04),
    ("Tokyo", "13", "JP", "Asia/Tokyo", 0.02),
    ("Mumbai", "MH", "IN", "Asia/Kolkata", 0.02),
    ("Sydney", "NSW", "AU", "Australia/Sydney", 0.01),
]
STORES = ["store-1", "store-2", "store-3", "store-4", "store-5"]
#: everybody pays in dollars, but Canadians in theirs
CURRENCIES = ["CAD" if city[2] == "CA" else "USD" for city in CITIES]

FIRST_NAMES = [
    "Ada", "Alan", "Amara", "Anna", "Ben", "Clara", "Dmitri", "Elif", "Emma", "Farid",
    "Grace", "Hana", "Ivan", "Jonas", "Julia", "Kenji", "Lena", "Liam", "Maria", "Mei",
    "Nadia", "Noah", "Olga", "Oscar", "Priya", "Rosa", "Samir", "Sofia", "Tomas",
    "Yara",
]  # fmt: skip
LAST_NAMES = [
    "Almeida", "Andersson", "Bauer", "Brown", "Castro", "Dubois", "Evans", "Fischer",
    "Garcia", "Haddad", "Ito", "Jansen", "Kaya", "Kim", "Kowalski", "Larsen", "Martin",
    "Mehta", "Nowak", "Okafor", "Papadakis", "Rossi", "Schmidt", "Silva", "Tanaka",
    "Walker", "Weber", "Wong", "Young", "Zhang",
]  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """The products: ordered by category, then by rank."""

    price_cents: Ints
    product_id: Text
    #: what an event says about each product
    members: Text

    def pick(self, dice: Dice, purpose: str, keys: Keys, category: Ints) -> Ints:
        """One product of the category for each key; the first ranks sell best."""
        rank = dice.uniform(purpose, keys) ** 1.8 * PRODUCTS_PER_CATEGORY
        return category * PRODUCTS_PER_CATEGORY + rank.astype(np.int64)


def build_catalogue(dice: Dice) -> Catalogue:
    """The shop's products, the same for everyone with this seed."""
    count = len(CATEGORIES) * PRODUCTS_PER_CATEGORY
    numbers = np.arange(count)
    category = numbers // PRODUCTS_PER_CATEGORY
    keys = dice.child("product", np.zeros(count, dtype=np.uint64), numbers)
    labels = list(CATEGORIES)
    lows = np.array([CATEGORIES[label][0] for label in labels])[category]
    highs = np.array([CATEGORIES[label][1] for label in labels])[category]
    skewed = lows + dice.uniform("price", keys) ** 2 * (highs - lows)
    price_cents = (skewed // 100 * 100 + 95).astype(np.int64)
    brand = dice.whole("brand", keys, 0, len(BRANDS))
    brands = text([BRANDS[b] for b in brand])
    ids = text([f"p-{number:04d}" for number in numbers])
    product_names = []
    for number in numbers:
        nouns = CATEGORIES[labels[category[number]]][2]
        rank = number % PRODUCTS_PER_CATEGORY
        noun, edition = nouns[rank % len(nouns)], rank // len(nouns) + 1
        product_names.append(f"{BRANDS[brand[number]]} {noun} {edition}")
    content = members(
        count,
        product_id=ids,
        sku=text([f"SKU{number:05d}" for number in numbers]),
        name=text(product_names),
        category=text([labels[c] for c in category]),
        brand=brands,
        price=money(price_cents),
    )
    return Catalogue(price_cents, ids, content)
