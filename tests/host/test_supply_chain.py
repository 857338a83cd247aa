"""The images say what they are: labels, sums of their sources, bills of materials, licences."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import checkout_copy, chosen_images
from tests.host.support import Stack, edited, rendered, run, stack_of

#: The environment of the tools is made the first time, and the images are built.
pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]
long = pytest.mark.long

#: Nobody's: no such host can exist.
ADDRESS = "https://code.example.invalid/nexus/nexus.git"
SECRETIVE = ADDRESS.replace("//", "//somebody:token@") + "?private_token=token"
SERVICES = ("api", "worker")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid", "-c", "commit.gpgsign=false")
    return run("git", *who, *arguments, cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)}).stdout


@pytest.fixture
def repository(copy: Path) -> Path:
    """A clean clone of its own, with an address."""
    return committed(copy)


def committed(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all of it")
    git(folder, "remote", "add", "origin", SECRETIVE)
    return folder


def labels(folder: Path, **variables: str) -> list[str]:
    """What the script says in a folder: revision, source."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)} | variables
    return run("dev/labels", cwd=folder, env=environment).stdout.splitlines()


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        (SECRETIVE, ADDRESS),
        ("https://token@code.example.invalid/x", "https://code.example.invalid/x"),
        ("ssh://git@code.example.invalid:2222/x/y.git", "ssh://code.example.invalid:2222/x/y.git"),
        ("git@code.example.invalid:x/y.git", "ssh://code.example.invalid/x/y.git"),
        *(("/srv/nexus", "unknown"), ("../nexus", "unknown"), ("file:///srv/nexus", "unknown")),
        *(("C:\\nexus", "unknown"), ("https://code.example.invalid/a b", "https://code.example.invalid/a")),
        # What stands before the last @ is a name and a password, whatever is in them.
        ("https://user:p@ss@code.example.invalid/x", "https://code.example.invalid/x"),
        ("https://user:p:@:ss@code.example.invalid:8443/x/@y", "https://code.example.invalid:8443/x/@y"),
        ("ssh://a@b@[::1]:2222/x", "ssh://[::1]:2222/x"),
        ("https://user:p?ss@code.example.invalid/x", "unknown"),
        ("https://user:1?ss@code.example.invalid/x", "unknown"),
        ("https://user:1#ss@code.example.invalid/x", "unknown"),
        ("https://user:p/ss@code.example.invalid/x", "unknown"),
        ("https://code.example.invalid?token=to@ken", "unknown"),
        ("https://code.example.invalid?token=token", "https://code.example.invalid"),
        *(("git@[::1]:x", "ssh://[::1]/x"), ("git@[code.example.invalid:22]:x", "unknown")),
        *(("a@b@code.example.invalid:x", "unknown"), ("git@:x", "unknown")),
    ],
)
def test_a_source_is_an_address_for_others_without_secrets(repository: Path, remote: str, shown: str) -> None:
    git(repository, "remote", "set-url", "origin", remote)
    assert labels(repository)[1] == shown


