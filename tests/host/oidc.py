"""An OpenID Connect provider: discovery, the authorization code flow, keys over HTTP, tokens in RS256."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.checkout import free_ports
from tests.waiting import wait_until

CLIENT = "nexus"
REDIRECT = "https://reader.example/signed-in"


@dataclass(frozen=True)
class Provider:
    """A running provider, by the address that containers reach it at as well as this machine."""

    url: str

    def discovered(self) -> dict[str, str]:
        with self._http() as http:
            found: dict[str, str] = http.get("/.well-known/openid-configuration").json()
        return found

    def token(self, subject: str) -> str:
        """The ID token that a client gets for a user who signs in, by the authorization code flow."""
        asked = {
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": "openid",
        }
        known = self.discovered()
        with self._http() as http:
            signed_in = http.post(known["authorization_endpoint"], params=asked, data={"sub": subject})
            code = parse_qs(urlsplit(signed_in.headers["location"]).query)["code"][0]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
            answer = http.post(known["token_endpoint"], data=form, auth=(CLIENT, "any"))
        return str(answer.raise_for_status().json()["id_token"])

    def _http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, trust_env=False, timeout=10)


def host_address() -> str:
    """That of this machine on the engine's own network; containers of every network reach it."""
    subnet = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout.strip()
    return str(next(ip_network(subnet).hosts()))


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """On an address that containers reach."""
    gateway = host_address()
    (port,) = free_ports(1)
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock"]
    command += ["--host", gateway, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Provider(f"http://{gateway}:{port}")
    try:
        wait_until("the OIDC provider answers", lambda: _answers(found, process), seconds=30)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _answers(found: Provider, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the OIDC provider has ended"
    with contextlib.suppress(httpx2.TransportError):
        return bool(found.discovered())
    return False
