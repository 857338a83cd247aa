"""`make sbom`: a CycloneDX bill of materials of each image of ours, `.sbom/<service>.cdx.json`.

Of what the image holds, read from its files without running it: Debian's packages by debsbom, those of Python
by cyclonedx-py, the interpreter where it is none of Debian's. The same image gives the same bytes.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

FOLDER = Path(".sbom")
#: The migrator's image is the API's.
SERVICES = ("api", "worker")
VERSION = SchemaVersion.V1_6
#: What is read of an image: what dpkg knows, licences as Debian keeps them, what Python knows. Packages of
#: Python below dist-packages are Debian's own, so dpkg knows them.
WANTED = re.compile(
    r"var/lib/dpkg/(status|status\.d/.*|arch-native)|usr/share/doc/[^/]+/copyright"
    r"|opt/venv/pyvenv\.cfg|.*/site-packages/[^/]+\.dist-info/.*"
)
#: So that two images have two numbers, and one image always the same.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/")

Document = dict[str, Any]


class Image(NamedTuple):
    """What the engine says about an image."""

    name: str
    id: str
    created: str
    labels: dict[str, str]


def _output(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise SystemExit(f"nexus: {' '.join(command)[:80]} ended with {done.returncode} and said: {said}")
    return done.stdout


def _tool(name: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).with_name(name))


def images() -> dict[str, Image]:
    """The image of each service, as it was last built."""
    project = json.loads(_output("docker", "compose", "config", "--format", "json"))["name"]
    found = {}
    for service in SERVICES:
        (said,) = json.loads(_output("docker", "image", "inspect", f"{project}-{service}"))
        labels = said["Config"]["Labels"] or {}
        found[service] = Image(f"nexus-{service}", said["Id"], said["Created"], labels)
    return found


def unpack(image: Image, root: Path) -> None:
    """The wanted files of an image. A container is made of it for that, and never started."""
    container = _output("docker", "create", image.id).strip()
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as archive,
        ):
            extract(archive, root)
        if export.returncode:
            raise SystemExit(f"nexus: docker export of {image.name} ended with {export.returncode}")
    finally:
        _output("docker", "rm", "--volumes", container)


def extract(archive: tarfile.TarFile, root: Path) -> None:
    """Contents only: no symbolic links, no owners, nothing outside of root.

    A hard link is the file once more where that was wanted itself; else it is left out, since an export is a
    stream, in which nobody can go back.
    """
    for member in archive:
        content = _content(archive, member, root) if _wanted(member.name) else None
        if content is not None:
            path = root / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _wanted(name: str) -> bool:
    inside = not name.startswith("/") and ".." not in Path(name).parts
    return inside and WANTED.fullmatch(name) is not None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> bytes | None:
    if member.islnk():
        first = root / member.linkname
        return first.read_bytes() if _wanted(member.linkname) and first.is_file() else None
    file = archive.extractfile(member) if member.isreg() else None
    return file.read() if file else None


def debian_packages(image: Image, root: Path) -> Document:
    """What dpkg knows, as a whole document about the image."""
    command = [_tool("debsbom"), "generate", "--sbom-type", "cdx", "--with-licenses"]
    command += ["--root", str(root), "--out", "-", "--cdx-schema-version", VERSION.to_version()]
    command += ["--distro-name", image.name, "--distro-version", _label(image, "version")]
    command += ["--timestamp", f"{image.created[:19]}+00:00"]
    command += ["--cdx-serialnumber", str(uuid.uuid5(NAMESPACE, image.id))]
    return dict(json.loads(_output(*command)))


def python_packages(root: Path) -> Document:
    """What Python's own metadata tell, as a document of its own."""
    places = sorted({str(found.parent) for found in root.rglob("*.dist-info")})
    # cyclonedx-py asks an interpreter where its packages are. The image's does not run here; this one knows.
    stub = root.with_suffix(".python")
    stub.write_text('#!/bin/sh\nexec cat "$0.json"\n')
    stub.chmod(0o700)
    Path(f"{stub}.json").write_text(json.dumps(places))
    # Not validated twice: what comes out of both is.
    command = [_tool("cyclonedx-py"), "environment", "--no-validate", "--output-reproducible"]
    return dict(json.loads(_output(*command, "--sv", VERSION.to_version(), str(stub))))


def interpreter(root: Path) -> list[Document]:
    """Python itself, where it does not come from a package of Debian."""
    said = dict(re.findall(r"(?m)^(\w+) = (.*)$", (root / "opt/venv/pyvenv.cfg").read_text()))
    if said["home"] == "/usr/bin":
        return []
    url = f"pkg:generic/python@{said['version']}"
    return [{"type": "platform", "bom-ref": url, "name": "python", "version": said["version"], "purl": url}]


def _label(image: Image, name: str) -> str:
    return image.labels.get(f"org.opencontainers.image.{name}", "unknown")


def subject(image: Image, reference: str) -> Document:
    """The image itself, with what it says of itself."""
    said = {"nexus:image:id": image.id} | {k: v for k, v in image.labels.items() if "opencontainers" in k}
    return {
        "type": "container",
        "bom-ref": reference,
        "name": image.name,
        "version": _label(image, "version"),
        "licenses": [{"license": {"id": _label(image, "licenses")}}],
        "properties": [{"name": name, "value": value} for name, value in sorted(said.items())],
    }


def bill(image: Image, root: Path) -> Document:
    """Everything in an image, as one document."""
    whole, python = debian_packages(image, root), python_packages(root)
    more = [*python["components"], *interpreter(root)]
    metadata = whole["metadata"]
    reference = metadata["component"]["bom-ref"]
    metadata["component"] = subject(image, reference)
    metadata["tools"]["components"] += python["metadata"]["tools"]["components"]
    whole["components"] += more
    needed = {needed for each in python["dependencies"] for needed in each.get("dependsOn", [])}
    for each in whole["dependencies"]:
        if each["ref"] == reference:
            on_top = {component["bom-ref"] for component in more} - needed
            each["dependsOn"] = sorted({*each.get("dependsOn", []), *on_top})
    whole["dependencies"] += python["dependencies"]
    return whole


def write(service: str, document: Document) -> Path:
    """Checked against the schema, and in place only when it is whole and valid."""
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    fault = JsonStrictValidator(VERSION).validate_str(text)
    if fault:
        raise SystemExit(f"nexus: the bill of materials of {service} is not valid: {fault!r}")
    path = FOLDER / f"{service}.cdx.json"
    FOLDER.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text)
    return new.replace(path)


def _count(document: Document, prefix: str) -> int:
    return sum(
        component.get("purl", "").startswith(prefix) and "arch=source" not in component["purl"]
        for component in document["components"]
    )


def write_all() -> None:
    for service, image in images().items():
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / "root"
            root.mkdir()
            unpack(image, root)
            document = bill(image, root)
        path = write(service, document)
        python, debian = _count(document, "pkg:pypi/"), _count(document, "pkg:deb/")
        held = f"{python} packages of Python, {debian} of Debian"
        print(f"nexus: {path}: {held}; revision {_label(image, 'revision')}")


if __name__ == "__main__":
    _output("docker", "compose", "build", "--quiet", *SERVICES)
    write_all()
