"""Nothing of the machine it was written on, no index, mirror or registry, nothing left lying about."""

import pytest

from tests.repo.tree import below, files, lines_with

#: Written with gaps, so that this file is none of those that it looks for. `docker. io` alone is a package.
KINDS = {
    "address of an index, a mirror or a registry": (
        *(r"\bpypi\. org\b", r"\bpythonhosted\. org\b", r"\bpypi\.python\. org\b"),
        *(r"\bdeb\. debian\.org\b", r"\bsecurity\. debian\.org\b", r"\barchive\. ubuntu\.com\b"),
        *(
            r"\bdocker\. io/",
            r"\w\.docker\. io\b",
            r"\bdownload\.docker\. com\b",
            r"\b(ghcr|gcr|quay)\. io\b",
        ),
    ),
    # Root's cache and the home of nexus are the images' own.
    "place on somebody's machine": (
        *(r"(?<![\w.$}])/ work/", r"/ root/(?!\.cache)", r"/ home/(?!nexus\b)\w", r"/ Users/\w"),
        *("/ tmp/t/", "/ mnt/", "/ private/"),
    ),
    "leftover": (r"\bTO DO\b", r"\bFIX ME\b", r"\bXX X\b", r"<<<< <<<|>>>> >>> "),
}

#: What says whether something is well. There a failure that is passed over is a lie; elsewhere it tidies up.
JUDGES = (
    "Makefile",
    "compose",
    "Dockerfile",
    ".github/",
    ".ci/",
    "services/",
    "dev/lint",
    "dev/test",
    "dev/drill",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", files())
def test_a_file_holds_nothing_foreign(path: str, kind: str) -> None:
    assert lines_with("|".join(KINDS[kind]).replace(" ", ""), [path]) == []


@pytest.mark.parametrize("path", below(*JUDGES))
def test_nothing_that_judges_passes_over_a_failure(path: str) -> None:
    assert lines_with(r"\|\|\s*(true|:)(\s|$|;)|continue-on-error|^\t-", [path]) == []
