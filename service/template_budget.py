"""What a render may touch in all: a template's text is bounded, but what it is rendered from comes from callers."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from jinja2 import Environment, nodes
from jinja2.exceptions import SecurityError
from jinja2.visitor import NodeTransformer

MAX_ITEMS = 100  # of a loop: a prompt has room for no more

# Characters, and ten for each value in a list or an object. What takes longest is sorting, a microsecond for each: so a
# render takes some tenths of a second at the most. A usual one touches some hundred.
MAX_WEIGHT = 100_000
_VALUE_WEIGHT = 10

_LISTS: tuple[type[Iterable[Any]], ...] = (list, tuple, type({}.keys()), type({}.values()), type({}.items()))

# Filters that `charged` puts into a template, which can't name them itself: the lists of what it may use lack them.
_CHARGE = "_charge"
_TOUCH = "_touch"
_ITEMS = "_items"


class Budget:
    """Of one render at a time. Whatever a template does with a value takes no longer than the value is large."""

    def __init__(self) -> None:
        self._left = MAX_WEIGHT
        self.filters = {_CHARGE: self._charge, _TOUCH: self._touch, _ITEMS: _items}

    def begin(self) -> None:
        self._left = MAX_WEIGHT

    def _charge(self, value: Any) -> Any:
        """The value, charged with all that it holds. Raises `SecurityError`."""
        return self._spend(_weight(value), value)

    def _touch(self, value: Any) -> Any:
        """The value, charged for its length: it is sliced, or a method of it is called. Raises `SecurityError`."""
        return self._spend(len(value) if isinstance(value, str | dict | list) else _VALUE_WEIGHT, value)

    def _spend(self, weight: int, value: Any) -> Any:
        self._left -= weight
        if self._left < 0:
            raise SecurityError("the template has more to do than a prefetch can wait for")
        return value


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value) + _VALUE_WEIGHT
    if isinstance(value, dict):
        return sum(map(_weight, value)) + sum(map(_weight, value.values())) + _VALUE_WEIGHT
    if isinstance(value, _LISTS):
        return sum(map(_weight, value)) + _VALUE_WEIGHT
    return _VALUE_WEIGHT


def _items(value: Iterable[Any]) -> list[Any]:
    """Of a text none: a loop over its characters says nothing, and texts come from callers."""
    return [] if isinstance(value, str) else list(islice(value, MAX_ITEMS))


class _Charged(NodeTransformer):
    """A path, such as `facts.address.city` or `facts.items()`, is charged where it ends and something is done with it.

    To write it, test it or loop over it takes no time, and what is written ends the prompt before long.
    """

    def visit_Output(self, output: nodes.Output) -> nodes.Node:
        output.nodes = [self._path(part) for part in output.nodes]
        return output

    def visit_If(self, statement: nodes.If) -> nodes.Node:
        test = self._around(statement, "test")
        statement.test = self._path(test)
        return statement

    def visit_For(self, loop: nodes.For) -> nodes.Node:
        items = self._around(loop, "iter")
        loop.iter = _filtered(self._path(items), _ITEMS)
        return loop

    def visit_Name(self, path: Any) -> nodes.Node:
        return path if getattr(path, "ctx", None) == "store" else _filtered(self._path(path), _CHARGE)

    visit_Getattr = visit_Getitem = visit_Call = visit_Name

    def _path(self, path: Any) -> Any:
        if isinstance(path, nodes.Call):
            method = self._around(path, "node")
            method.node = _filtered(self._path(method.node), _TOUCH)
            path.node = method
        elif isinstance(path, nodes.Getattr | nodes.Getitem):
            before = self._around(path, "node")
            sliced = isinstance(path, nodes.Getitem) and isinstance(path.arg, nodes.Slice)
            path.node = _filtered(self._path(before), _TOUCH) if sliced else self._path(before)
        elif not isinstance(path, nodes.Name):
            return self.visit(path)
        return path

    def _around(self, node: nodes.Node, field: str) -> Any:
        """Visits all of the node but one field, which it returns."""
        kept = getattr(node, field)
        setattr(node, field, nodes.Const(None))
        self.generic_visit(node)
        return kept


def charged(template: nodes.Template, environment: Environment) -> nodes.Template:
    """The same template, changed: it charges for every value that it works on, and its loops end."""
    _Charged().visit(template)
    template.set_environment(environment)
    return template


def _filtered(node: nodes.Expr, name: str) -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
