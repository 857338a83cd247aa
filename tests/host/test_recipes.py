"""Each recipe of CONTRIBUTING works: applied to a copy of the tree, built, migrated, run for real.

Alone, each leaves a tree that keeps this repository's own rules. All four together are one stack, which does
what they are about, and whose own tests, linters and types are content with them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.checkout import REPO, checkout_copy
from tests.host.support import Stack, clean_environment, run, stack_of
from tests.repo.test_recipe_patches import ORDER
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(1800)]

TOOLS = Path(sys.executable).parent
#: What only the test image has: shellcheck, and the tools beside it.
IN_THE_IMAGE = ("tests/repo/test_lint_scripts.py", "tests/repo/test_workflow.py")
SYSTEM_USER = "00000000-0000-0000-0000-000000000000"
#: Seconds since a token has expired that is good only by the setting: its default would refuse it.
LEEWAY, EXPIRED = 300, 200


def in_tree(tree: Path, *command: str) -> str:
    """What a command of whoever develops in this tree prints, with the tools of this environment."""
    environment = clean_environment() | {
        "PYTHONPATH": f"{tree}/shared:{tree}",
        "MYPYPATH": "shared",
        "UV": str(TOOLS / "uv"),
    }
    return run(*command, cwd=tree, env=environment, timeout=600).stdout


def patched(target: Path, *patches: str) -> Path:
    """A copy of the tree with these recipes, as CONTRIBUTING says to apply them."""
    tree = checkout_copy(target)
    in_tree(tree, "git", "init", "--quiet")
    for patch in patches:
        in_tree(tree, "git", "apply", "-C1", patch)
    if any("pyproject.toml" in (tree / patch).read_text() for patch in patches):
        in_tree(tree, "dev/lock", "--add")
    return tree


@pytest.mark.parametrize("patch", ORDER)
def test_alone_it_keeps_the_rules_of_the_repository(patch: str, tmp_path: Path) -> None:
    tree = patched(tmp_path / "nexus", patch)
    ruff = str(TOOLS / "ruff")
    in_tree(tree, ruff, "check", "--no-cache", ".")
    in_tree(tree, ruff, "format", "--no-cache", "--check", ".")
    in_tree(tree, str(TOOLS / "mypy"), "--cache-dir", str(tmp_path / "mypy"))
    left_out = [f"--ignore={path}" for path in IN_THE_IMAGE]
    rules = ("pytest", "-q", "-p", "no:cacheprovider", "tests/repo", *left_out)
    assert " passed" in in_tree(tree, sys.executable, "-m", *rules)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four, at revision 0002 and with rows."""
    tree = patched(tmp_path_factory.mktemp("recipes") / "nexus", *ORDER)
    with stack_of(tree, AUTH_LEEWAY_SECONDS=str(LEEWAY)) as stack:
        stack.migrator("upgrade", "0002")
        stack.sql(
            "INSERT INTO media (kind, title, created_by_user_id) "
            f"SELECT 'epub', 'Volume ' || n, '{SYSTEM_USER}' FROM generate_series(1, 300) n"
        )
        yield stack


ROWS = "SELECT md5(string_agg(m::text, ' ' ORDER BY id)) FROM media m"
COLUMNS = (
    "SELECT count(*) FROM information_schema.columns WHERE (table_name, column_name) = ('media', 'language')"
)


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    """The same, migrated and up. The column is looked at on the way."""
    before = stack.sql(ROWS)
    assert stack.sql(COLUMNS) == "0"
    stack.up()
    assert stack.sql(COLUMNS) == "1"
    stack.down()
    stack.migrator("downgrade", "0002")
    assert stack.sql(COLUMNS) == "0"
    assert stack.sql(ROWS) == before
    stack.up()
    return stack


def client(stack: Stack, user: str, lifetime: int) -> httpx2.Client:
    """Somebody with a token that is good for so many seconds, minted in the container."""
    script = (
        "from uuid import UUID; from nexus.auth.local import LocalIssuer; from nexus.config import settings;"
        f"print(LocalIssuer(settings).mint(UUID('{user}'), {lifetime}))"
    )
    token = stack.shell("api", f'python -c "{script}"').strip()
    headers = {"X-Nexus-Internal": "local-dev-secret", "Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{stack.ports['api']}"
    return httpx2.Client(base_url=url, headers=headers, timeout=20, trust_env=False)


def test_the_column_is_there_and_checked(running: Stack) -> None:
    assert running.await_ready().json()["data"]["checks"]["schema"]["detail"] == "revision 0003, wanted 0003"
    assert running.migrator("check").stdout == ""
    running.sql("UPDATE media SET language = 'pt-BR'")
    assert running.sql("SELECT DISTINCT language FROM media") == "pt-BR"


def test_the_route_answers(running: Stack) -> None:
    with client(running, str(uuid4()), 60) as http:
        (library,) = http.get("/libraries").json()["data"]
        assert http.get(f"/libraries/{library['id']}").json() == {"data": library}
        absent = http.get(f"/libraries/{uuid4()}")
        assert (absent.status_code, absent.json()["error"]["code"]) == (404, "E_LIBRARY_NOT_FOUND")


def test_the_setting_is_read(running: Stack) -> None:
    user = str(uuid4())
    with client(running, user, -EXPIRED) as http:
        assert http.get("/me").json()["data"]["user_id"] == user
    with client(running, user, -LEEWAY - 60) as http:
        assert "expired" in http.get("/me").json()["error"]["message"]


def test_what_a_request_puts_into_the_queue_the_worker_does(running: Stack) -> None:
    media = running.sql("SELECT id FROM media ORDER BY id LIMIT 1")
    with client(running, str(uuid4()), 600) as http:
        library = http.get("/me").json()["data"]["default_library_id"]
        assert http.post(f"/libraries/{library}/media", json={"media_id": media}).status_code == 201
        assert http.post(f"/media/{media}/processing").status_code == 202

        def is_ready() -> bool:
            return bool(http.get(f"/media/{media}").json()["data"]["processing_status"] == "ready")

        wait_until("the worker has done it", is_ready, seconds=60)
    assert running.sql(f"SELECT processing_attempts FROM media WHERE id = '{media}'") == "1"
    assert running.sql("SELECT count(*) FROM media WHERE processing_status <> 'pending'") == "1"


#: The rooms that the recipes touch: their own tests, and those whose rules they must keep.
ROOMS = (
    *("tests/repo", "tests/unit", "tests/migrations", "tests/worker"),
    *(f"tests/api/test_{name}.py" for name in ("answers", "identity", "libraries", "openapi", "processing")),
)
TESTS = ("pytest", "-n", "2", "--dist", "loadfile", "-m", "not docker and not host and not long", *ROOMS)


@pytest.mark.parametrize(
    "command", [TESTS, ("make", "lint"), ("make", "types")], ids=["tests", "lint", "types"]
)
def test_whoever_follows_them_has_a_tree_without_a_fault(command: tuple[str, ...], running: Stack) -> None:
    """In the test image: tests, what the recipes add included, and both checks."""
    run(
        *("docker", "compose", "--progress", "quiet", "--profile", "test"),
        *("run", "--rm", "-T", "tests", *command),
        cwd=running.directory,
        env=running.environment,
        timeout=1500,
    )


def test_the_tree_itself_has_none_of_it() -> None:
    assert not (REPO / "shared/nexus/tasks.py").exists()
    assert not (REPO / "db/schema/0003.txt").exists()
