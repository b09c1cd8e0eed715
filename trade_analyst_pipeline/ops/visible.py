"""Text from outside made harmless to show: signs that a terminal or a reader's eye would obey become words.

Control characters and escape sequences, signs that turn or hide the text beside them, halves of surrogate pairs.
Belongs here: what is shown to people. Not here: data, which is kept and handed out exactly as sent. Knows the standard
library only and stands below everything.
"""

from __future__ import annotations

import re
from string import punctuation

# Controls but tab and line feed; soft hyphen; Arabic, Mongolian, zero-width, turning and joining signs; line and
# paragraph separators; byte order mark; annotations; tags; surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_LINE_SIGNS = str.maketrans({"\n": "\\n", "\t": "\\t"})
_MARKDOWN_SIGNS = str.maketrans({sign: f"\\{sign}" for sign in punctuation})


def visible(text: str) -> str:
    r"""A text with each such sign written as Python writes it (`\x1b`, `\u202e`); tabs and line ends stay."""
    return _UNSEEN.sub(_written, text)


def one_line(text: str) -> str:
    r"""A visible text without line ends and tabs, which are written `\n` and `\t`."""
    return visible(text).translate(_LINE_SIGNS)


def escaped(text: str) -> str:
    r"""One line from which the text can be had back, as a backslash of its own is written `\\`."""
    return one_line(text.replace("\\", "\\\\"))


def in_markdown(text: str) -> str:
    """One line that Markdown, also in a table, shows as the text it is: no link, picture, HTML or cell border."""
    return one_line(text).translate(_MARKDOWN_SIGNS)


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
