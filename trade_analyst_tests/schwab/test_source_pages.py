"""What pages in place of answers are taken for. The texts of the pages are as users have met them."""

from __future__ import annotations

import pytest

from trade_analyst_pipeline.schwab.source_pages import authorize_problem, page_advice

URI = "https://127.0.0.1:8182/callback"
WHITELABEL = b"<html><body><h1>Whitelabel Error Page</h1><p>This application has no explicit mapping</p></body></html>"
UNABLE = b"<html>We are unable to complete your request.</html>"
DENIED = b"<HTML><TITLE>Access Denied</TITLE>You don't have permission. Reference #18.1</HTML>"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, DENIED, "leave VPNs and proxies"),
        (403, b"", "leave VPNs and proxies"),
        (200, DENIED, "leave VPNs and proxies"),
        (500, WHITELABEL, "'Ready For Use'"),
        (500, UNABLE, "'Ready For Use'"),
        (200, UNABLE, "'Ready For Use'"),
        (502, b"<html>Bad gateway</html>", "Ask again later"),
        (503, b"", "Ask again later"),
    ],
)
def test_the_advice_for_a_page(status: int, body: bytes, words: str) -> None:
    """Edge block, app not approved, and trouble that passes."""
    assert words in page_advice(status, body)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"error":"invalid_client","error_description":"Unauthorized"}', "TRADE_ANALYST_APP_KEY"),
        (200, b'{"error":"invalid_client"}', "TRADE_ANALYST_APP_KEY"),
        (401, b"", "TRADE_ANALYST_APP_KEY"),
        (400, UNABLE, f"{URI} is not registered with the app to the letter"),
        (500, WHITELABEL, "'Ready For Use'"),
        (403, DENIED, "leave VPNs and proxies"),
        (503, b"", "answers 503"),
    ],
)
def test_what_keeps_the_login_page_from_leading_to_a_login(status: int, body: bytes, words: str) -> None:
    """Refused app, unregistered address, app not approved, edge block, outage."""
    problem = authorize_problem(status, body, redirect_uri=URI)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>Log in</html>"), (302, b""), (200, b"[" * 100_000)])
def test_a_login_page_as_it_should_be(status: int, body: bytes) -> None:
    """A page or a redirect is no problem, whatever it holds."""
    assert authorize_problem(status, body, redirect_uri=URI) is None