def test_a_revision_is_dirty_where_the_product_is_edited_and_only_there(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()
    with edited(repository / "README.md", "# Nexus\n", "# Nexus, edited\n"):
        assert labels(repository) == [head, ADDRESS]
    with edited(repository / "shared/nexus/__init__.py", '__version__ = "', '__version__ = "1'):
        assert labels(repository) == [f"{head}-dirty", ADDRESS]
    (repository / "db/new.py").touch()
    assert labels(repository) == [f"{head}-dirty", ADDRESS]


def test_what_cannot_be_known_is_unknown(copy: Path) -> None:
    """No repository, one around it that is not ours, one without a commit."""
    assert labels(copy) == ["unknown", "unknown"]
    git(copy.parent, "init", "--quiet")
    git(copy.parent, "commit", "--quiet", "--allow-empty", "--message", "another project")
    assert labels(copy) == ["unknown", "unknown"]
    git(copy, "init", "--quiet")
    assert labels(copy) == ["unknown", "unknown"]
    # Whoever builds from an archive can say it.
    assert labels(copy, NEXUS_REVISION="v1", NEXUS_SOURCE="there") == ["v1", "there"]


def test_plain_compose_says_that_it_does_not_know(checkout: Path) -> None:
    for service in rendered(checkout, "--profile", "test")["services"].values():
        if "build" in service:
            arguments = service["build"]["args"]
            assert (arguments["NEXUS_REVISION"], arguments["NEXUS_SOURCE"]) == ("unknown", "unknown")


class Built:
    """The images of a clean clone, built by make, and their bills of materials."""

    def __init__(self, stack: Stack, python: str) -> None:
        self.stack, self.python = stack, python
        self.folder = stack.directory
        # As `make sbom`, but with the tools of this checkout: making them takes a minute.
        stack.run("make", f"--eval=probe: ; @{python} -m dev.supply.sbom", "probe")
        self.bills = {name: json.loads(self.file(name).read_text()) for name in SERVICES}

    def file(self, service: str) -> Path:
        return self.folder / f".sbom/{service}.cdx.json"

    def inspect(self, service: str) -> dict[str, Any]:
        (said,) = json.loads(self.stack.run("docker", "image", "inspect", self.stack.image(service)).stdout)
        return dict(said)

    def inside(self, service: str, *command: str) -> str:
        """The output of a command in a container of the image."""
        alone = ("docker", "run", "--rm", "--network", "none", "--entrypoint", command[0])
        return self.stack.run(*alone, self.stack.image(service), *command[1:]).stdout

    def components(self, service: str, kind: str) -> set[tuple[str, str]]:
        """Names and versions in the bill; Debian's sources left out."""
        urls = [each.get("purl", "") for each in self.bills[service]["components"]]
        assert all(urls)
        return {
            (each["name"], each["version"])
            for each in self.bills[service]["components"]
            if each["purl"].startswith(f"pkg:{kind}/") and "arch=source" not in each["purl"]
        }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, supply_python: str) -> Iterator[Built]:
    with stack_of(committed(checkout_copy(tmp_path_factory.mktemp("supply") / "nexus"))) as stack:
        yield Built(stack, supply_python)


@long
@pytest.mark.parametrize(
    ("service", "title"), [("api", "Nexus API and migrator"), ("worker", "Nexus worker")]
)
def test_labels_of_an_image(built: Built, service: str, title: str) -> None:
    found = built.inspect(service)["Config"]["Labels"]
    project = (built.folder / "pyproject.toml").read_text()
    base = chosen_images().get("PYTHON_IMAGE", "python:3.12-slim")
    wanted = {
        "title": title,
        "version": re.findall(r'(?m)^version = "(.*)"$', project)[0],
        "revision": git(built.folder, "rev-parse", "HEAD").strip(),
        "source": ADDRESS,
        "licenses": "MIT",
        "base.name": base,
    }
    prefix = "org.opencontainers.image."
    assert {name: found.get(prefix + name) for name in wanted} == wanted
    assert "token" not in json.dumps(built.inspect(service))


@long
def test_another_label_makes_no_step_run_again(built: Built) -> None:
    command = ("docker", "compose", "--progress", "plain", "build", "api", "worker")
    with stack_of(built.folder, NEXUS_REVISION="another", NEXUS_SOURCE="elsewhere") as stack:
        result = stack.run(*command)
    said = result.stdout + result.stderr
    # Not the COPY of the code too: of two images built at once each may have made it, and either is found.
    steps = set(re.findall(r"(?m)^#(\d+) \[.*\] RUN ", said))
    assert len(steps) >= 5, said
    assert set(re.findall(r"(?m)^#(\d+) CACHED$", said)) >= steps, said


@long
@pytest.mark.parametrize("service", SERVICES)
def test_an_image_lists_the_sums_of_its_sources(built: Built, service: str) -> None:
    listed = built.inside(service, "cat", "/app/sources.sha256")
    (built.folder / ".sums").write_text(listed)
    check = ("sha256sum", "--check", "--quiet", ".sums")
    assert built.stack.run(*check).stdout == ""
    product = {
        path.relative_to(built.folder).as_posix()
        for room in ("services", "shared", "db")
        for path in (built.folder / room).rglob("*")
        if path.is_file()
    }
    assert {line.split(maxsplit=1)[1] for line in listed.splitlines()} == product
    with edited(built.folder / "shared/nexus/__init__.py", '__version__ = "', '__version__ = "1'):
        assert built.stack.run(*check, check=False).stdout == "shared/nexus/__init__.py: FAILED\n"


