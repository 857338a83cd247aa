"""The picture of the stack is up to date, shows what compose renders, and is the same whoever draws it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dev.pictures.stack import diagram
from tests.checkout import PORT_VARIABLES
from tests.host.support import Result, clean_environment, edited, rendered, run

pytestmark = pytest.mark.host

PAGES = ("README.md", "ARCHITECTURE.md")


def draw(folder: Path, **variables: str) -> Result:
    environment = clean_environment() | variables
    return run(sys.executable, "-m", "dev.pictures", cwd=folder, env=environment, check=False)


def texts(folder: Path) -> list[str]:
    return [(folder / page).read_text() for page in PAGES]


def test_the_pages_are_as_they_would_be_drawn_whoever_draws_them(copy: Path) -> None:
    before = texts(copy)
    (copy / ".env").write_text("POSTGRES_PORT=5999\nREDIS_IMAGE=other\n")
    ports = {name: str(20000 + n) for n, name in enumerate(PORT_VARIABLES.values())}
    result = draw(copy, COMPOSE_PROFILES="test", COMPOSE_FILE="compose.yml:compose.ci.yml", **ports)
    assert result.stdout == "nexus: README.md: as it was\nnexus: ARCHITECTURE.md: as it was\n", (
        "make pictures"
    )
    assert texts(copy) == before


def shown(services: dict[str, Any]) -> set[str]:
    """What has to be in the picture: services, their images, what waits for what, ports, volumes."""
    arrows = {"service_started": "started", "service_completed_successfully": "ended well"}
    lines = set()
    for name, service in services.items():
        what = service.get("image") or f"of {service['build']['dockerfile']}"
        once = "<br/>runs once" * (service["restart"] == "no")
        lines.add(f'{name}["<b>{name}</b><br/>{what}{once}"]')
        lines |= {
            f"{peer} -->|{arrows[how['condition']]}| {name}"
            for peer, how in service.get("depends_on", {}).items()
        }
        lines |= {
            f'port{p["published"]}(["127.0.0.1:{p["published"]}"]) -.-> {name}'
            for p in service.get("ports", [])
        }
        lines |= {f'{name} === {v["source"]}[("{v["source"]}")]' for v in service.get("volumes", [])}
    return lines


def test_everything_of_the_stack_is_shown_in_its_networks(checkout: Path) -> None:
    configuration = rendered(checkout, PYTHON_IMAGE="", POSTGRES_IMAGE="", REDIS_IMAGE="")
    services = configuration["services"]
    picture = diagram(configuration)
    lines = {line.strip() for line in picture.splitlines()}
    boxes = dict(re.findall(r'(?ms)^    subgraph n\d+\["networks? ([^"]+)"\]\n(.*?)^    end$', picture))
    assert lines - {"flowchart LR", "end"} - {
        line for line in lines if line.startswith("subgraph ")
    } == shown(services)
    found = {name: title for title, inside in boxes.items() for name in re.findall(r"(?m)^ +(\w+)\[", inside)}
    assert found == {name: " and ".join(sorted(service["networks"])) for name, service in services.items()}
    for page in PAGES:
        assert (checkout / page).read_text().count(f"```mermaid\n{picture}\n```\n") == 1


def test_another_stack_is_another_picture(copy: Path) -> None:
    with (
        edited(copy / "compose.yml", 'tmpfs: ["/data:mode=1777,size=64m"]', "volumes: [queue:/data]"),
        edited(copy / "compose.yml", "  postgres-data: {}\n", "  postgres-data: {}\n  queue: {}\n"),
    ):
        assert draw(copy).stdout == "nexus: README.md: drawn anew\nnexus: ARCHITECTURE.md: drawn anew\n"
    assert all('\n    redis === queue[("queue")]\n' in text for text in texts(copy))


def test_a_page_without_its_mark_is_named_and_nothing_is_written(copy: Path) -> None:
    readme = copy / "README.md"
    readme.write_text(readme.read_text().replace("<!-- end of the picture -->\n", ""))
    before = texts(copy)
    result = draw(copy)
    assert result.returncode == 1
    assert result.stderr == "nexus: README.md has lost the marks of its picture: git diff README.md\n"
    assert texts(copy) == before


def test_a_compose_file_that_cannot_be_read_is_said_in_one_line(copy: Path) -> None:
    (copy / "compose.yml").write_text("services: [\n")
    before = texts(copy)
    result = draw(copy)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("nexus: compose cannot render compose.yml: ")
    assert texts(copy) == before
