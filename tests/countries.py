"""What countries are called and called by, `dbt_project/seeds/countries.csv`.

Names are those of CLDR, calling codes those of libphonenumber. Run with `make
countries`; a test holds the seed against both.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator

from babel import Locale, localedata
from babel.core import get_global
from babel.languages import get_official_languages
from phonenumbers import country_code_for_region

from orchestration.settings import PROJECT

SEEDS = PROJECT / "dbt_project" / "seeds"
SEED = SEEDS / "countries.csv"
LARGE_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")


def countries() -> str:
    """The seed: each country that has a time zone, its calling code and names."""
    with (SEEDS / "time_zones.csv").open() as file:
        known = sorted({row["country"] for row in csv.DictReader(file)} - {""})
    page = io.StringIO()
    rows = csv.writer(page, lineterminator="\n")
    rows.writerow(["country", "calling_code", "names"])
    for country in known:
        called = sorted({compared(name): name for name in names(country)}.values())
        code = country_code_for_region(country) or ""
        rows.writerow([country, code, "|".join(called)])
    return page.getvalue()


def names(country: str) -> Iterator[str]:
    """Its codes, and what it is called there and in larger languages."""
    own = get_official_languages(country, regional=True, de_facto=True)
    for language in (*own, *LARGE_LANGUAGES):
        if localedata.exists(language):
            name = Locale.parse(language).territories.get(country)
            if name:
                yield name
    for code, successors in get_global("territory_aliases").items():
        if code.isalpha() and successors == [country]:
            yield code
    yield country


def compared(name: str) -> str:
    """The letters and digits by which names are compared."""
    return "".join(
        letter
        for letter in name.lower()
        if re.match("[LN]", unicodedata.category(letter))
    )


if __name__ == "__main__":
    SEED.write_text(countries())
