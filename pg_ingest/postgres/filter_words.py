"""What a row filter must not contain when it also has to hold in the log.

A snapshot asks the filter once, of the table. In the log it is asked again and again, later, of single rows.
Both mean the same only if the answer depends on nothing but the row: not on other rows (a subquery), the clock,
the session, or a function that may say otherwise tomorrow. The server can tell no statement's volatility
without running DDL, so the text is taken apart into words here. `select`, `table`, `with` and names such as
`current_date` are reserved words in every version: outside quotes they are no column. Functions are whatever
stands before a parenthesis; the server is asked what they are (`volatile_names`).

Facts: manual, "Lexical Structure" and appendix "SQL Key Words".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pg_ingest.postgres.session import Session

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<escaped> [eE]'(?:[^'\\]|\\.|'')*' )
  | (?P<text> (?:[nNbBxX]|[uU]&)?'(?:[^']|'')*' )
  | (?P<dollar> \$(?P<tag>[^\W\d]\w*|)\$.*?\$(?P=tag)\$ )
  | (?P<quoted> (?:[uU]&)?"(?:[^"]|"")+" )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<other> \S )
    """,
    re.VERBOSE | re.DOTALL,
)

_SUBQUERY = frozenset({"select", "table", "with", "values"})
_SESSION = frozenset(
    {
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "system_user",
        "user",
    }
)
_MOVING = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)
"""Texts that become another date or time whenever they are read as one."""

_SETTINGS_ONLY = (
    "array_to_json array_to_string concat concat_ws convert convert_from convert_to date date_add"
    " date_part date_subtract date_trunc enum_first enum_last enum_range extract format"
    " json_build_array json_build_object jsonb_build_array jsonb_build_object jsonb_path_exists_tz"
    " jsonb_path_match_tz length make_timestamptz money numeric overlaps quote_literal"
    " quote_nullable row_to_json substring time timestamp timestamptz timetz timezone to_char"
    " to_date to_json to_jsonb to_number to_timestamp"
)
"""Built-in functions that are stable only because of settings, and ours are the same in every session."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a filter is made of.

    Attributes:
        forbidden: the first reserved word that makes it depend on more than the row, "" for none.
        called: names before a parenthesis; some of them are keywords or types.
        moving: texts that may be read as dates relative to today.
    """

    forbidden: str
    called: tuple[str, ...]
    moving: tuple[str, ...]


def words_of(where: str) -> Words:
    """Take a filter apart; a text that is not valid SQL may give anything."""
    forbidden, called, moving = "", list[str](), list[str]()
    tokens = [match for match in _TOKEN.finditer(where) if match.lastgroup != "comment"]
    for token, after in zip(tokens, [*(t[0] for t in tokens[1:]), ""], strict=True):
        kind, text = token.lastgroup, token[0]
        if kind == "word" and text.lower() in _SUBQUERY | _SESSION:
            value_list = text.lower() == "values" and after != "("
            forbidden = forbidden or ("" if value_list else text)
        elif kind in ("word", "quoted") and after == "(":
            called.append(_name(text))
        elif kind in ("text", "escaped", "dollar", "tag") and _MOVING.search(text):
            moving.append(text)
    return Words(forbidden, tuple(called), tuple(moving))


def _name(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()


_VOLATILE = """
SELECT DISTINCT p.proname::text FROM pg_proc AS p
WHERE p.proname = ANY(%s::text[]) AND p.provolatile <> 'i' AND NOT (
  p.pronamespace = 'pg_catalog'::regnamespace AND p.provolatile = 's' AND p.proname = ANY(%s::text[])
)
ORDER BY 1
"""


def reasons_against(session: Session, where: str) -> Iterator[str]:
    """Why the filter's answer may depend on more than the row; nothing when it does not."""
    words = words_of(where)
    if words.forbidden.lower() in _SUBQUERY:
        yield f"it contains a subquery ({words.forbidden})"
    elif words.forbidden:
        yield f"{words.forbidden} changes from session to session or with time"
    found = session.rows(
        _VOLATILE,
        (list(words.called), _SETTINGS_ONLY.split()),
        what="looking at the functions of a filter",
    )
    for (name,) in found:
        yield f"the function {name} is not immutable: it may answer otherwise tomorrow"
