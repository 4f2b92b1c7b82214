"""A struct as it looks from outside: what its JSON promises to whoever reads it, which is less than we write."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from schemas.end_of_call import EndOfCall

BODY = (
    "What the provider sent, secrets redacted. No member is refused for its shape: each is shown as it mostly comes,"
    " and may be anything, or absent. Expect others than these."
)

AnyJson = Annotated[Any, msgspec.Meta(description="Any JSON value.")]


def shown(
    struct: type[msgspec.Struct],
    name: str,
    known: Mapping[str, Any] | None = None,
    *,
    absent: Collection[str] = (),
    without: Collection[str] = (),
    more: Mapping[str, str] | None = None,
) -> type[msgspec.Struct]:
    """The struct under a name for readers: raw JSON has no schema of its own, but may have a `known` one.

    `absent` may be absent one day, though we never write it so; `without` are members that are never there; `more` are
    members that may come, and what they are.
    """
    hints = {**get_type_hints(struct, include_extras=True), **(known or {})}
    there = [field for field in msgspec.structs.fields(struct) if field.name not in without]
    fields = [_field(field, hints[field.name], absent) for field in there]
    names = {field.name: field.encode_name for field in there}
    for member, about in (more or {}).items():
        fields.append((member, Annotated[Any, msgspec.Meta(description=about)] | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(
        name,
        fields,
        namespace={"__doc__": inspect.cleandoc(struct.__doc__ or "")},
        rename=names,
        kw_only=True,
    )


def _field(field: msgspec.structs.FieldInfo, hint: Any, absent: Collection[str]) -> Any:
    if hint is msgspec.Raw:
        hint = AnyJson
    elif get_args(hint)[:1] == (msgspec.Raw,):
        hint = Annotated[(Any, *hint.__metadata__)]
    if field.name in absent:
        return field.name, hint | msgspec.UnsetType, msgspec.UNSET
    if field.required:
        return field.name, hint
    return field.name, hint, None if isinstance(field.default, msgspec.Raw) else field.default


_body = shown(EndOfCall, "EndOfCall")
Body: Any = Annotated[_body, msgspec.Meta(description=BODY)]


def definitions(values: Sequence[Any], at: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """For each struct a reference, and what is referred to: name -> JSON Schema. `at` is such as `#/$defs`."""
    references, found = msgspec.json.schema_components(values, ref_template=f"{at}/{{name}}")
    if (body := found.get(_body.__name__)) is not None:
        body["properties"] = {name: _loosely(schema) for name, schema in body["properties"].items()}
    plain: dict[str, Any] = _referring_alone(found)
    return list(references), plain


def _loosely(schema: dict[str, Any]) -> dict[str, Any]:
    """Says the usual shape, and allows any: the provider's bodies are kept as they come."""
    about: dict[str, Any] = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    alternatives = schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]
    return {**about, "anyOf": [*alternatives, {}]} if schema else about


def _referring_alone(schema: Any) -> Any:
    """The same, for readers that know draft 7 of JSON Schema only: there, what stands beside a `$ref` is ignored."""
    if isinstance(schema, list):
        return [_referring_alone(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _referring_alone(value) for key, value in schema.items()}
    if len(plain) > 1 and isinstance(reference := plain.pop("$ref", None), str):
        plain["allOf"] = [{"$ref": reference}]
    return plain
