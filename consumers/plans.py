"""The plans: what our user charges their own customers. A TOML file, validated when billing starts.

See `docs/billing.md` for the file, `docs/decisions/0012-plans-and-old-bills.md` for what a change of it does.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Annotated, Any, TypeVar

import msgspec

from consumers.bills import KnownCall
from consumers.calls import bounded_name
from consumers.terms import Terms
from runtime.settings import PREFIX, Settings, SettingsError
from schemas.money import MICROS_PER_CREDIT, MoneyError, exact_micros_of_literal

_EPOCH = date(1970, 1, 1)
_US_A_DAY = 86_400 * 1_000_000

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]

_PLACE = re.compile(r" - at `\$\.?(.*)`$")

_T = TypeVar("_T")


class Plans(msgspec.Struct, frozen=True):
    """`versions` of a plan are in the order of their dates; `by_value` and `by_agent` lead to a plan's name."""

    versions: Mapping[str, tuple[Terms, ...]]
    metadata_key: str | None = None
    by_value: Mapping[str, str] = {}
    by_agent: Mapping[str, str] = {}
    default: str | None = None

    def terms_for(self, call: KnownCall) -> Terms | None:
        """By the metadata's value, else by the agent, else the default plan; of it, what was valid on the day of the
        call. None when there is no plan, or when it is not valid yet."""
        key, value = call.bill.metadata or (None, "")
        name = self.by_value.get(value) if key == self.metadata_key else None
        name = name or self.by_agent.get(call.bill.agent_id or "") or self.default
        day = day_of(call.called_at)
        valid = [terms for terms in self.versions.get(name or "", ()) if terms.valid_from <= day]
        return valid[-1] if valid else None


def day_of(time_us: int) -> date:
    """In UTC."""
    return _EPOCH + timedelta(days=time_us // _US_A_DAY)


def load_plans(settings: Settings) -> Plans | None:
    """None when no file is named. Raises `SettingsError`: one sentence with the file, the plan and the key."""
    path = settings.billing_plans
    if path is None:
        return None
    try:
        return _plans(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        reason = f"it can't be read ({error.strerror})"
    except _Wrong as error:
        reason = str(error)
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, an integer of thousands of digits
        reason = f"it is no TOML ({error})"
    raise SettingsError(f"{PREFIX}BILLING_PLANS names {path}: {reason}.")


class _Wrong(ValueError):
    """What is wrong in the file, as the rest of a sentence."""


class _Version(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    valid_from: date
    per_minute: str = "0"
    round_up_to_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 1
    minimum_s: _Seconds = 0
    included_s: _Seconds = 0
    per_call: str = "0"
    markup_percent: str | None = None
    credit: str | None = None


class _Plan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    currency: _Text
    versions: list[dict[str, Any]]
    agents: list[_Text] = []
    metadata_values: list[_Text] = []


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    plans: dict[_Text, dict[str, Any]]
    metadata_key: _Text | None = None
    default: str | None = None


def _plans(content: dict[str, Any]) -> Plans:
    file = _converted(content, _File, "")
    plans = {name: _converted(plan, _Plan, f"plan {name!r}: ") for name, plan in file.plans.items()}
    if file.default is not None and file.default not in plans:
        raise _Wrong(f"default is {file.default!r}, and there is no such plan")
    for name, plan in plans.items():
        if plan.metadata_values and file.metadata_key is None:
            raise _Wrong(f"plan {name!r}: metadata_values need a metadata_key at the top of the file")
    return Plans(
        versions={name: _versions(name, plan) for name, plan in plans.items()},
        metadata_key=file.metadata_key,
        by_value=_assigned("metadata_values", ((name, plan.metadata_values) for name, plan in plans.items())),
        by_agent=_assigned("agents", ((name, plan.agents) for name, plan in plans.items())),
        default=file.default,
    )


def _versions(name: str, plan: _Plan) -> tuple[Terms, ...]:
    if not plan.versions:
        raise _Wrong(f"plan {name!r}: versions is empty; a plan needs at least one")
    found: dict[date, Terms] = {}
    for number, version in enumerate(plan.versions, 1):
        said = version.get("valid_from", f"number {number}")
        terms = _terms(name, plan.currency, version, f"plan {name!r}, version {said}: ")
        if terms.valid_from in found:
            raise _Wrong(f"plan {name!r}: valid_from {terms.valid_from} occurs twice")
        found[terms.valid_from] = terms
    return tuple(found[day] for day in sorted(found))


def _terms(name: str, currency: str, content: dict[str, Any], where: str) -> Terms:
    version = _converted(content, _Version, where)
    if version.credit is not None and version.markup_percent is None:
        raise _Wrong(f"{where}credit is for markup_percent, which is not there")
    markup = None if version.markup_percent is None else _amount(version.markup_percent, f"{where}markup_percent", -100)
    return Terms(
        plan=name,
        valid_from=version.valid_from,
        currency=currency,
        per_minute_micros=_amount(version.per_minute, f"{where}per_minute"),
        round_up_to_s=version.round_up_to_s,
        minimum_s=version.minimum_s,
        included_s=version.included_s,
        per_call_micros=_amount(version.per_call, f"{where}per_call"),
        markup_micros=markup,
        credit_micros=MICROS_PER_CREDIT if version.credit is None else _amount(version.credit, f"{where}credit"),
    )


def _amount(literal: str, where: str, least: int = 0) -> int:
    """In millionths."""
    try:
        micros = exact_micros_of_literal(literal)
    except MoneyError:
        raise _Wrong(f'{where} is {literal[:40]!r}; write a number of at most six decimals, such as "0.12"') from None
    if micros < least * 1_000_000:
        raise _Wrong(f"{where} is {literal}, and must not be less than {least}")
    return micros


def _assigned(key: str, plans: Iterable[tuple[str, list[str]]]) -> dict[str, str]:
    """From each agent or value to the one plan that names it."""
    found: dict[str, str] = {}
    for plan, names in plans:
        for name in map(bounded_name, names):
            if found.setdefault(name, plan) != plan:
                raise _Wrong(f"plan {plan!r}: {key} has {name!r}, which plan {found[name]!r} has too")
    return found


def _converted(content: dict[str, Any], shape: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(content, shape)
    except msgspec.ValidationError as error:
        sentence = str(error)
    place = _PLACE.search(sentence)
    reason = _PLACE.sub("", sentence).replace("`", "")
    if place is not None and place[1]:
        reason = f"{place[1]} is wrong: {reason[0].lower()}{reason[1:]}"
    else:
        reason = reason.replace("Object contains unknown field", "there is no key").replace(
            "Object missing required field", "it lacks the key"
        )
    hint = ' (amounts are text, in quotes: "0.12")' if re.search("expected str.*, got (int|float)", reason) else ""
    raise _Wrong(f"{where}{reason}{hint}")
