"""What Dagster shows of a table's session besides its rows."""

from datetime import date

from trade_analyst_pipeline.defs.assets import _built_result
from trade_analyst_pipeline.lineage.built import Built

DAY = date(2026, 1, 5)


def test_what_was_seen_is_on_the_page_and_the_unknown_can_be_plotted() -> None:
    """Fields and values nobody declared are summed up as a number, and all counts are listed, those first."""
    seen = {"absent:delta": 1, "unknown_field:contract.newThing": 1200, "unknown_value:expiration_type=D": 3}
    metadata = _built_result(Built("options", DAY, "built", rows=9, seen=seen), []).metadata
    assert metadata["unknown_fields_and_values"] == 1203
    assert metadata["seen"].value.splitlines() == [
        "| count | times |",
        "|---|---|",
        r"| unknown\_field\:contract\.newThing | 1,200 |",
        r"| unknown\_value\:expiration\_type\=D | 3 |",
        r"| absent\:delta | 1 |",
    ]


def test_an_ordinary_session_says_that_nothing_was_unknown() -> None:
    """The number is there also when it is 0, so that a plot of it shows when something new came."""
    metadata = _built_result(Built("options", DAY, "unchanged", rows=9), []).metadata
    assert metadata["unknown_fields_and_values"] == 0
    assert metadata["seen"].value == "nothing besides rows"


def test_what_the_source_calls_things_makes_no_link_and_no_cell() -> None:
    """Names from the wire and problems told are text on the page, whatever signs of Markdown are in them."""
    problems = ("unknown_symbol ([x](http://x)): <b>",)
    seen = {"unknown_field:a|b`": 1}
    metadata = _built_result(Built("options", DAY, "built", rows=9, seen=seen, problems=problems), []).metadata
    assert metadata["seen"].value.endswith("\n" + r"| unknown\_field\:a\|b\` | 1 |")
    assert metadata["unusable_responses"].value == r"- unknown\_symbol \(\[x\]\(http\:\/\/x\)\)\: \<b\>"
