"""`make licences`: the licences of what the images hold, as their bills of materials tell.

Whatever of Python is in an image must be under a licence of AGREED; exit code 1 names what is not. Debian's
packages are listed where the image has kept their copyright files: the distribution has judged them.
"""

import json
import sys
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(".sbom")
#: What may go into an image: SPDX expressions, and the classifiers of packages that have none. Of those that
#: ask something of us, LGPL (psycopg) and MPL are met by shipping the packages unchanged, beside our code.
AGREED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "LGPL-3.0-only",
        "MIT",
        "MIT-0",
        "MPL-2.0",
    ),
    *(
        "PSF-2.0",
        "Apache-2.0 AND BSD-2-Clause",
        "Apache-2.0 OR BSD-2-Clause",
        "Apache-2.0 OR BSD-3-Clause",
        "MIT OR Apache-2.0",
    ),
    *("License :: OSI Approved :: Apache Software License", "License :: OSI Approved :: BSD License"),
}
UNKNOWN = "not told"


class Package(NamedTuple):
    """A package of an image; `kind` is the word of its package URL, such as pypi or deb."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...]


def _licences(component: dict[str, Any]) -> tuple[str, ...]:
    """Each by its SPDX id or expression, or else by the name that it is given."""
    found = [
        entry.get("expression") or entry["license"].get("id") or entry["license"]["name"]
        for entry in component.get("licenses", [])
    ]
    return tuple(sorted(found)) or (UNKNOWN,)


def packages(folder: Path) -> dict[Package, list[str]]:
    """Every package with the images that hold it. Debian's sources, which are in none, are left out."""
    found: dict[Package, list[str]] = {}
    for path in sorted(folder.glob("*.cdx.json")):
        for each in json.loads(path.read_text())["components"]:
            kind, _, rest = each.get("purl", "").removeprefix("pkg:").partition("/")
            if "arch=source" not in rest:
                package = Package(kind, each["name"], each["version"], _licences(each))
                found.setdefault(package, []).append(path.name.partition(".")[0])
    return found


def main() -> int:
    found = packages(FOLDER)
    if not found:
        raise SystemExit(f"nexus: there is no bill of materials in {FOLDER}: make sbom")
    ordered = sorted(found, key=attrgetter("kind", "licences", "name"))
    for (kind, licences), group in groupby(ordered, attrgetter("kind", "licences")):
        print(f"{kind}, {', '.join(licences)}:")
        for package in group:
            print(f"  {package.name} {package.version} ({', '.join(found[package])})")
    refused = [each for each in found if each.kind == "pypi" and not set(each.licences) <= AGREED]
    for package in refused:
        what = f"{package.name} {package.version} is under {', '.join(package.licences)}"
        print(f"nexus: {what}: do without it, or agree to it in dev/supply/licences.py", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
