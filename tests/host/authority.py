"""A certificate authority of a test's own, for servers that speak TLS."""

import datetime as dt
import ssl
import threading
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A CA that signs a certificate for any host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = self._named("the CA of a test")
        self.file = folder / "ca.pem"
        own = self._signed(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), True
        )
        self.file.write_bytes(self._finished(own))

    @staticmethod
    def _named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
        number = x509.random_serial_number()
        return x509.CertificateBuilder(self._name, name, key.public_key(), number, now - day, now + day)

    def _finished(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def certify(self, host: str) -> Path:
        """A file with a key and a certificate for this name or address."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._signed(self._named("a test"), key).add_extension(
            x509.SubjectAlternativeName([_name_or_address(host)]), False
        )
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = self._folder / f"{host}.{threading.get_ident()}.pem"
        file.write_bytes(key.private_bytes(*form) + self._finished(leaf))
        return file

    def context(self, host: str) -> ssl.SSLContext:
        """For a server that is `host`, as far as those know who trust this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certify(host))
        return context


def _name_or_address(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
