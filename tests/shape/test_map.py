"""The README's map of the repository says what is there."""

import ast
import re
import tomllib

from tests.repository import ROOT

README = (ROOT / "README.md").read_text("utf-8")
DEVELOPING = README[README.index("## Developing") :]
PACKAGES = ("actors", "configs", "models", "rewards", "rl")
MOST_FILES = 15


def rooms_by_contract() -> list[str]:
    """Folders in the order of the import contract, top first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    names = [name.strip() for layer in layers for name in layer.split("|")]
    return [name for name in names if (ROOT / name.replace(".", "/")).is_dir()]


def rooms_told() -> dict[str, str]:
    """What the README says of each folder, in its order."""
    return dict(re.findall(r"^(\w+/\w+)/ +(\S.*)$", DEVELOPING, flags=re.MULTILINE))


def test_the_readme_lists_every_room_in_the_order_of_imports() -> None:
    assert [room.replace("/", ".") for room in rooms_told()] == rooms_by_contract()


def test_a_room_is_told_by_its_own_docstring() -> None:
    for room, told in rooms_told().items():
        tree = ast.parse((ROOT / room / "__init__.py").read_text("utf-8"))
        assert ast.get_docstring(tree) == f"{told}.", room


def test_every_file_that_the_map_names_is_there() -> None:
    named = re.findall(r"[`\"]([\w./]+(?:\.py|\.yaml|\.md|/))[`\" ]", DEVELOPING)
    assert len(named) > 30
    assert not [path for path in named if "NAME" not in path and not (ROOT / path).exists()]


def test_each_arrow_of_the_picture_joins_two_files_of_it() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", DEVELOPING, flags=re.DOTALL)
    defined = set(re.findall(r"(\w+)\[", picture))
    arrows = re.findall(r"(\w+)(?:\[.*?\])? -->(?:\|.*?\|)? (\w+)", picture)
    assert arrows
    assert {end for arrow in arrows for end in arrow} == defined


def test_unit_tests_mirror_the_tree() -> None:
    for kind in ("unit", "ray"):
        top = ROOT / "tests" / kind
        folders = {path.parent.relative_to(top) for path in top.rglob("test_*.py")}
        assert not [folder for folder in folders if not (ROOT / folder).is_dir()]


def test_a_room_holds_no_more_files_than_one_can_take_in() -> None:
    counts = {
        path.parent: len(list(path.parent.glob("*.py"))) - 1
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert not {folder: count for folder, count in counts.items() if count > MOST_FILES}