@long
@pytest.mark.parametrize("service", SERVICES)
def test_a_bill_is_about_its_image(built: Built, service: str) -> None:
    bill, image = built.bills[service], built.inspect(service)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    subject = bill["metadata"]["component"]
    assert (subject["type"], subject["name"]) == ("container", f"nexus-{service}")
    said = {each["name"]: each["value"] for each in subject["properties"]}
    assert said["nexus:image:id"] == image["Id"]
    revision = "org.opencontainers.image.revision"
    assert said[revision] == image["Config"]["Labels"][revision]


@long
@pytest.mark.parametrize("service", SERVICES)
def test_a_bill_lists_what_the_image_holds(built: Built, service: str) -> None:
    """As Python and dpkg themselves tell it, inside."""
    ask = "from importlib.metadata import *; [print(d.name, d.version) for d in distributions(path=[p])]"
    program = f"import sysconfig; p = sysconfig.get_path('purelib'); {ask}"
    python = {tuple(line.split()) for line in built.inside(service, "python", "-c", program).splitlines()}
    assert built.components(service, "pypi") == python
    form = "--showformat=${Package} ${Version}\n"
    debian = {tuple(line.split()) for line in built.inside(service, "dpkg-query", "-W", form).splitlines()}
    assert built.components(service, "deb") == debian
    assert len(python) > 20
    assert len(debian) > 50


