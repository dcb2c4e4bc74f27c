"""Every link of the documentation leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, anchors, prose

_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def _relative(page: Path) -> list[str]:
    return [
        link for link in _LINK.findall(prose(page)) if "://" not in link and not link.startswith("mailto:")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in _relative(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            broken.append(f"{link}: {target.name} has no such heading")
    assert broken == []


def test_there_are_links_to_follow() -> None:
    assert sum(len(_relative(page)) for page in PAGES) >= 20
