"""TLS of a federation: the right certificate, a wrong one, an outdated one, and none."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgeseg.core.errors import EdgesegError
from tests.discs import make_disc_data

pytest.importorskip("flwr", reason="needs Flower: pip install '.[federated]'")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("shallow_sizes"),
    # as in test_federation
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def make_certificate(folder: Path, name: str, days: tuple[int, int] = (-1, 1)) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is valid between two days from now, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def join(data: Path, out: Path, port: int, root: bytes | None) -> Any:
    from edgeseg.federation.local import SiteData
    from edgeseg.federation.secure import Address
    from edgeseg.federation.site import Connection, join_federation

    return join_federation(SiteData(data), out, Connection(Address("127.0.0.1", port), root, wait=4.0))


def test_sites_with_the_right_certificate_alone_take_part(tmp_path: Path) -> None:
    from edgeseg.federation.secure import read_root, read_server_certificate
    from tests.federations import SECONDS, FakeSite, Stage, tiny_plan

    certificate, key = make_certificate(tmp_path, "server")
    other, other_key = make_certificate(tmp_path, "other")
    stage = Stage(tmp_path / "run", tiny_plan(1), 2, certificates=read_server_certificate(certificate, key))
    data = make_disc_data(tmp_path / "data", 12)
    with pytest.raises(EdgesegError, match="prove itself with the certificate"):
        join(data, tmp_path / "stranger", stage.port, read_root(other))
    with pytest.raises(EdgesegError, match="without TLS"):
        join(data, tmp_path / "bare", stage.port, None)
    ends = [stage.join(FakeSite(number), read_root(certificate)) for number in (1, 2)]
    assert [one.result(SECONDS) for one in ends] == [None, None]
    assert stage.result.result(SECONDS).federation is not None
    with pytest.raises(EdgesegError, match="do not work together"):
        read_server_certificate(certificate, other_key)


def test_a_site_with_tls_says_that_the_server_has_none(tmp_path: Path) -> None:
    from edgeseg.federation.secure import read_root
    from tests.federations import SECONDS, FakeSite, Stage, tiny_plan

    certificate, _ = make_certificate(tmp_path, "server")
    stage = Stage(tmp_path / "run", tiny_plan(1), 1)
    data = make_disc_data(tmp_path / "data", 12)
    with pytest.raises(EdgesegError, match="TLS"):
        join(data, tmp_path / "site", stage.port, read_root(certificate))
    assert stage.join(FakeSite(1)).result(SECONDS) is None


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)])
def test_certificates_that_are_not_valid_today_are_refused(tmp_path: Path, days: tuple[int, int]) -> None:
    from edgeseg.federation.secure import read_root, read_server_certificate

    certificate, key = make_certificate(tmp_path, "old", days)
    with pytest.raises(EdgesegError, match="valid today"):
        read_root(certificate)
    with pytest.raises(EdgesegError, match="valid today"):
        read_server_certificate(certificate, key)


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    from edgeseg.federation.secure import read_root, read_server_certificate

    (tmp_path / "odd").write_bytes(b"-----BEGIN CERTIFICATE-----\n???")
    for path in (tmp_path / "odd", tmp_path / "nothing"):
        with pytest.raises(EdgesegError):
            read_root(path)
        with pytest.raises(EdgesegError):
            read_server_certificate(path, path)
