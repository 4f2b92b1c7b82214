"""Finding a consumer of one's own, and what is said when it can't be found or is none."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers import process
from consumers.delivery import Delivery
from runtime.settings import SettingsError, load_settings

CRM = """
    from schemas.topics import CALLS_ENDED

    class CrmSync:
        topics = (CALLS_ENDED,)

        def deliver(self, records):
            pass
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the module `my_crm` into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source: str) -> None:
        (tmp_path / "my_crm.py").write_text(textwrap.dedent(source))

    yield write
    sys.modules.pop("my_crm", None)


def found(which: str, group: str | None = None, engine: Any = None) -> Any:
    consumer, parts = process.find(which, group).make(load_settings(), engine)
    assert parts == []
    return consumer


def test_a_class_in_the_current_directory_is_found_and_called_as_the_group(written: Callable[[str], None]) -> None:
    written(CRM)
    assert process.find("my_crm:CrmSync", "crm").name == "crm"
    consumer = found("my_crm:CrmSync", "crm")
    assert isinstance(consumer, Delivery)
    assert (consumer.name, consumer.deliverer.name) == ("crm", "crm")


def test_a_class_may_say_its_name_itself_and_a_group_overrules_it(written: Callable[[str], None]) -> None:
    written(CRM + '\n        name = "from-the-class"')
    assert process.find("my_crm:CrmSync").name == "from-the-class"
    assert process.find("my_crm:CrmSync", "crm").name == "crm"


def test_a_function_or_an_object_may_be_named_as_well(written: Callable[[str], None]) -> None:
    written(
        CRM + "\n    class Nested:\n        made = CrmSync()\n\n    def make(pause=1, *rest, **more): return CrmSync()"
    )
    assert process.find("my_crm:make", "one").name == "one"
    assert process.find("my_crm:Nested.made", "two").name == "two"


def test_an_entry_point_of_an_installed_package_is_found_by_its_name(
    written: Callable[[str], None], tmp_path: Path
) -> None:
    written(CRM + '\n        name = "from-the-class"')
    install(tmp_path / "one", "crm = my_crm:CrmSync")
    assert process.find("crm").name == "crm"
    assert process.find("crm", "other").name == "other"
    with pytest.raises(SettingsError, match=r"there is no consumer 'crn': name one of billing, calls, crm, profiles"):
        process.find("crn")
    install(tmp_path / "two", "crm = theirs:CrmSync\nbilling = theirs:CrmSync")
    with pytest.raises(SettingsError, match=r"several packages have a consumer 'crm' \(my_crm:CrmSync, theirs:CrmSync"):
        process.find("crm")
    assert process.find("billing").make is process.CONSUMERS["billing"], "ours stay ours"


def install(folder: Path, points: str) -> None:
    """As pip leaves a package, but for its code."""
    about = folder / f"crm_{folder.name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crm-{folder.name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[ringlog.consumers]\n{points}\n")
    sys.path.append(str(folder))


WRONG = {
    "no module": ("elsewhere:CrmSync", CRM, "there is no module 'elsewhere': neither in "),
    "no submodule": ("my_crm.sync:CrmSync", CRM, "there is no module 'my_crm.sync'"),
    "import of another": ("my_crm:CrmSync", "import not_installed", "my_crm imports 'not_installed', and that is not"),
    "broken module": ("my_crm:CrmSync", "1 / 0", r"my_crm can't be imported: ZeroDivisionError: .* \(my_crm.py:1\)"),
    "no python": ("my_crm:CrmSync", "class :", "my_crm can't be imported: SyntaxError"),
    "no attribute": ("my_crm:CrmSink", CRM, "my_crm has no 'CrmSink'; is CrmSync meant?"),
    "nothing named": ("my_crm:", CRM, "'my_crm:' names no consumer: write it as my_package.my_module:MyConsumer"),
    "no consumer": ("my_crm:x", "x = 1", "needs `topics`, .*; it needs either handle.* or deliver"),
    "topics by name": (
        "my_crm:CrmSync",
        CRM.replace("(CALLS_ENDED,)", "('calls.ended',)"),
        "it needs `topics`, a tuple",
    ),
    "both kinds": ("my_crm:CrmSync", CRM + "\n        handle = deliver", "may have only one of them"),
    "async handle": (
        "my_crm:CrmSync",
        CRM.replace("def deliver(self, ", "async def handle(self, tx, "),
        "handle is async",
    ),
    "no number": ("my_crm:CrmSync", CRM + "\n        max_records = 0", "its max_records is no number above 0"),
    "arguments": ("my_crm:CrmSync", CRM + "\n        def __init__(self, url): pass", "my_crm:CrmSync needs url: give"),
    "can't be made": (
        "my_crm:CrmSync",
        CRM + "\n        def __init__(self):\n            {}['CRM_URL']",
        r"my_crm:CrmSync can't be made: KeyError: 'CRM_URL' \(my_crm.py:11\)",
    ),
    "no metadata": ("my_crm:CrmSync", CRM + "\n        metadata = {}", "its metadata is no sqlalchemy.MetaData"),
    "our table": (
        "my_crm:CrmSync",
        "from consumers.tables import metadata as ours\n" + textwrap.dedent(CRM) + "\n    metadata = ours",
        "has a table 'billing_entries', and so has ringlog",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_sentence(written: Callable[[str], None], wrong: str) -> None:
    path, source, said = WRONG[wrong]
    written(source)
    with pytest.raises(SettingsError, match=said) as raised:
        process.find(path, "crm")
    assert "\n" not in str(raised.value).rstrip() or wrong == "no python"


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("billing", "can't be called 'billing': ringlog has a consumer of that name; give another --group"),
        ("profiles", "ringlog has a consumer of that name"),
        ("crm sync", "can't be called 'crm sync': a name has letters, digits"),
        ("crm/sync", "because topics are named after it"),
        ("-crm", "begins with a letter or a digit"),
        ("c" * 101, "at most 100 long"),
        (None, "my_crm:CrmSync has no name: give it one by --group, or by an attribute `name`"),
    ],
)
def test_a_name_that_it_can_t_have_is_one_sentence(
    written: Callable[[str], None], group: str | None, said: str
) -> None:
    written(CRM)
    with pytest.raises(SettingsError, match=said):
        process.find("my_crm:CrmSync", group)


def test_a_name_that_can_t_be_changed_is_one_sentence(written: Callable[[str], None]) -> None:
    written(CRM + '\n        name = property(lambda self: "fixed")')
    assert process.find("my_crm:CrmSync").name == "fixed"
    with pytest.raises(SettingsError, match="calls itself 'fixed' and takes no other name: drop --group"):
        process.find("my_crm:CrmSync", "crm")


def test_ours_keep_their_names() -> None:
    assert process.find("billing").name == "billing"
    with pytest.raises(SettingsError, match="billing is ringlog's own and keeps its name: drop --group"):
        process.find("billing", "mine")


def test_what_the_consumer_itself_says_about_its_settings_is_passed_on(written: Callable[[str], None]) -> None:
    written(
        "from runtime.settings import SettingsError\n"
        + textwrap.dedent(CRM)
        + "\n    def __init__(self):\n        raise SettingsError('CRM_URL is not set.')"
    )
    with pytest.raises(SettingsError, match=r"^CRM_URL is not set\.$"):
        process.find("my_crm:CrmSync", "crm")
