"""What a prompt template may contain: nothing whose result or work grows faster than its text and what it touches."""

from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.template_budget import Budget, charged

# One value in, one of about the same size out.
_PLAIN_FILTERS = frozenset(
    "abs capitalize count d default dictsort first float int items last length list lower max min round sort string sum"
    " title trim truncate unique upper".split()
)
# These make their input some times larger: once is harmless, one after the other it is not.
_GROWING_FILTERS = frozenset(("join", "tojson"))

_METHODS = frozenset("capitalize endswith get items keys lower startswith strip title upper values".split())

# Their work, or their result, grows with an argument too: a separator, an indentation, characters to be stripped.
_SHORT_ARGUMENTS = _GROWING_FILTERS | {"trim", "strip"}

_STATEMENTS = (nodes.Output, nodes.If, nodes.For, nodes.Assign)

# A variable that is set from what makes larger, and again, and again, doubles each time.
_NOT_IN_SET = (nodes.Concat, nodes.Add, nodes.List, nodes.Tuple, nodes.Dict, nodes.Call)

MAX_ARGUMENT = 100  # characters, or as a number

_GROWING_OPERATORS = frozenset(("*", "**", "%"))  # a text times a number, a power, a padded format
_BIG = 1_000_000
_MAX_EXPONENT = 8


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, without what makes gigabytes out of a few characters."""

    intercepted_binops = _GROWING_OPERATORS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in (*_PLAIN_FILTERS, *_GROWING_FILTERS)}
        self.filters["round"] = _rounded
        self.budget = Budget()
        self.filters |= self.budget.filters

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, int | float) and abs(side) < _BIG for side in (left, right)):
            raise SecurityError(f"{operator} works on numbers below {_BIG} only")
        if operator == "**" and abs(right) > _MAX_EXPONENT:
            raise SecurityError(f"the exponent is at most {_MAX_EXPONENT}")
        return super().call_binop(context, operator, left, right)


def _rounded(value: Any, precision: int = 0) -> float:
    """Jinja's own raises ten to the precision."""
    return round(float(value), max(-9, min(precision, 9)))


def parse_bounded(environment: BoundedEnvironment, source: str) -> nodes.Template:
    """Raises `TemplateSyntaxError`, with the line, for a template that is wrong or not bounded."""
    template = environment.parse(source)
    for line, what in _offences(template):
        raise TemplateSyntaxError(f"{what} is not allowed here", line)
    return charged(template, environment)


def _offences(template: nodes.Template) -> Iterator[tuple[int, str]]:
    for statement in template.find_all(nodes.Stmt):
        if not isinstance(statement, _STATEMENTS):
            yield statement.lineno, type(statement).__name__.lower()
    for loop in template.find_all(nodes.For):
        if loop.recursive or any(True for part in loop.body for _ in _with_itself(part, nodes.For)):
            yield loop.lineno, "a loop inside a loop"
    for call in template.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Getattr) or call.node.attr not in _METHODS:
            yield call.lineno, "this call"
        else:
            yield from _offences_of_arguments(call, call.node.attr)
    for assignment in template.find_all(nodes.Assign):
        for part in _with_itself(assignment.node, nodes.Expr):
            if isinstance(part, _NOT_IN_SET) or (isinstance(part, nodes.Filter) and part.name in _GROWING_FILTERS):
                yield part.lineno, "what makes a value larger, in a set,"
    for used in template.find_all(nodes.Filter):
        yield from _offences_of_filter(used)


def _offences_of_filter(used: nodes.Filter) -> Iterator[tuple[int, str]]:
    if used.name not in _PLAIN_FILTERS | _GROWING_FILTERS:
        yield used.lineno, f"the filter {used.name!r}"
    yield from _offences_of_arguments(used, used.name)
    if used.name in _GROWING_FILTERS and any(
        inner is not used and inner.name in _GROWING_FILTERS for inner in used.find_all(nodes.Filter)
    ):
        yield used.lineno, f"{used.name!r} after another filter that makes a value larger"


def _offences_of_arguments(used: nodes.Filter | nodes.Call, name: str) -> Iterator[tuple[int, str]]:
    if name not in _SHORT_ARGUMENTS:
        return
    literals = [*used.args, *(keyword.value for keyword in used.kwargs)]
    if used.dyn_args or used.dyn_kwargs or not all(_is_short(argument) for argument in literals):
        yield used.lineno, f"an argument of {name!r} that is not a short literal"


def _is_short(argument: nodes.Expr) -> bool:
    if not isinstance(argument, nodes.Const):
        return False
    value = argument.value
    return value is None or (len(value) if isinstance(value, str) else abs(value)) <= MAX_ARGUMENT


def _with_itself(node: nodes.Node, kind: type[nodes.Node]) -> Iterator[nodes.Node]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)
