"""What puts load on an application, or on Postgres alone, and what comes of it."""

import json
import math
import re
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from docker import APIClient

from bench.project import Project, run

CONNECTIONS = 32


class Sample(NamedTuple):
    """What one run of a driver measured. NaN is what it cannot see."""

    #: Requests in a second.
    rate: float
    #: Milliseconds within which 99 % of the requests were answered.
    p99: float = math.nan
    #: Milliseconds of CPU that the application's container used for each request.
    cpu: float = math.nan


def median(samples: Sequence[Sample]) -> Sample:
    """Of each figure."""
    return Sample(*map(statistics.median, zip(*samples, strict=True)))


class Application:
    """A service of HTTP, asked by wrk from another container."""

    def __init__(self, project: Project, service: str, headers: dict[str, str]) -> None:
        self._project, self._service = project, service
        self._headers = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        self._container = project.container(service)
        # The SDK knows nothing of docker's contexts, and the command does.
        address = run("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
        self._engine = APIClient(base_url=address)

    def ask(self, path: str, seconds: int) -> Sample:
        """Ask for one path for so long, over CONNECTIONS connections, each with one request at a time."""
        before = self._cpu_seconds()
        answers = self._wrk(path, seconds)
        used = self._cpu_seconds() - before
        if answers["refused"] or answers["broken"] or not answers["requests"]:
            raise SystemExit(f"nexus: {self._service} did not answer every GET {path} with 200: {answers}")
        requests = answers["requests"]
        return Sample(requests / answers["duration"] * 1e6, answers["p99"] / 1e3, used / requests * 1e3)

    def _wrk(self, path: str, seconds: int) -> dict[str, float]:
        command = ("wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s")
        script = ("--latency", "--script", "bench/wrk.lua", *self._headers)
        url = f"http://{self._service}:8000{path}"
        output = self._project.compose("exec", "-T", "load", *command, *script, url)
        answers: dict[str, float] = json.loads(output.splitlines()[-1])
        return answers

    def _cpu_seconds(self) -> float:
        """Of all that ever ran in the container, as its cgroup counts."""
        stats = self._engine.stats(self._container, stream=False, one_shot=True)
        return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def pgbench(project: Project, script: str, seconds: int) -> Sample:
    """How often Postgres answers one statement, asked over as many connections by next to nothing."""
    options = f"--no-vacuum --client {CONNECTIONS} --jobs 1 --protocol prepared --time {seconds} --file -"
    # Debian has it beside the PATH.
    command = f"PATH=$PATH:/usr/lib/postgresql/15/bin exec pgbench {options}"
    output = project.compose("exec", "-T", "pgbench", "sh", "-c", command, stdin=script)
    rate = re.search(r"(?m)^tps = ([\d.]+)", output)
    if rate is None or "number of failed transactions: 0 " not in output:
        raise SystemExit(f"nexus: pgbench did not do well:\n{output}")
    return Sample(float(rate[1]))
