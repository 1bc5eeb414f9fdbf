from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import LabelDuplicate, LabelInvalid, NameInvalid, NoteInvalid
from registry.labels import checked_name, normalise_label, normalise_labels, normalise_note


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("cat", "cat"),
        ("  a stop sign\n", "a stop sign"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
        ("🛑", "🛑"),
        ("👩‍🔬 at work", "👩‍🔬 at work"),
        ("قطة", "قطة"),
        ("חתול\N{RIGHT-TO-LEFT MARK}", "חתול\N{RIGHT-TO-LEFT MARK}"),
        ("x" * 200, "x" * 200),
    ],
)
def test_labels_of_any_script_are_welcome(text: str, label: str) -> None:
    assert normalise_label(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\t\n",
        "\u200b",
        "\u202e \u00ad",
        "x" * 201,
        "x" * 10_000,
        "a\x00b",
        "a\nb",
        "\ud800",
    ],
)
def test_labels_without_meaning_are_refused(text: str) -> None:
    with pytest.raises(LabelInvalid) as caught:
        normalise_label(text)
    assert caught.value.label == text
    assert len(str(caught.value)) < 200


@given(st.text(max_size=250))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    try:
        label = normalise_label(text)
    except LabelInvalid:
        return
    assert normalise_label(label) == label
    assert unicodedata.is_normalized("NFC", label)
    label.encode()


def test_labels_that_become_the_same_are_duplicates() -> None:
    assert normalise_labels(["b", " a "]) == ["b", "a"]
    with pytest.raises(LabelDuplicate) as caught:
        normalise_labels(["café", "cat", " cafe\N{COMBINING ACUTE ACCENT}"])
    assert caught.value.label == "café"


@pytest.mark.parametrize("name", ["a", "43-signs", "v1.2_x", "A" * 100])
def test_plain_names_are_accepted(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".", "..", "a/b", "a b", "ä", "A" * 101, "a\n"])
def test_names_that_do_not_fit_a_path_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        checked_name(name)


def test_notes_are_stripped_and_bounded() -> None:
    assert normalise_note(" two\nlines ") == "two\nlines"
    assert normalise_note("  ") is None
    assert normalise_note(None) is None
    for note in ("x" * 2001, "a\x00", "\udfff"):
        with pytest.raises(NoteInvalid):
            normalise_note(note)
