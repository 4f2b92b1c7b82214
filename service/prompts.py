"""Prompt templates: one an agent, with a default. Bounded, because no deadline can interrupt a template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.logs import logger
from runtime.metrics import TEMPLATE_ERRORS
from runtime.settings import SettingsError

SUFFIX = ".j2"
DEFAULT = "default"
BUILT_IN = Path(__file__).with_name("templates") / f"{DEFAULT}{SUFFIX}"

MAX_TEMPLATE_CHARACTERS = 32 * 1024
MAX_PROMPT_CHARACTERS = 8 * 1024  # a prompt that fills the agent's context window helps nobody

# A product of a text or list and a number, a power, or a padded format makes gigabytes out of a few characters.
_GROWING_OPERATORS = frozenset(("*", "**", "%"))
_GROWING_FILTERS = frozenset(("center", "indent", "format", "wordwrap", "batch", "slice", "pprint", "xmlattr"))
_GROWING_GLOBALS = ("range", "lipsum", "cycler", "joiner", "namespace")
_BIG = 1_000_000


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = _GROWING_OPERATORS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, int | float) and abs(side) < _BIG for side in (left, right)):
            raise SecurityError(f"{operator} works on numbers below {_BIG} only")
        if operator == "**" and abs(right) > 8:
            raise SecurityError("the exponent is at most 8")
        return super().call_binop(context, operator, left, right)


def _environment() -> Environment:
    # Missing values are empty at any depth: a template never breaks because a caller is new.
    environment = _Environment(undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    for name in _GROWING_FILTERS:
        environment.filters.pop(name, None)
    for name in _GROWING_GLOBALS:
        environment.globals.pop(name, None)
    return environment


class Prompts:
    """Templates by agent, read when it is made. `RINGLOG_PROMPTS_DIR` holds `default.j2` and `<agent id>.j2`."""

    def __init__(self, folder: Path | None) -> None:
        """Raises `SettingsError` for a folder or a template that can't be used: at the start, not while it rings."""
        self._log = logger("service.prompts")
        self._environment = _environment()
        self._by_agent: dict[str, Template] = {}
        if folder is not None:
            if not folder.is_dir():
                raise SettingsError(f"RINGLOG_PROMPTS_DIR is wrong: {folder} is not a folder.")
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                self._by_agent[path.name.removesuffix(SUFFIX)] = self._load(path)
        self._default = self._by_agent.get(DEFAULT) or self._load(BUILT_IN)

    def render(self, agent_id: str | None, values: Mapping[str, Any]) -> str:
        """The extra prompt. Never raises: a template that fails gives an empty prompt, a log line and a count."""
        template = self._by_agent.get(agent_id or "", self._default)
        try:
            return template.render(values).strip()[:MAX_PROMPT_CHARACTERS]
        except Exception as error:
            TEMPLATE_ERRORS.inc()
            # Only the kind of error: its text may quote what we know of the caller.
            self._log.error("a prompt template failed", template=template.name, error=type(error).__name__)
            return ""

    def _load(self, path: Path) -> Template:
        source = path.read_text(encoding="utf-8")
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise SettingsError(f"The prompt template {path} is longer than {MAX_TEMPLATE_CHARACTERS} characters.")
        try:
            _check_loops(self._environment.parse(source))
            template = self._environment.from_string(source)
        except TemplateSyntaxError as error:
            raise SettingsError(
                f"The prompt template {path} is wrong in line {error.lineno}: {error.message}."
            ) from None
        except (TemplateError, KeyError) as error:
            raise SettingsError(f"The prompt template {path} is wrong: {error}.") from None
        template.name = path.name
        return template


def _check_loops(template: nodes.Template) -> None:
    """One loop over what we know of a caller is short; a loop in a loop, or a macro that calls itself, need not be."""
    for loop in template.find_all(nodes.For):
        inner = [found for part in loop.body for found in [part, *part.find_all(nodes.For)]]
        if loop.recursive or any(isinstance(found, nodes.For) for found in inner):
            raise TemplateSyntaxError("a loop inside a loop is not allowed here", loop.lineno)
    for macro in template.find_all((nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.Extends)):
        raise TemplateSyntaxError(f"{type(macro).__name__.lower()} is not allowed here", macro.lineno)
