# SPDX-License-Identifier: GPL-2.0-only
"""Pages as files: text that means harm, links, size, what is damaged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from pages_samples import HOSTILE, NIGHT, Page, Place, hostile, many

from orchestrator.history.nights import Changes, Night
from orchestrator.pages import plain, site
from orchestrator.plain import REPLACEMENT, clean
from orchestrator.verdicts import Status

SHOWN = clean(HOSTILE)  # as text, in a page


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = hostile(tmp_path)
    made.write()
    return made


def test_harm_is_text(place: Place) -> None:
    for page in map(Page, place.pages):
        elements = [tag for tag, _ in page.tags]
        assert not {"script", "img", "iframe", "b"} & set(elements), page.path
        assert not [name for _, found in page.tags for name in found if name.startswith("on")]
        assert elements.count("style") <= 1
        policies = [f for tag, f in page.tags if tag == "meta" and "http-equiv" in f]
        assert "<script>" not in page.path.name
        if policies:
            assert "default-src 'none'" in (policies[0]["content"] or "")
    index, case = Page(place.path / NIGHT / "index.html"), failed_page(place)
    # verdict, card, blame, matrix, input, kernel, host: each as it was written
    assert index.text.count(SHOWN) > 15
    assert case.text.count(SHOWN) > 5
    raw = index.path.read_bytes() + case.path.read_bytes()
    assert not set(raw) & {*range(9), *range(11, 32), 127}
    assert not [c for c in "\u202e\u2067\u2069" if c.encode() in raw]


def failed_page(place: Place) -> Page:
    row = place.night.rows[0]
    return Page(place.path / NIGHT / "cases" / plain.page_name(row.job, row.case))


def test_no_status_is_told_by_colour_alone() -> None:
    letters = [status.letter for status in Status]
    assert len(set(letters)) == len(Status)


def test_every_link_leads_somewhere(place: Place) -> None:
    pages = [Page(path) for path in place.pages]
    assert sum(len(page.links) for page in pages) > 40
    assert [link for page in pages for link in page.broken()] == []
    assert [i for page in pages for i in page.ids if page.ids.count(i) > 1] == []
    index = Page(place.path / "index.html")
    gone = [link for link in index.links if "old" in link]
    assert gone == [] and any(NIGHT in link for link in index.links)


def test_headings_and_tables_for_who_does_not_see(place: Place) -> None:
    for page in map(Page, place.pages[1:]):
        levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
        assert levels[:1] == [1] and levels.count(1) == 1, page.path
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert all("scope" in found for tag, found in page.tags if tag == "th")
        regions = [f for _, f in page.tags if f.get("role") == "region"]
        assert all(f.get("tabindex") == "0" for f in regions)
        named = [f.get("aria-labelledby") for _, f in page.tags if f.get("aria-labelledby")]
        assert {name for names in named for name in (names or "").split()} <= set(page.ids)


def test_a_failed_case_shows_what_was_seen(place: Place) -> None:
    text = failed_page(place).text
    assert "1 of 1 not applied" in text  # the lifeline
    assert "0x9000" in text and "ff ff ff 9a" in text
    assert "lgrl" in text  # disassembly
    assert "32 lines above" not in text and "19 lines before" in text
    assert "report: [    2.000000] BUG: kernel NULL" in text


def test_damaged_files_are_told_and_stop_nothing(place: Place) -> None:
    directory = place.path / NIGHT / place.night.rows[0].directory
    (directory / "result.json").write_bytes(b'{"name": \xff')
    place.write()
    page = failed_page(place)
    assert "result.json is malformed" in page.text and "not reached" in page.text
    (directory.parents[1] / "results.json").unlink()
    place.write()


def test_a_directory_that_is_not_the_nights_is_not_read(place: Place) -> None:
    outside = place.path / "outside"
    outside.mkdir()
    (outside / "console.log").write_text("secret")
    row = replace(place.night.rows[0], directory="../outside")
    replace(place, night=replace(place.night, rows=(row,))).write()
    assert "secret" not in failed_page(place).text


def test_a_night_in_which_nothing_ran(tmp_path: Path) -> None:
    night = Night("n", 0.0, None, "1", "host", "nightly.toml", None)
    (tmp_path / "n").mkdir()
    text = Page(site.write(tmp_path, night, Changes(""), {})).text
    site.write_list(tmp_path, ())
    assert "Not finished" in text
    assert "There is none yet" in Page(tmp_path / "index.html").text


def test_first_pages_stay_small(tmp_path: Path) -> None:
    first = many(tmp_path, 500, 365).write()
    assert first.stat().st_size < 300_000
    assert (tmp_path / "index.html").stat().st_size < 300_000
    assert len(list((first.parent / "cases").iterdir())) == 500


def test_no_character_that_a_page_cannot_carry() -> None:
    assert clean("a\x00\x1b\r\x85\ud800\uffff\u202eb\t\n") == "a" + REPLACEMENT * 7 + "b\t\n"


def test_names_of_pages_are_safe_and_apart() -> None:
    names = [
        plain.page_name(*each)
        for each in (("a", "b/c"), ("a/b", "c"), ("a", "b c"), ("a", "../../x"), ("a", "\ud800"))
    ]
    assert len(set(names)) == len(names)
    assert not any("/" in name or name.startswith((".", "-")) for name in names)
    assert len(plain.page_name("j" * 300, "c" * 300)) < 128
