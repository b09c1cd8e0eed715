"""Tables on a terminal: what fits is shown, what does not is said."""

import io
import sys
from collections.abc import Callable

import polars as pl
import pytest

from trade_analyst_pipeline.cli.shown import fitting_columns, row_progress, show_frame


class Terminal(io.StringIO):
    """A stream that says that a person reads it."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture
def shown_on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[pl.DataFrame], tuple[str, str]]:
    """What a terminal of 80 columns without colours shows of a table, on standard output and error."""

    def shown(frame: pl.DataFrame) -> tuple[str, str]:
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as patch:
            patch.setenv("TERM", "dumb")  # no colours, 80 columns
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            show_frame(frame)
        return out.getvalue(), err.getvalue()

    return shown


def wide(rows: int) -> pl.DataFrame:
    """A table of 69 columns, as the option table is."""
    return pl.DataFrame({f"column_{number:02d}": ["some text"] * rows for number in range(69)})


@pytest.mark.parametrize(("width", "expected"), [(1, 1), (13, 1), (22, 1), (23, 2), (29, 2), (30, 3), (100, 3)])
def test_columns_fit_while_their_boxes_do(width: int, expected: int) -> None:
    """Columns of 9, 7 and 4 characters take 13, 23 and 30 with their boxes: three more each, and one for the edge."""
    assert fitting_columns(["symbol", "a", "last"], [["some text", "1234567", "1"]], width) == expected


def test_many_rows_show_the_first_columns_and_a_note(
    shown_on_terminal: Callable[[pl.DataFrame], tuple[str, str]],
) -> None:
    """Of 69 columns the six that fit into 80 characters are shown whole, and the rest is said to be left out."""
    out, err = shown_on_terminal(wide(4))
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[3].split() == ["│", *["some", "text", "│"] * 6]
    assert "Shown are the first 6 of 69 columns" in err
    assert "--json for all" in err


def test_few_rows_are_shown_as_records(shown_on_terminal: Callable[[pl.DataFrame], tuple[str, str]]) -> None:
    """Up to three rows too wide for the terminal show every column, one below the other, each row as a block."""
    out, err = shown_on_terminal(wide(3))
    assert err == ""
    assert out.count("column_68") == 3
    assert [line.split()[-1] for line in out.splitlines() if line.strip().startswith("row ")] == ["1", "2", "3"]


def test_long_and_bracketed_texts_stay_readable(shown_on_terminal: Callable[[pl.DataFrame], tuple[str, str]]) -> None:
    """A text over 40 characters is cut with a sign in a table, and brackets are shown as they are."""
    shown, _ = shown_on_terminal(pl.DataFrame({"short": ["[red]x"], "long": ["y" * 41]}))
    assert "[red]x" in shown
    assert "y" * 39 + "…" in shown
    assert "y" * 40 not in shown


def test_piped_tables_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal every column and character is there, tab-separated, and no progress is shown."""
    show_frame(wide(1).with_columns(column_68=pl.lit("y" * 50)))
    heading, row = capsys.readouterr().out.splitlines()
    assert len(heading.split("\t")) == 69
    assert row.endswith("y" * 50)
    with row_progress("Writing") as progress:
        assert progress is None


def test_rows_written_are_told_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is something to tell the rows to, and it names the work."""
    monkeypatch.setattr(sys, "stderr", said := Terminal())
    with row_progress("Writing") as progress:
        assert progress is not None
        progress(1000)
    assert "Writing" in said.getvalue()
