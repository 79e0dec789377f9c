"""Which fields of which sections code reads, told from its text.

Receivers have the types that annotations, assignments and schemas give them, by the names of the
classes; a value, its class, what holds it and what a call of it returns count as one. What has no
type reads nothing.
"""

import ast
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args

from pydantic import BaseModel

Types = frozenset[str]
Scope = ChainMap[str, Types]
NONE: Types = frozenset()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_HANDED_ON = ("values", "items", "get", "model_copy", "model_validate")
"""Methods that give what they are called on, or what it holds."""


def models_in(annotation: Any) -> frozenset[type[BaseModel]]:
    """Schemas within a type, such as those of a tuple's entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset({annotation})
    return frozenset().union(*(models_in(part) for part in get_args(annotation)))


class RecipeReads:
    """Reads of schemas' fields in some files."""

    def __init__(
        self, schemas: Iterable[type[BaseModel]], readers: Mapping[ast.AST, Iterable[ast.AST]]
    ) -> None:
        """`readers`: whole files, and the parts of each whose reads count."""
        self._schemas = {model.__name__: model for model in schemas}
        self._bases: dict[str, list[str]] = defaultdict(list)
        self._attributes: dict[tuple[str, str], Types] = defaultdict(lambda: NONE)
        self._globals: dict[str, Types] = defaultdict(lambda: NONE)
        self._scopes: dict[ast.AST, dict[str, Types]] = defaultdict(dict)
        self._protocols: dict[str, set[str]] = {}
        self._known = 0
        for model in self._schemas.values():
            self._bases[model.__name__] = [base.__name__ for base in model.__mro__[1:]]
            for name, field in model.model_fields.items():
                found = frozenset(inner.__name__ for inner in models_in(field.annotation))
                self._attributes[model.__name__, name] = found
        for tree in readers:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    bases = [each for base in node.bases for each in _names(base)]
                    self._bases[node.name] += bases
                    if "Protocol" in bases:
                        self._protocols[node.name] = _asked(node)
        before = -1
        while before != self._known:
            before = self._known
            for tree in readers:
                for node, scope, owner in self._nodes(tree):
                    self._learn(node, scope, owner)
        counted = {id(node) for parts in readers.values() for p in parts for node in ast.walk(p)}
        self.found = {
            (name, attribute)
            for tree in readers
            for node, scope, owner in self._nodes(tree)
            if id(node) in counted
            for receiver, attribute in _read(node)
            for name in self._type(receiver, scope, owner)
        }
        """(class, attribute) of each read."""

    def reads(self, model: type[BaseModel], name: str) -> bool:
        """Whether the model's field `name` is read, of whichever schema has it from the same base,
        or through a protocol that this one keeps to."""
        (*_, origin) = (
            base
            for base in model.__mro__
            if issubclass(base, BaseModel) and name in base.model_fields
        )
        kin = {base.__name__ for base in model.__mro__}
        kin |= {own for own, each in self._schemas.items() if issubclass(each, origin)}
        kin |= {
            own
            for own, asked in self._protocols.items()
            if asked <= {*model.model_fields, *dir(model)}
        }
        return any((known, name) in self.found for known in kin)

    def _nodes(self, tree: ast.AST) -> Iterator[tuple[ast.AST, Scope, str]]:
        """Each node with the names around it and the class that it is written in."""
        start: Scope = ChainMap(self._scopes[tree], self._globals)
        waiting: list[tuple[ast.AST, Scope, str]] = [(tree, start, "")]
        while waiting:
            node, scope, owner = waiting.pop()
            yield node, scope, owner
            inner = scope.new_child(self._scopes[node]) if isinstance(node, _FUNCTIONS) else scope
            within = node.name if isinstance(node, ast.ClassDef) else owner
            waiting += [(child, inner, within) for child in ast.iter_child_nodes(node)]

    def _learn(self, node: ast.AST, scope: Scope, owner: str) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._learn_function(node, scope, owner)
            case ast.AnnAssign():
                told = self._annotated(node.annotation, scope)
                self._bind(node.target, told, scope, owner)
                lambdas = [each for each in ast.walk(node) if isinstance(each, ast.Lambda)]
                for each, argument in ((by, arg) for by in lambdas for arg in by.args.args):
                    self._put(self._scopes[each], argument.arg, told)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, scope, owner)
            case (
                ast.NamedExpr(target=target, value=value)
                | ast.For(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
                | ast.withitem(optional_vars=ast.expr() as target, context_expr=value)
            ):
                self._assign(target, value, scope, owner)
            case ast.Call(func=ast.Name(id="isinstance"), args=[value, kinds]):
                self._narrow(value, self._annotated(kinds, scope), scope, owner)
            case _:
                pass

    def _learn_function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, owner: str
    ) -> None:
        returned = self._annotated(node.returns, scope)
        if owner:
            self._put(self._attributes, (owner, node.name), returned)
        else:
            self._put(self._globals, node.name, returned)
        for each in (*node.args.args, *node.args.kwonlyargs):
            told = self._annotated(each.annotation, scope)
            self._put(self._scopes[node], each.arg, told)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope, owner: str) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for own, given in zip(target.elts, value.elts, strict=False):
                self._assign(own, given, scope, owner)
        else:
            self._bind(target, self._type(value, scope, owner), scope, owner)

    def _narrow(self, value: ast.expr, types: Types, scope: Scope, owner: str) -> None:
        if isinstance(value, ast.Name):
            self._bind(value, types, scope, owner)
        if isinstance(value, ast.Attribute):
            for name in self._type(value.value, scope, owner):
                self._put(self._attributes, (name, value.attr), types)

    def _bind(self, target: ast.expr, types: Types, scope: Scope, owner: str) -> None:
        match target:
            case ast.Name(id=name) if owner and not _local(scope):
                self._put(self._attributes, (owner, name), types)
            case ast.Name(id=name):
                self._put(scope.maps[0], name, types)
                if not _local(scope):
                    self._put(self._globals, name, types)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                self._put(self._attributes, (owner, name), types)
            case ast.Tuple() | ast.List():
                for each in target.elts:
                    self._bind(each, types, scope, owner)
            case _:
                pass

    def _put(self, table: Any, key: Any, types: Types) -> None:
        before = table.get(key, NONE)
        table[key] = before | types
        self._known += len(table[key]) - len(before)

    def _annotated(self, annotation: ast.expr | None, scope: Scope) -> Types:
        if annotation is None:
            return NONE
        return NONE.union(*(self._named(name, scope) for name in _names(annotation)))

    def _named(self, name: str, scope: Scope) -> Types:
        if scope.get(name):
            return scope[name]
        return frozenset({name}) if name in self._bases else NONE

    def _type(self, value: ast.AST, scope: Scope, owner: str) -> Types:
        match value:
            case ast.Name(id="self" | "cls"):
                return frozenset({owner})
            case ast.Name():
                return self._named(value.id, scope)
            case ast.Attribute():
                held = self._type(value.value, scope, owner)
                return NONE.union(*(self._attribute(name, value.attr) for name in held))
            case ast.Call():
                made = self._type(value.func, scope, owner)
                if made:
                    return made
                given = [*value.args, *(keyword.value for keyword in value.keywords)]
                if isinstance(value.func, ast.Attribute):
                    if value.func.attr not in _HANDED_ON:
                        return NONE
                    given = [value.func.value]
                return NONE.union(*(self._type(each, scope, owner) for each in given))
            case ast.Constant() | ast.JoinedStr() | ast.Compare():
                return NONE
            case _:  # all that it is made of, with names of comprehensions' own
                parts = ast.iter_child_nodes(value)
                return NONE.union(*(self._type(each, scope, owner) for each in parts))

    def _attribute(self, name: str, attribute: str) -> Types:
        """Of a class or its bases."""
        lineage, found = [name], NONE
        for each in lineage:
            found |= self._attributes.get((each, attribute), NONE)
            lineage += [base for base in self._bases.get(each, ()) if base not in lineage]
        return found


def _asked(protocol: ast.ClassDef) -> set[str]:
    """What a protocol asks for."""
    methods = {node.name for node in protocol.body if isinstance(node, ast.FunctionDef)}
    fields = [node.target for node in protocol.body if isinstance(node, ast.AnnAssign)]
    return methods | {field.id for field in fields if isinstance(field, ast.Name)}


def _local(scope: Scope) -> bool:
    """Whether names here are a function's own."""
    return len(scope.maps) > 2


def _names(annotation: ast.expr) -> Iterator[str]:
    """Names in an annotation, quoted ones too."""
    for node in ast.walk(annotation):
        match node:
            case ast.Name():
                yield node.id
            case ast.Constant(value=str(quoted)):
                with suppress(SyntaxError, ValueError):  # words, as of a Literal
                    yield from _names(ast.parse(quoted, mode="eval").body)
            case _:
                pass


def _read(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """What is read of what, in this node."""
    match node:
        case ast.Attribute(ctx=ast.Load()):
            yield node.value, node.attr
        case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(name)), *_]):
            yield value, name
        case _:
            pass
