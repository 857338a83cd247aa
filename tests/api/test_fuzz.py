"""Schemathesis reads the description and tries all of it, and much that is not: nothing may surprise."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from tests.api.conftest import Api, Viewer
from tests.api.test_visibility import join

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

#: It takes a 404 on adding media to a library that was just made for that library's; here it is the media's.
NOT_OURS = "ensure_resource_availability"


def schemathesis(api: Api, viewer: Viewer, folder: Path, configuration: str) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(configuration)
    headers = [part for name, value in api.headers(viewer.id).items() for part in ("-H", f"{name}: {value}")]
    options = ["--exclude-checks", NOT_OURS, "--max-examples", "30", "--no-color", "--warnings", "off"]
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
    done = subprocess.run(
        [*command, f"{api.url}/openapi.json", *headers, *options],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout, done.stdout


def test_with_ids_that_it_makes_up(api: Api, viewer: Viewer, tmp_path: Path) -> None:
    schemathesis(api, viewer, tmp_path, "")


def test_with_ids_that_are_there(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID], tmp_path: Path
) -> None:
    """A library that cannot be deleted, and media that stay readable when they are taken out of it."""
    shared, other, media = viewer.new_library(), api.user(), new_media()
    assert other.default
    join(rows, shared, other.id)
    viewer.add(shared, media)
    ids = f'"path.library_id" = "{viewer.default}"\n"path.media_id" = "{media}"\n'
    schemathesis(api, viewer, tmp_path, f"[parameters]\n{ids}")
    assert viewer.reads(media)
