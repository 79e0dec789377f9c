"""YAML in and out of a recipe, by the rules of YAML 1.2: `no` is a text and `1e-6` a number.

PyYAML follows YAML 1.1, where `no` is false, `1e-6` a text, `010` eight and the later of two equal
keys wins in silence; each of these has spoilt somebody's run.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

_BOOL, _NULL, _INT, _FLOAT, _MERGE = (
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "null", "int", "float", "merge")
)
_FLOAT_FORM = re.compile(
    r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar forms of YAML 1.2's core schema."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes what only YAML 1.2 would misread, and never writes aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {
    first: list(forms) for first, forms in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _tag, _form, _first in (
    (_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    (_NULL, re.compile(r"~|null|Null|NULL|"), ("~", "n", "N", "")),
    (_INT, re.compile(r"[-+]?(?:0|[1-9][0-9_]*)"), "-+0123456789"),
    (_FLOAT, _FLOAT_FORM, "-+.0123456789"),
    (_MERGE, re.compile(r"<<"), "<"),
):
    _whole = re.compile(rf"(?:{_form.pattern})\Z")
    for _character in _first:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append((_tag, _whole))
        _Dumper.yaml_implicit_resolvers.setdefault(_character, []).append((_tag, _whole))


def _quoted_when_odd(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    """Only the double-quoted style escapes what does not print; the others fold such characters."""
    style = None if value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _quoted_when_odd)


def parse_yaml(text: str, origin: str) -> tuple[Any, dict[str, int]]:
    """The value that `text` writes down, and the line of each dotted key in it.

    Raises:
        ValueError: the text is no YAML, or a key stands twice or is not a text.
    """
    loader: Any = _Loader(text)
    try:
        node = cast("yaml.Node | None", loader.get_single_node())
        lines: dict[str, int] = {}
        if node is None:
            return None, lines
        _check_keys(node, "", lines, origin)
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        raise ValueError(f"{origin} is not valid YAML: {error}") from error
    finally:
        loader.dispose()


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """`tree` as YAML text that `parse` reads back unchanged."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def to_inline_yaml(value: object) -> str:
    """`value` as it would be written on the command line: one line of YAML."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=2**31)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _check_keys(node: yaml.Node, prefix: str, lines: dict[str, int], origin: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag in (_BOOL, _NULL, _INT, _FLOAT):
            raise ValueError(f"{origin}:{line}: a key must be a text; put it in quotes")
        name = f"{prefix}{key.value}"
        if name in lines:
            raise ValueError(
                f"{origin}:{line}: {name} stands here and on line {lines[name]}; keep one of them"
            )
        lines[name] = line
        _check_keys(value, f"{name}.", lines, origin)
