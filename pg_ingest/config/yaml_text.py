"""YAML text to plain data, with the line of every key.

YAML 1.1 reads `12:30` as 750, `no` as false and `2024-01-01` as a date object. A configuration wants
what was written: here only `true`, `false`, `null`, `~`, decimal integers and floats are more than
text. Duplicate keys, which YAML loaders silently overwrite, are problems.

A parser's own words can quote what it read, and that may be a password: its messages are told without
the text around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml

from pg_ingest.config.problem import Path, Problem

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """The C parser when there is one, with YAML 1.2's reading of scalars."""

    depth = 0
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def descend_resolver(self, parent: Any, index: Any) -> None:
        """Called for each node: the C parser would recurse until the process crashes."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError
        super().descend_resolver(parent, index)

    def ascend_resolver(self) -> None:
        """Called when a node is complete."""
        self.depth -= 1
        super().ascend_resolver()


_DEEPEST = 50
"""A configuration has seven levels."""

_SCALARS = (
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]{0,18})", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?[0-9]+\.[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)
for _tag, _text, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^{_text}$"), list(_first))

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("bool", "null", "int", "float", "str", "seq", "map")
)
_MERGE = "tag:yaml.org,2002:merge"


class NotYaml(Exception):
    """The text is not YAML: a fact, a remedy, the line and column where reading stopped."""

    def __init__(self, what: str, remedy: str, line: int, column: int) -> None:
        super().__init__(what)
        self.what, self.remedy, self.line, self.column = what, remedy, line, column


@dataclass(frozen=True, slots=True)
class YamlText:
    """What was read: plain data, the problems met on the way, and where everything stands."""

    data: Any
    problems: tuple[Problem, ...]
    root: Any

    def line(self, path: Path) -> int | None:
        """The line of the key or item at the path, or of the deepest part of it that exists."""
        if self.root is None:
            return None
        node, line = self.root, self.root.start_mark.line + 1
        for part in path:
            step = _step(node, part)
            if step is None:
                break
            key, node = step
            line = key.start_mark.line + 1
        return int(line)


def _step(node: Any, part: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        found = [(key, value) for key, value in node.value if key.value == part]
        return found[-1] if found else None
    inside = isinstance(node, yaml.SequenceNode) and isinstance(part, int)
    if inside and 0 <= part < len(node.value):  # type: ignore[operator]
        return node.value[part], node.value[part]
    return None


def read_yaml(text: str) -> YamlText:
    """Read one YAML document; raise NotYaml when it is not one."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        builder = _Builder(loader)
        data = builder.build(root, ()) if root is not None else None
    except yaml.YAMLError as error:
        if loader.depth > _DEEPEST:
            raise NotYaml("it is nested too deeply", "write it with fewer levels", 1, 1) from None
        raise _told(error) from None
    finally:
        loader.dispose()
    return YamlText(data, tuple(builder.problems), root)


def lines_of(file: FilePath | None) -> Callable[[Path], int | None]:
    """The line of a path in that file, None where the file is none or has changed too much to tell."""
    try:
        return read_yaml(file.read_text(encoding="utf-8-sig")).line if file else lambda path: None
    except (OSError, UnicodeDecodeError, NotYaml):
        return lambda path: None


def _told(error: yaml.YAMLError) -> NotYaml:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    words = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
    if "\t" in words or "cannot start any token" in words:
        words = "a character that cannot begin a value"
    elif isinstance(error, yaml.composer.ComposerError) and "alias" in words:
        words = "an alias (*name) without its anchor (&name)"
    elif "escape" in words:
        words = "an unknown escape in a double-quoted text"
    elif "but found another document" in words:
        words = "a second document"
    remedy = (
        "look at this line and the one above: indent with spaces, a space after each colon, and quote "
        "texts that begin with * & ! % @ ` or hold ': '"
    )
    return NotYaml(words or "it cannot be read", remedy, line, column)


class _Builder:
    """Nodes to data, once per node, remembering what is wrong."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._open: set[int] = set()
        self._done: dict[int, Any] = {}
        self.problems: list[Problem] = []

    def build(self, node: Any, path: Path) -> Any:
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open:
            self.problems.append(Problem(path, "contains itself", "write it out without an alias"))
            return None
        self._open.add(id(node))
        data = self._data(node, path)
        self._open.discard(id(node))
        self._done[id(node)] = data
        return data

    def _data(self, node: Any, path: Path) -> Any:
        if node.tag not in _PLAIN_TAGS and node.tag != _MERGE:
            self.problems.append(
                Problem(
                    path, "has a YAML tag", "remove the tag, or quote a text that begins with !"
                )
            )
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, at)) for at, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):
            self.problems.append(Problem(path, "does not fit its YAML tag", "remove the tag"))
            return None

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(path, "has a key that is no text", "write plain keys"))
            elif key.tag == _MERGE:
                merged.update(self._merged(value, path))
            else:
                self._once(key, lines, path)
                own[key.value] = self.build(value, (*path, key.value))
        return {**merged, **own}

    def _once(self, key: Any, lines: dict[str, int], path: Path) -> None:
        if key.value not in lines:
            lines[key.value] = key.start_mark.line + 1
            return
        self.problems.append(
            Problem(
                (*path, key.value),
                f"stands here twice, first in line {lines[key.value]}",
                "keep one of the two",
            )
        )

    def _merged(self, node: Any, path: Path) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        built = [self.build(part, path) for part in parts]
        if not all(isinstance(part, dict) for part in built):
            self.problems.append(
                Problem(path, "merges (<<) what is no mapping", "write the keys out")
            )
            return {}
        return {key: value for part in reversed(built) for key, value in part.items()}
