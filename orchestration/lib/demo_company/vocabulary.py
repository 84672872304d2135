"""Words and fixed lists of the demo company: names, places, products, pages. Data only, and how names are
combined.

All companies are made up from syllables and live under the reserved domain `.example` (RFC 2606), so no
address of theirs can exist; network addresses come from the documentation ranges of RFC 5737.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def _words(text: str) -> list[str]:
    """A list written as one text, because one word per line would make this file ten times as long."""
    return text.split()


_STARTS = _words(
    "vel nor hal tra bri cas dor fen gar hel ist jun kor lan mor nes ost pel qui ras sol tar ulm var wes "
    "xan yor zel alt ber cre dal ebe fal gri hol ing kel lum mer"
)
# Starts have three letters, middles two, ends are all different: so a name is made by one combination only.
_MIDDLES = _words(
    "ta no ri do ma li se ra ve lo ni ka de mi so la te ro vi na ge lu pa be su ga fo mu ti bo ko pe sa "
    "ne fi du wa ze re vo"
)
_ENDS = _words(
    "nor dek vik tas lon mar ris ten gard mund berg sen dal holm stad tech nex via tron ys um ax on ia el "
    "an is or us en io era ova ent ist ath elm ond rin lux"
)
_FORMS = _words(
    "Systems Group Works Partners Industries Services Solutions Trading Holding Technik Logistics Media "
    "Consulting Energy Digital Foods Labs Metals Networks Optics Plastics Retail Supply Ventures"
)
_NAME_COUNT = len(_STARTS) * len(_MIDDLES) * len(_ENDS) * len(_FORMS)

FIRST_NAMES = _words(
    "Anna Ben Clara David Eva Finn Greta Hugo Ida Jonas Klara Leon Mia Noah Olga Paul Rosa Simon Tilda "
    "Uwe Vera Willem Yara Anton Britt Carl Dora Emil Frida Georg Helen Ivan Julia Karl Lena Max Nora Otto "
    "Petra "
    "Rolf Sofia Tom"
)  # women and men in turn
_LAST_STARTS = _words(
    "Acker Berg Birken Dorn Eich Fels Gries Hasel Kirsch Lind Mohn Nuss Ried Stein Tann Ulmen Wald Weid"
)
_LAST_ENDS = _words("mann er sson feld hof bauer lund quist stra sen ley wood eau ini ova berg")
LAST_NAMES = [start + end for start in _LAST_STARTS for end in _LAST_ENDS]

FREE_MAIL_DOMAINS = ["gmail.com", "outlook.com", "gmx.de", "yahoo.com"]

INDUSTRIES = [
    "software",
    "manufacturing",
    "finance",
    "logistics",
    "retail",
    "healthcare",
    "energy",
    "construction",
    "public administration",
]
INDUSTRY_SHARES = np.array([0.16, 0.2, 0.1, 0.11, 0.14, 0.09, 0.06, 0.08, 0.06])

REGIONS = ["DACH", "Western Europe", "Nordics", "UK & Ireland"]
COUNTRIES = ["DE", "AT", "CH", "FR", "NL", "BE", "SE", "DK", "NO", "GB", "IE"]
COUNTRY_SHARES = np.array([0.3, 0.06, 0.08, 0.14, 0.08, 0.05, 0.07, 0.05, 0.04, 0.1, 0.03])
COUNTRY_REGION = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
CITIES_PER_COUNTRY = 4
CITIES = _words(
    "Berlin Hamburg Munich Cologne Vienna Graz Linz Salzburg Zurich Basel Bern Geneva Paris Lyon Lille "
    "Nantes "
    "Amsterdam Utrecht Rotterdam Eindhoven Brussels Ghent Antwerp Liege Stockholm Gothenburg Malmo "
    "Uppsala Copenhagen "
    "Aarhus Odense Aalborg Oslo Bergen Trondheim Stavanger London Leeds Bristol Manchester Dublin Cork "
    "Galway Limerick"
)

ACCOUNT_TYPES = ["company", "public_sector", "sole_trader"]
LEAD_SOURCES = ["online", "cold", "network", "tender", "partner"]
LEAD_SOURCE_SHARES = np.array([0.38, 0.22, 0.16, 0.1, 0.14])
TECH_STACKS = ["cloud", "hybrid", "on_premises"]

SENIORITIES = ["c_level", "head", "manager", "staff"]
FUNCTIONS = ["it", "finance", "operations", "marketing", "sales", "purchasing"]
FUNCTION_TITLES = ["IT", "Finance", "Operations", "Marketing", "Sales", "Purchasing"]
C_LEVEL_TITLES = ["CIO", "CFO", "COO", "CMO", "CSO", "CPO"]

USERS = [
    "Alma Riedhof", "Bo Lindquist", "Carla Steinmann", "Dirk Felsbauer", "Elin Tannlund", "Fabio Mohnini",
    "Gesa Eichfeld", "Harry Weidwood", "Inka Birkenova", "Jan Griesstra", "Kaja Haselsen", "Liam Kirschley",
]  # fmt: skip
MANAGERS = ["Maren Waldhof", "Noel Bergeau", "Oda Ulmensson", "Perry Nusswood"]
USERS_PER_REGION = 3

PRODUCTS = [
    "Flow Start",
    "Flow Team",
    "Flow Enterprise",
    "Insight Add-on",
    "Connect API",
    "Onboarding Package",
]
PRODUCT_FAMILIES = ["Flow", "Flow", "Flow", "Insight", "Connect", "Services"]
PRODUCT_PRICES = [4_800, 14_400, 48_000, 9_600, 12_000, 6_500]
PRODUCT_SLUGS = ["flow-start", "flow-team", "flow-enterprise", "insight", "connect-api", "onboarding"]

SITE = "https://www.flowdesk.example"
PAGES = ["/", "/about", "/customers", "/blog/planning", "/blog/costs", "/careers", "/docs", "/contact"]
DOWNLOADS = ["buyers-guide", "roi-calculator", "security-whitepaper", "benchmark-report"]
FORMS = ["contact-us", "request-demo", "webinar-sign-up"]

# One flat list of pages; the first code of each group.
URLS = (
    [SITE + page for page in PAGES]
    + [f"{SITE}/products/{slug}" for slug in PRODUCT_SLUGS]
    + [f"{SITE}/pricing", f"{SITE}/pricing/enterprise"]
    + [f"{SITE}/downloads/{name}" for name in DOWNLOADS]
    + [f"{SITE}/forms/{name}" for name in FORMS]
    + [f"{SITE}/trial", f"{SITE}/newsletter"]
)
URL_PAGE, URL_PRODUCT = 0, len(PAGES)
URL_PRICING = URL_PRODUCT + len(PRODUCT_SLUGS)
URL_DOWNLOAD = URL_PRICING + 2
URL_FORM = URL_DOWNLOAD + len(DOWNLOADS)
URL_TRIAL = URL_FORM + len(FORMS)
URL_NEWSLETTER = URL_TRIAL + 1

_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
USER_AGENTS = [
    f"{_WINDOWS} Chrome/138.0 Safari/537.36",
    f"{_WINDOWS} Chrome/138.0 Safari/537.36 Edg/138.0",
    f"{_MAC} Version/18.3 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    f"{_PHONE} Version/18.3 Mobile/15E148 Safari/604.1",
    "Microsoft Outlook 16.0",
    "Mozilla/5.0 (compatible; ExampleMailGuard/2.1; link check)",
    "Mozilla/5.0 (compatible; ExampleCrawler/1.0; +https://crawler.example/bot)",
]
# The first ones are people's; then a security gateway that follows every link of a message, and a crawler.
HUMAN_AGENT_COUNT = 6
GATEWAY_AGENT, CRAWLER_AGENT = 6, 7

IP_ADDRESSES = [f"{net}.{host}" for net in ("192.0.2", "198.51.100", "203.0.113") for host in range(1, 255)]

SOCIAL_NETWORKS = ["linkedin", "xing", "youtube"]
SOCIAL_TYPES = ["follow", "like", "comment", "share", "mention", "message"]
LOSS_REASONS = ["price", "no budget", "competitor", "no decision", "missing feature", "timing"]
CALL_OUTCOMES = ["reached", "voicemail", "call back", "not interested"]


def company_names(numbers: NDArray[np.int64], seed: int) -> tuple[pa.Array, pa.Array]:
    """Name and domain of each account, shape (n,); unique over all numbers, in an order that the seed
    shuffles.

    The numbers are permuted by an affine map modulo the count of combinations (its factor is coprime to the
    modulus, hence no collision); numbers beyond it get a counter.
    """
    factor = 611_953
    while math.gcd(factor, _NAME_COUNT) != 1:
        factor += 1
    lap, position = np.divmod(numbers, _NAME_COUNT)
    mixed = (position * factor + seed * 7_919) % _NAME_COUNT
    mixed, form = np.divmod(mixed, len(_FORMS))
    mixed, end = np.divmod(mixed, len(_ENDS))
    start, middle = np.divmod(mixed, len(_MIDDLES))
    stem = _join("", _pick(_STARTS, start), _pick(_MIDDLES, middle), _pick(_ENDS, end))
    counter = pc.replace_with_mask(pa.array(np.char.add(" ", (lap + 1).astype(str))), pa.array(lap == 0), pa.scalar(""))
    name = _join("", _join(" ", pc.utf8_capitalize(stem), _pick(_FORMS, form)), counter)
    slug = pc.replace_substring(pc.utf8_lower(name), " ", "-")
    return name, _join("", slug, pa.scalar(".example"))


def _pick(words: list[str], codes: NDArray[np.int64]) -> pa.Array:
    return pa.array(words).take(pa.array(codes))


def _join(separator: str, *parts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*parts, separator)
