"""The columns of the benchmark's CSV, told once: the generator writes them, each contestant declares them in its own words.

The standard library only, because every contestant runs in an environment of its own.
"""

KEY = "transaction_id"
# Name to zebra's dtype, in the order of the file.
COLUMNS = {
    "transaction_id": "int64",
    "created_at": "timestamp",
    "booked_on": "date",
    "amount": "float64",
    "fee": "float64",
    "rate": "float64",
    "risk": "float64",
    "items": "int64",
    "country": "string",
    "category": "string",
    "status": "string",
    "merchant": "string",
    "reference": "string",
    "online": "bool",
    "disputed": "bool",
}
NULLABLE = ("fee", "risk", "items", "category")

_COUNTRIES = "AT BE BR CA CH CN CZ DE DK ES FI FR GB GR HU IE IN IT JP KR MX NL NO PL PT RO SE SK TR US"
_CATEGORIES = "books clothing electronics fuel garden groceries health hotels music restaurants sports toys travel utilities"
COUNTRIES, CATEGORIES = _COUNTRIES.split(), _CATEGORIES.split()
STATUSES = ["settled", "pending", "refunded", "declined", "reversed"]


def types(names: dict[str, str]) -> dict[str, str]:
    """Column to type, each dtype spelt as ``names`` spells it."""
    return {column: names[dtype] for column, dtype in COLUMNS.items()}
