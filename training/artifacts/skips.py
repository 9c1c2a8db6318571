"""Why a row is left out."""

from __future__ import annotations

UNKNOWN_COLUMNS = "unknown_columns"

REASONS = {
    UNKNOWN_COLUMNS: "no column that is known for this kind of data",
    "not_utf8": "not UTF-8 text (convert the file, for example with iconv -t utf-8)",
    "half_character": "half of a character (an unpaired surrogate such as \\ud83d)",
    "null_character": "a null character in a text",
    "not_json": "not valid JSON",
    "not_an_object": "not a JSON object",
    "repeated_key": "a key that occurs twice in one object",
    "not_a_number": "a number that is not finite or too long",
    "too_deep": "nested too deeply",
    "too_long": "a line longer than 64 MiB",
    "more_fields": "more fields than columns (an unquoted separator)",
    "fewer_fields": "fewer fields than columns",
    "stray_quote": "a quotation mark that opens or closes no field",
    "repeated_header": "a repeated header",
    "no_split": "no value in the column `split`",
    "unreadable_value": "a value that cannot be read",
}


class Skip(Exception):
    """A row that cannot be used.

    Attributes:
        code: a short stable name of the kind of fault, for decisions in code.
        reason: what is counted and shown to people; it names the kind of fault, not the row.
    """

    def __init__(self, code: str, reason: str = "") -> None:
        self.code = code
        self.reason = reason or REASONS.get(code, code)
        super().__init__(self.reason)