@long
def test_everything_in_a_bill_hangs_together(built: Built) -> None:
    for bill in built.bills.values():
        names = {each["bom-ref"] for each in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
        assert len(names) == len(bill["components"]) + 1
        assert {each["ref"] for each in bill["dependencies"]} <= names
        below = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
        assert {name for needed in below.values() for name in needed} <= names
        reached, waiting = set[str](), [bill["metadata"]["component"]["bom-ref"]]
        while waiting:
            if (name := waiting.pop()) not in reached:
                reached.add(name)
                waiting += below.get(name, [])
        assert {name for name in names - reached if "arch=source" not in name} == set()


@long
def test_the_same_image_gives_the_same_bytes(built: Built) -> None:
    before = [built.file(name).read_bytes() for name in SERVICES]
    built.stack.run(built.python, "-c", "from dev.supply.sbom import write_all; write_all()")
    assert [built.file(name).read_bytes() for name in SERVICES] == before


@long
def test_a_bill_that_is_not_valid_is_not_written(built: Built) -> None:
    wrong = {"bomFormat": "CycloneDX", "specVersion": "1.6", "nonsense": 1}
    program = f"from dev.supply.sbom import write; write('wrong', {wrong})"
    result = built.stack.run(built.python, "-c", program, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("nexus: the bill of materials of wrong is not valid: ")
    assert sorted(path.name for path in (built.folder / ".sbom").iterdir()) == [
        "api.cdx.json",
        "worker.cdx.json",
    ]


@long
def test_licences_are_listed_and_only_agreed_ones_are_there(built: Built) -> None:
    command = (built.python, "-m", "dev.supply.licences")
    result = built.stack.run(*command)
    assert "\n  psycopg " in result.stdout.partition("pypi, LGPL-3.0-only:")[2]
    listed = re.findall(r"(?m)^  (\S+) (\S+) \(", result.stdout)
    held = {each for name in SERVICES for kind in ("pypi", "deb") for each in built.components(name, kind)}
    assert set(listed) == held
    with edited(built.folder / "dev/supply/licences.py", ' "LGPL-3.0-only",', ""):
        result = built.stack.run(*command, check=False)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["psycopg", "psycopg-binary"]
    assert lines[0].endswith(
        " is under LGPL-3.0-only: do without it, or agree to it in dev/supply/licences.py"
    )


@long
def test_without_a_bill_there_is_nothing_to_list(copy: Path, supply_python: str) -> None:
    result = run(supply_python, "-m", "dev.supply.licences", cwd=copy, env={}, check=False)
    assert result.returncode == 1
    assert result.stderr == "nexus: there is no bill of materials in .sbom: make sbom\n"


STATUS = """\
Package: tidy
Status: install ok installed
Maintainer: nobody <nobody@example.invalid>
Architecture: all
Version: 1.0-1
Description: a package that kept its copyright file
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 nobody
License: ISC
"""
WHOLE = """
import json, sys, tarfile
from pathlib import Path
from dev.supply.sbom import Image, bill, extract
archive, root = map(Path, sys.argv[1:])
extract(tarfile.open(archive), root)
print(json.dumps(bill(Image("x", "sha256:0", "2026-01-01T00:00:00.123Z", {}), root)))
"""


LINKS = """
import sys, tarfile
from pathlib import Path
from dev.supply.sbom import extract
extract(tarfile.open(fileobj=sys.stdin.buffer, mode="r|"), Path(sys.argv[1]))
"""


def packed(archive: Path, members: list[tuple[str, bytes, str]]) -> None:
    """Write an archive of names, kinds, and what is in each: its text, or where a link leads."""
    with tarfile.open(archive, "w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content
            tar.addfile(member, io.BytesIO(content.encode()))


@long
def test_links_among_the_wanted_files(supply_python: str, tmp_path: Path) -> None:
    """An export comes as a stream, in which nobody can go back to what a link leads to."""
    archive, root = tmp_path / "export.tar", tmp_path / "root"
    regular, symbolic, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    doc, info = "usr/share/doc/{}/copyright".format, "opt/x/site-packages/{}.dist-info/METADATA".format
    packed(
        archive,
        [
            *((doc("a"), regular, "text"), ("etc/shadow", regular, "secret")),
            *((doc("b"), symbolic, "../a/copyright"), (doc("c"), symbolic, "/etc/shadow")),
            *((doc("d"), hard, doc("a")), (doc("e"), hard, "etc/shadow"), (doc("f"), hard, doc("d"))),
            *((doc("g"), hard, doc("none")), (doc("h"), tarfile.FIFOTYPE, "")),
            *((doc("j"), hard, f"../{info('k')}"), (f"{tmp_path}/{info('l')}", regular, "outside")),
            (doc("z"), regular, "the last"),
        ],
    )
    (tmp_path / info("k")).parent.mkdir(parents=True)
    (tmp_path / info("k")).write_text("secret")
    with archive.open() as stream:
        done = subprocess.run(
            [supply_python, "-c", LINKS, root], stdin=stream, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if not path.is_dir()}
    assert {name: path.read_text() for name, path in found.items()} == {
        **dict.fromkeys((doc("a"), doc("d"), doc("f")), "text"), doc("z"): "the last"
    }  # fmt: skip
    assert not any(path.is_symlink() for path in found.values())
    assert not (tmp_path / info("l")).exists()


@long
def test_an_image_of_another_kind(built: Built, tmp_path: Path) -> None:
    """As the official ones are: Python is none of Debian's and has packages of its own; copyright is kept."""
    pip = "usr/local/lib/python3.12/site-packages/pip-25.0.dist-info/METADATA"
    other = "opt/venv/lib/python3.12/site-packages/a-1.dist-info/METADATA"
    files = {
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/arch-native": "amd64\n",
        "usr/share/doc/tidy/copyright": COPYRIGHT,
        "opt/venv/pyvenv.cfg": "home = /usr/local/bin\nversion = 3.12.9\n",
        pip: "Name: pip\nVersion: 25.0\n",
        other: "Name: a\nVersion: 1\nLicense-Expression: MIT\n",
    }
    archive, root = tmp_path / "image.tar", tmp_path / "root"
    with tarfile.open(archive, "w") as tar:
        for name, content in {
            **files,
            "etc/shadow": "secret",
            "../site-packages/x.dist-info/METADATA": "x",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    made = json.loads(built.stack.run(built.python, "-c", WHOLE, str(archive), str(root)).stdout)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.dist-info")} == {
        f"root/{name.rpartition('/')[0]}" for name in (pip, other)
    }
    assert not (root / "etc").exists()
    found = {each["purl"].partition("?")[0]: each.get("licenses") for each in made["components"]}
    assert found.keys() == {
        "pkg:deb/debian/tidy@1.0-1", "pkg:pypi/pip@25.0", "pkg:pypi/a@1", "pkg:generic/python@3.12.9"
    }  # fmt: skip
    assert found["pkg:deb/debian/tidy@1.0-1"] == [{"acknowledgement": "declared", "expression": "ISC"}]
    assert found["pkg:pypi/a@1"] == [{"license": {"acknowledgement": "declared", "id": "MIT"}}]
