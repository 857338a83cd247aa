"""Who may import whom. ARCHITECTURE.md says why."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from tests.repo.tree import PRODUCT, ROOT, below, calls, imports, imports_of, syntax, text

WEB = ("fastapi", "starlette", "gunicorn", "uvicorn", "uvicorn_worker", "prometheus_client")
QUEUE = ("celery", "kombu", "billiard")

#: Enough of an environment for a process to load its settings. Nobody is connected to.
ENVIRONMENT = {
    "NEXUS_ENV": "test",
    "NEXUS_INTERNAL_SECRET": "secret",
    "DATABASE_URL": "postgresql+psycopg://nobody:known-to-nobody@localhost:1/nothing",
    "REDIS_URL": "redis://localhost:1/0",
    "CELERY_BROKER_URL": "redis://localhost:1/0",
    "CELERY_RESULT_BACKEND": "redis://localhost:1/0",
}


def in_new_process(program: str) -> object:
    """What a program prints as JSON, in an interpreter that has imported nothing yet."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": f"{ROOT}/shared:{ROOT}"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def forbidden(path: str) -> tuple[str, ...]:
    """The packages that a file of shared/nexus may not import."""
    never: tuple[str, ...] = ("services", "bench", "tests")
    if not path.startswith("shared/nexus/api/"):
        never += (*WEB, "nexus.api")
    if path not in ("shared/nexus/worker.py", "shared/nexus/consumer.py"):
        never += (*QUEUE, "nexus.worker", "nexus.consumer")
    else:
        never += ("alembic", "nexus.migrator", "nexus.db.migrations")
    return never


@pytest.mark.parametrize("path", below("shared/nexus/", suffix=".py"))
def test_a_module_imports_only_what_its_room_allows(path: str) -> None:
    assert imports_of(path, *forbidden(path)) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("services.api.main", QUEUE),
        ("services.worker", (*WEB, "alembic")),
        ("services.migrator.main", (*WEB, *QUEUE)),
    ],
)
def test_a_process_loads_nothing_that_its_image_does_not_have(module: str, absent: tuple[str, ...]) -> None:
    loaded = in_new_process(f"import {module}, json, sys; print(json.dumps(list(sys.modules)))")
    assert isinstance(loaded, list)
    assert module in loaded
    assert set(loaded) & set(absent) == set()


#: Where SQLAlchemy builds every statement.
STATEMENTS = ("access", "closure", "libraries", "media", "viewers")


@pytest.mark.parametrize(
    "path", [*(f"shared/nexus/{name}.py" for name in STATEMENTS), *below("shared/nexus/api/", suffix=".py")]
)
def test_no_sql_is_written_as_text(path: str) -> None:
    raw = {"sqlalchemy.text", "sqlalchemy.literal_column", "sqlalchemy.TextClause"}
    assert imports(path) & raw == set()
    strings = [
        node.value
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    statement = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|LOCK|BEGIN)\s", re.IGNORECASE)
    # Sentences for people may begin with such a word: "Delete a library", but then they go on in lower case.
    assert [
        each for each in strings if statement.match(each) and re.search(r"\b(FROM|INTO|SET|TABLE)\b", each)
    ] == []


@pytest.mark.parametrize("path", [f"shared/nexus/{name}.py" for name in STATEMENTS])
def test_a_use_case_knows_no_http(path: str) -> None:
    assert imports_of(path, *WEB, "http", "httpx2", "nexus.api", "nexus.auth") == []


def test_what_runs_the_reads_stays_small() -> None:
    lines = [line for line in text("shared/nexus/db/reads.py").splitlines() if line.strip()]
    assert len(lines) <= 80


@pytest.mark.parametrize("path", below("services/", suffix=".py"))
def test_a_launcher_is_short_and_holds_no_logic(path: str) -> None:
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try)
    assert [type(node).__name__ for node in ast.walk(syntax(path)) if isinstance(node, logic)] == []
    assert len(text(path).splitlines()) <= 30


def test_the_folder_db_is_no_package() -> None:
    # With an __init__.py anywhere in it, db/alembic would be found before the library of that name.
    assert [path for path in below("db/") if path.endswith("__init__.py")] == []


def test_the_worker_has_no_task_and_no_schedule_of_its_own() -> None:
    worker = in_new_process(
        "from services.worker import celery_app as app; import json;"
        "print(json.dumps([sorted(app.tasks), dict(app.conf.beat_schedule)]))"
    )
    assert isinstance(worker, list)
    tasks, schedule = worker
    assert tasks, "celery's own are always there"
    assert [name for name in tasks if not name.startswith("celery.")] == []
    assert schedule == {}


@pytest.mark.parametrize("path", below(*PRODUCT, suffix=".py"))
def test_nothing_enqueues_or_schedules(path: str) -> None:
    verbs = {"delay", "apply_async", "send_task", "shared_task", "add_periodic_task", "autodiscover_tasks"}
    assert [(name, line) for name, line in calls(path) if name in verbs] == []


@pytest.mark.parametrize("path", below(*PRODUCT, suffix=".py"))
def test_the_product_logs_and_does_not_print(path: str) -> None:
    assert [line for name, line in calls(path) if name in {"print", "breakpoint"}] == []
