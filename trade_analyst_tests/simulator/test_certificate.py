"""The certificate made at start."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from trade_analyst_pipeline.simulator.certificate import make_identity

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_it_is_for_loopback_and_short_lived() -> None:
    """The names are localhost and 127.0.0.1, the life 30 days, the key P-256, the signature the authority's."""
    identity = make_identity(NOW)
    server, authority = (x509.load_pem_x509_certificate(text) for text in (identity.certificate, identity.authority))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert server.not_valid_after_utc == NOW + timedelta(days=30)
    key = server.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    server.verify_directly_issued_by(authority)


def test_each_start_has_its_own() -> None:
    """Two identities share neither key nor authority, and the key is not shown in a repr."""
    first, second = make_identity(NOW), make_identity(NOW)
    assert first.key != second.key
    assert first.authority != second.authority
    assert "PRIVATE" not in repr(first)


def test_further_names_stand_beside_the_local_ones() -> None:
    """Names of another host are added once each, after localhost; 127.0.0.1 stays the only address."""
    identity = make_identity(NOW, ("api.schwabapi.com", "streamer-api.schwab.com", "api.schwabapi.com", "localhost"))
    server = x509.load_pem_x509_certificate(identity.certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    expected = ["localhost", "api.schwabapi.com", "streamer-api.schwab.com"]
    assert names.get_values_for_type(x509.DNSName) == expected
    assert len(list(names)) == 4


@pytest.mark.parametrize(
    "name", ["", "*.schwabapi.com", "https://api.schwabapi.com", "10.0.0.1", "a..b", "-a.com", "a b", "x" * 64]
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    """Wildcards, addresses, URLs and malformed names are refused with the text that was given."""
    with pytest.raises(ValueError, match="no host name"):
        make_identity(NOW, (name,))
