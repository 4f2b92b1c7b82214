"""Prompt templates: one an agent, with a default. Bounded, because no deadline can interrupt a template."""

from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Template, TemplateError, TemplateSyntaxError

from runtime.logs import logger
from runtime.metrics import TEMPLATE_ERRORS
from runtime.settings import SettingsError
from schemas.answered import digest_of
from service.template_bounds import BoundedEnvironment, parse_bounded
from service.template_budget import Budget

SUFFIX = ".j2"
DEFAULT = "default"
BUILT_IN = Path(__file__).with_name("templates") / f"{DEFAULT}{SUFFIX}"
BUILT_IN_NAME = "built-in"  # no file of a folder has this name: those end in `SUFFIX`

MAX_TEMPLATE_CHARACTERS = 32 * 1024
MAX_PROMPT_CHARACTERS = 8 * 1024  # a prompt that fills the agent's context window helps nobody
MAX_RENDERED_CHARACTERS = 2 * MAX_PROMPT_CHARACTERS  # blank lines at the start are not part of the prompt


def _environment() -> BoundedEnvironment:
    # Missing values are empty at any depth: a template never breaks because a caller is new.
    return BoundedEnvironment(
        undefined=ChainableUndefined,
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )


class Prompt:
    """A template, and the one context of all its renders: jinja's own way makes a new one for each, of six parts.

    `digest` is that of its text.
    """

    def __init__(self, name: str, source: str, template: Template, budget: Budget) -> None:
        self.name = name
        self.digest = digest_of(source.encode())
        self._root = template.root_render_func
        self._context = template.new_context({}, shared=True)  # the environment has no globals to be added
        self._budget = budget
        self._log = logger("service.prompts")

    def render(self, values: dict[str, Any]) -> str:
        """The extra prompt. Never raises: a template that fails gives an empty prompt, a log line and a count."""
        context = self._context
        context.parent = values
        context.vars, context.exported_vars = {}, set()  # what the last one has set
        try:
            self._budget.begin()
            rendered = ""
            for piece in self._root(context):
                rendered += piece
                if len(rendered) > MAX_RENDERED_CHARACTERS:
                    break
            return rendered.strip()[:MAX_PROMPT_CHARACTERS]
        except Exception as error:
            TEMPLATE_ERRORS.inc()
            # Only the kind of error: its text may quote what we know of the caller.
            self._log.error("a prompt template failed", template=self.name, error=type(error).__name__)
            return ""


class Prompts:
    """Templates by agent, read when it is made. `RINGLOG_PROMPTS_DIR` holds `default.j2` and `<agent id>.j2`."""

    def __init__(self, folder: Path | None, named_by: str = "RINGLOG_PROMPTS_DIR") -> None:
        """Raises `SettingsError` for a folder or a template that can't be used: at the start, not while it rings."""
        self._environment = _environment()
        self._by_agent: dict[str, Prompt] = {}
        if folder is not None:
            if not folder.is_dir():
                raise SettingsError(f"{named_by} is wrong: {folder} is not a folder.")
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                self._by_agent[path.name.removesuffix(SUFFIX)] = self._load(path, path.name)
        self._default = self._by_agent.get(DEFAULT) or self._load(BUILT_IN, BUILT_IN_NAME)

    def of(self, agent_id: str | None) -> Prompt:
        """The template that answers are made with when this agent speaks."""
        return self._by_agent.get(agent_id or "", self._default)

    def _load(self, path: Path, name: str) -> Prompt:
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The prompt template {path} can't be read: {error}.") from None
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise SettingsError(f"The prompt template {path} is longer than {MAX_TEMPLATE_CHARACTERS} characters.")
        try:
            template = self._environment.from_string(parse_bounded(self._environment, source))
        except TemplateSyntaxError as error:
            raise SettingsError(
                f"The prompt template {path} is wrong in line {error.lineno}: {error.message}."
            ) from None
        except (TemplateError, RecursionError) as error:
            raise SettingsError(f"The prompt template {path} is wrong: {error}.") from None
        return Prompt(name, source, template, self._environment.budget)
