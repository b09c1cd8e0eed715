"""Names as a source might send them, made to escape wherever a name is shown, written or asked for."""

from __future__ import annotations

import random

REAL = (
    *("BRK/B", "BRK.B", "/ES", "./ESZ25C6000", "$SPX", "AAPL  251219C00200000", "EUR/USD", "F", "A", "GOOG", "^VIX"),
    *("TRUE", "FALSE", "NAN", "NA", "INF", "NULL", "null", "None", "nan", "CON", "PRN", "AUX", "NUL", "COM1", "LPT9"),
    *("con.txt", "007", "7", "1E5", "100", "1e400", "0x1F", "-0", "1_000", "2026-01-05", "09:30", "1/2", "MAR1", "NO"),
)
HOSTILE = (
    *("..", ".", "../../../etc/passwd", "..\\..\\windows", "/etc/passwd", "C:\\x", "\\\\host\\share", "file:///etc/x"),
    *(
        "%2e%2e%2f",
        "~root",
        "session_date=2026-01-06",
        "a/session_date=1999-01-01/b",
        "symbol=A",
        ".hidden",
        "a.",
        "-rf",
    ),
    *("*", "**", "?", "[A]", "[!A]", "{A,B}", "A*", "*.parquet", "part-*.parquet", "[A-Z]", "A?"),
    *("'", '"', "''", "';DROP TABLE movers;--", "' OR '1'='1", '" OR ""="', "\\'", "$$", "/*", "*/", "--", ";", "`id`"),
    *("$(id)", "${HOME}", "%s", "%n", "{0}", "{symbol}", "{{7*7}}", "#{7*7}", "a,b", "a;b", "a|b", "a\tb"),
    *('=HYPERLINK("http://x","y")', "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1+1", "\r=1+1", " =1+1"),
    *("\n=1+1", "'=1+1", '"=1+1', "\u200b=1+1", "\ufeff=1+1", "\uff1d1+1", "\uff0bcmd", "\uff0d1", "\uff20x", "\x00=1"),
    *(
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\n",
        "\r",
        "\t",
        "'\t",
        "'\r",
        "''\t",
        "'\x00",
        " ",
        "a ",
        " a",
        "a\x0bb",
        "a\x0cb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
    ),
    *(
        "\x1b[2J",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x07y\x1b]8;;\x07",
        "\x9b2J",
        "\x08\x08\x08",
    ),
    *("a\x00b", "\x00", "\x7f", "\x01", "a\x1fb", "\\x1b[2J", "\\n", "\\", "\\\\", "_x001B_", "_x000D_", "_x005F_"),
    *("\u202eEVIL", "\u2066x\u2069", "\u200fA", "A\u200b", "\u00adA", "\U000e0041A", "A\ufe0f", "e\u0301", "\u00e9"),
    *("\u0410\u0410PL", "\u0391APL", "\uff21\uff21\uff30\uff2c", "\u212a", "K", "\u017f", "\u0130", "\u0131", "\ufb01"),
    *(
        "\u00df",
        "SS",
        "\u1e9e",
        "I\u0307",
        "\u03c2",
        "\u03c3",
        "\u03a3",
        "A\u030a",
        "\u00c5",
        "\u212b",
        "Z\u0335\u0336" * 9,
    ),
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](http://x)",
        "<http://x>",
        "[x](javascript:alert(1))",
        "![x](http://x/y)",
        "# a",
    ),
    *(
        "&lt;b&gt;",
        "&amp;",
        "&#x3d;1",
        "[red]x[/red]",
        "[/]",
        "[link=http://x]y[/link]",
        "](",
        "- a",
        "1. a",
        "| a | b |",
    ),
    *(
        '{"symbol":"A"}',
        '"}],"symbol":"B"',
        "[]",
        "\U0001f4a9",
        "\U0001f468\u200d\U0001f469",
        "\ud7ff",
        "\ue000",
        "\uffff",
    ),
    *("2026-01-05 00:00:00 - dagster - ERROR - forged", '{"level":"error"}', "A" * 300, "=" * 500, "\u202e" * 50),
)
PIECES = (
    *(REAL + HOSTILE),
    *(
        "A",
        "b",
        "9",
        "-",
        "=",
        "+",
        "@",
        "/",
        "\\",
        "..",
        "*",
        "?",
        "[",
        "]",
        "'",
        '"',
        "\n",
        "\r",
        "\t",
        "\x00",
        "\x1b[",
    ),
)


def hostile_names(count: int, seed: int) -> list[str]:
    """So many different names, the fixed ones first, then pairs that fold together, then chance."""
    rng = random.Random(seed)  # noqa: S311  chance for tests
    names = dict.fromkeys(REAL + HOSTILE)
    for name in REAL + HOSTILE:
        names |= dict.fromkeys(each for each in (name.lower(), name.upper(), name.swapcase(), name.title()))
    while len(names) < count:
        kind = rng.randrange(3)
        if kind == 0:
            names["".join(rng.choices(PIECES, k=rng.randint(2, 4)))[:2000]] = None
        elif kind == 1:
            names["".join(map(chr, rng.choices(range(0x250), k=rng.randint(1, 12))))] = None
        else:
            names["".join(_letter(rng) for _ in range(rng.randint(1, 6)))] = None
    return list(names)[:count]


def _letter(rng: random.Random) -> str:
    """Any character of Unicode but halves of surrogate pairs, which JSON text cannot hold."""
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)
