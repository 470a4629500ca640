"""YAML as it was written: texts stay texts, twins are found, lines are known, nothing is quoted."""

from __future__ import annotations

import pytest

from pg_ingest.config.yaml_text import NotYaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("02:00", "02:00"),
        ("2024-01-01", "2024-01-01"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1e5", "1e5"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("-12", -12),
        ("0", 0),
        ("1.5", 1.5),
        ("'5'", "5"),
        ("!!str 5", "5"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert read_yaml(f"a: {text}").data == {"a": value}


def test_keys_are_always_texts() -> None:
    assert read_yaml("5: a\ntrue: b\n").data == {"5": "a", "true": "b"}


def test_lines() -> None:
    text = read_yaml("# first\na:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert text.line(("a",)) == 2
    assert text.line(("a", "b")) == 3
    assert text.line(("a", "c", 1)) == 6
    assert text.line(("a", "missing", "deeper")) == 2
    assert text.line(()) == 2
    assert read_yaml("").line(("a",)) is None


def test_twins_are_found_everywhere() -> None:
    problems = read_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").problems
    assert [problem.text() for problem in problems] == [
        "b.c: stands here twice, first in line 3 — keep one of the two",
        "a: stands here twice, first in line 1 — keep one of the two",
    ]


def test_aliases_and_merges() -> None:
    text = read_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\nw: {<<: [{a: 9}, *x]}\n")
    assert text.problems == ()
    assert text.data["y"] == {"a": 1, "b": 3}
    assert text.data["z"] == {"a": 1, "b": 2}
    assert text.data["w"] == {"a": 9, "b": 2}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: &a [*a]", "a.0: contains itself — write it out without an alias"),
        ("a: {<<: 5}", "a: merges (<<) what is no mapping — write the keys out"),
        ("? [1, 2]\n: 3", "the file: has a key that is no text — write plain keys"),
        (
            "a: !secret hunter2",
            "a: has a YAML tag — remove the tag, or quote a text that begins with !",
        ),
        ("a: !!int hunter2", "a: does not fit its YAML tag — remove the tag"),
        ("a: !!bool hunter2", "a: does not fit its YAML tag — remove the tag"),
    ],
)
def test_what_a_configuration_does_not_need(text: str, what: str) -> None:
    assert [problem.text() for problem in read_yaml(text).problems] == [what]


@pytest.mark.parametrize(
    ("text", "what", "line", "column"),
    [
        ("a: 1\n b: 2\n", "mapping values are not allowed in this context", 2, 3),
        ("a:\n\tb: 1\n", "a character that cannot begin a value", 2, 1),
        ("p: @hunter2", "a character that cannot begin a value", 1, 4),
        ("p: *hunter2", "an alias (*name) without its anchor (&name)", 1, 4),
        ('p: "\\hunter2"', "an unknown escape in a double-quoted text", 1, 5),
        ("a: 1\n---\nb: 2\n", "a second document", 2, 1),
        ("a: [1, 2\nb: 3\n", "did not find expected ',' or ']'", 2, 2),
        ("a: 'hunter2\n", "found unexpected end of stream", 2, 1),
    ],
)
def test_not_yaml(text: str, what: str, line: int, column: int) -> None:
    with pytest.raises(NotYaml) as caught:
        read_yaml(text)
    error = caught.value
    assert (error.what, error.line, error.column) == (what, line, column)
    assert "hunter2" not in f"{error.what} {error.remedy}"


def test_control_characters() -> None:
    with pytest.raises(NotYaml, match="control characters are not allowed"):
        read_yaml("a: \x00")


def test_nested_without_end() -> None:
    for text in ("[" * 100_000, "- " * 10_000, "{a: " * 10_000):
        with pytest.raises(NotYaml, match="it is nested too deeply"):
            read_yaml(text)
