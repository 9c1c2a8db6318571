"""Texts that trip programs: what a careless client, a truncated file or an attacker sends."""

from __future__ import annotations

LONE = [chr(0xD800), chr(0xDBFF), chr(0xDC00), chr(0xDFFF), chr(0xDE00) + chr(0xD83D), "cut " + chr(0xD83D)]
# These cannot be written as UTF-8, or not into PostgreSQL.
UNSTORABLE = [*LONE, *[f"a{half}b" for half in LONE], *["x" * 300 + half for half in LONE], "\0", "a\0b", "\0" * 9]
CONTROLS = [f"a{chr(code)}b" for code in (*range(1, 32), 0x7F, 0x80, 0x85, 0x9F)]
NON_CHARACTERS = [chr(code) for code in (0xFDD0, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF)]
UNICODE = [
    "\ufeff",
    "\ufeffbegins with a mark",
    "ends with\ufeff",
    "\u202eesrever",
    "\u2066isolated\u2069",
    "\u200b",
    "\u200d\u200d",
    "e" + "\u0301" * 200,
    "Z\u0351\u036b\u0343",
    "\u1160\u115f",
    "שלום",
    "مرحبا",
    "हिन्दी",
    "日本語",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "ﷺ",
    "ß",
    "ı",
    "İ",
    "ﬁ",
    "K",
    "\u2028",
    "\u2029",
    "\xa0",
    "\u3000",
    "\xad",
    "\ufffd",
    "\ufffc",
    "\ue000",
    "\U000e0001",
    "½",
    "𝕏",
    "\U0001f1e6",
]
SYNTAX = [
    "<script>alert(1)</script>",
    "'; drop table keys; --",
    '"',
    "\\",
    "\\ud83d",
    "{{ 7*7 }}",
    "{% raw %}",
    "%s%n",
    "${x}",
    "../..",
    "[bold]x[/bold]",
    "{",
    "}",
    "{fault}",
    "%00",
    "NaN",
    "null",
    "-",
    "--",
    "=1+1",
    "<|end|>",
    "</s>",
    "x" * 100_000,
    " ",
    "",
]
ODD = [*UNSTORABLE, *CONTROLS, *NON_CHARACTERS, *UNICODE, *SYNTAX]
assert len(set(ODD)) >= 100
