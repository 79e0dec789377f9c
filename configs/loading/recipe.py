"""Read a recipe: one YAML file, then `section.key=value` from the command line, then the schema.

Usage of an entry point:
    python rl/grpo.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape

from configs.loading import yaml12
from configs.loading.explain import explain
from configs.loading.fields import FieldDoc, known_fields
from configs.loading.suggest import closest_match

RECIPES = Path(__file__).parents[1] / "recipes"
SAVED_AS = "recipe.yaml"
FLAGS = {
    "--resume": "Go on from the newest whole checkpoint in the run's folder.",
    "--resume-or-start": "The same where there is one, else start: for jobs that may come again.",
    "--dry-run": "Check what is asked, show what would be done, and stop.",
    "--help": "Show this and stop.",
}

R = TypeVar("R", bound=BaseModel)


class RecipeError(ValueError):
    """A recipe that cannot be used; the text lists everything that is wrong with it."""


@dataclass(frozen=True, slots=True)
class Command(Generic[R]):
    """What was asked for on the command line."""

    recipe: R
    resume: bool
    dry_run: bool
    or_start: bool = False
    """To resume only where there is something to go on from."""


def load_recipe(
    argv: Sequence[str],
    schema: type[R],
    default: Path | None,
    flags: Mapping[str, str] = FLAGS,
    readers: Callable[[Path, type[BaseModel]], list[str]] | None = None,
) -> Command[R]:
    """The command in `argv` (without the program's name); `default` is used if it names no recipe.

    `default` None: the command line says everything. `flags`: those that it may hold, and what they
    mean; `readers`: commands that read a file which `schema` does not fit. `--help` shows every
    field and ends the process; so does a recipe that cannot be used, with its faults on stderr and
    status 2.
    """
    if "--help" in argv or "-h" in argv:
        _show_help(schema, default, flags)
        raise SystemExit(0)
    path: Path | None = default
    try:
        word, overrides, given = _split(argv, flags)
        path = find_recipe(word) if word else default
        recipe = read_recipe(path, schema, overrides)
    except RecipeError as error:
        told = str(error)
        if others := readers(path, schema) if readers and path else []:
            commands = " or ".join(f"python rl/{name}.py {path}" for name in others)
            told = f"{path} is a recipe of another command: run {commands}"
        Console(stderr=True, soft_wrap=True).print(f"[red]{escape(told)}[/red]")
        raise SystemExit(2) from None
    or_start = "--resume-or-start" in given
    return Command(recipe, or_start or "--resume" in given, "--dry-run" in given, or_start)


def find_recipe(name: str) -> Path:
    """The recipe file meant by `name`: a file, a run's folder, or a name in configs/recipes."""
    candidates = [Path(name), Path(name) / SAVED_AS, RECIPES / name, RECIPES / f"{name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    shipped = [path.relative_to(RECIPES).with_suffix("") for path in RECIPES.rglob("*.yaml")]
    names = sorted(path.as_posix() for path in shipped)
    hint = closest_match(name.removesuffix(".yaml"), names)
    raise RecipeError(
        f"there is no recipe {name!r}: neither a file, nor a run's folder, nor one of "
        f"{', '.join(names)} in {RECIPES}"
        + (f"; did you mean {hint}?" if hint else "; name one of these")
    )


def read_recipe(path: Path | None, schema: type[R], overrides: Sequence[str] = ()) -> R:
    """The recipe in `path`, or an empty one, with each `section.key=value` of `overrides` put in.

    Raises:
        RecipeError: with all faults at once, each with its place and what to do.
    """
    try:
        tree, lines = yaml12.parse_yaml(path.read_text("utf-8") if path else "", str(path))
    except (OSError, ValueError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    if not isinstance(tree, dict | None):
        raise RecipeError(
            f"recipe {path} holds {yaml12.to_inline_yaml(tree)}, not sections of keys and values"
        )
    tree = cast("dict[str, Any]", tree or {})
    known = known_fields(schema)
    faults: list[str] = []
    named: set[str] = set()
    for override in overrides:
        try:
            named.add(_put(tree, override, known))
        except ValueError as error:
            faults.append(str(error))

    def place(name: str) -> str:
        if any(name == key or name.startswith(f"{key}.") for key in named):
            return "command line"
        return f"{path}:{lines[name]}" if name in lines else str(path or "command line")

    try:
        recipe = schema.model_validate(tree)
    except ValidationError as error:
        faults.extend(explain(error, tree, known, place))
        recipe = None
    if faults or recipe is None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError("\n  ".join([f"the recipe has {count}:", *faults]))
    return recipe


def recipe_text(recipe: BaseModel) -> str:
    """`recipe` in full as YAML, every default written out."""
    return yaml12.dump_yaml(recipe.model_dump(mode="json"))


def _split(argv: Sequence[str], known: Mapping[str, str]) -> tuple[str | None, list[str], set[str]]:
    """Recipe name, overrides and flags; a word with `=` that is no file is an override."""
    paths: list[str] = []
    overrides: list[str] = []
    flags: set[str] = set()
    for word in argv:
        if word in known:
            flags.add(word)
        elif word.startswith("-"):
            hint = None if "=" in word else closest_match(word, known)
            field = word.lstrip("-")
            advice = f"did you mean {hint}?" if hint else f"a field is set by {field}, no dashes"
            raise RecipeError(f"there is no option {word!r}; {advice}")
        elif "=" in word and not Path(word).is_file():
            overrides.append(word)
        else:
            paths.append(word)
    if len(paths) > 1:
        raise RecipeError(f"{' and '.join(paths)} name more than one recipe; give one")
    return (paths[0] if paths else None), overrides, flags


def _put(tree: dict[str, Any], override: str, known: Sequence[FieldDoc]) -> str:
    """Set one `section.key=value` in `tree`; its dotted name. ValueError when it is malformed."""
    name, _, written = override.partition("=")
    parts = name.split(".")
    if not all(parts):
        raise ValueError(f"{override!r} names no field; write section.key=value")
    value, _ = yaml12.parse_yaml(written, f"the value of {name}")
    for depth, part in enumerate(parts[:-1]):
        section = ".".join(parts[: depth + 1])
        inner = tree.get(part)
        if inner is None:
            inner = _mapping_default(section, known)
        if not isinstance(inner, dict):
            raise ValueError(
                f"{name} (command line): {section} is {yaml12.to_inline_yaml(inner)}, not a "
                f"section; set {section} itself"
            )
        tree[part] = inner
        tree = cast("dict[str, Any]", inner)
    tree[parts[-1]] = value
    return name


def _mapping_default(section: str, known: Sequence[FieldDoc]) -> Any:
    """Where a section is not written, its own default is what a single key is added to."""
    for field in known:
        if field.name == section and field.kind.startswith("mapping"):
            return yaml12.parse_yaml(field.default, section)[0]
    return {}


def _show_help(schema: type[BaseModel], default: Path | None, flags: Mapping[str, str]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]python {escape(sys.argv[0])} \\[recipe] \\[section.key=value ...] "
        f"{escape(' '.join(f'[{flag}]' for flag in flags))}[/bold]\n\n"
        f"recipe: a YAML file, a run's folder, or a name in {escape(str(RECIPES))} "
        f"(default: {escape(str(default or 'none'))}).\n"
        "A value is YAML: steps=50, policy.train=\\[language], prompt.system=null, "
        "reward.weights.math=0.5\n"
    )
    for flag, meaning in flags.items():
        console.print(f"  [cyan]{flag}[/cyan]\n      {meaning}")
    console.print()
    for field in known_fields(schema):
        name, meaning = escape(field.name), escape(field.meaning)
        if not field.kind:
            note = f" [dim]({field.default})[/dim]" if field.default else ""
            console.print(f"\n[bold]{name}[/bold]{note}  {meaning}")
            continue
        console.print(
            f"  [cyan]{name}[/cyan]: {escape(field.kind)} [green]= {escape(field.default)}[/green]"
            f"\n      {meaning}"
        )
