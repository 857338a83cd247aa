"""`make bench-stack`: how long the stack takes to start and to rebuild, what it weighs, what its probes cost.

It runs on a copy of this tree, as a project of its own, and needs no stack of yours to be down. A target that
is missed is a row that says so, not an exit code: docs/benchmarks.md tells why.
"""

import json
import re
import statistics
import time
import urllib.request
from collections.abc import Callable

from bench import processes
from bench.project import Project, end_on_signals, run, say, temporary_project
from bench.report import Row, engine, machine, publish

SERVICES = ("postgres", "redis", "api", "worker")
UP = ("up", "--detach", "--wait")
#: Of everything that is timed, the median counts.
ROUNDS = 3
PROBE_RUNS = 50
#: Seconds over which the probes' CPU is measured, once with and once without them.
WINDOW = 60

#: Seconds after a change of one line: rebuild and restart, build alone. The slow driver is slow in exporting.
SLOW_DRIVER, SLOW_TARGETS, TARGETS = "fuse-overlayfs", (18, 9), (5, 3)

#: `times` is the one clock that bash, dash and busybox share; its second line is what the children used.
PROBE_LOOP = 'n=$1; shift; i=0; while [ $i -lt $n ]; do "$@" >/dev/null || exit 1; i=$((i+1)); done; times'

#: Wall time of both in turn, so that a change of the machine's mood meets both.
MIGRATOR_LOOP = """
exec 2>&1
TIMEFORMAT='took %R'
for i in 1 2 3 4 5; do
  time python -m services.migrator.main upgrade >/dev/null 2>&1 || exit 1
  time python -c 'import services.migrator.main' >/dev/null 2>&1 || exit 1
done
"""


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(ROUNDS))


def starts(project: Project) -> list[Row]:
    """Containers, networks and volume gone, images there; then once more with all of it there."""

    def cold() -> float:
        project.compose("down", "--volumes")
        return project.timed(*UP)

    say("starting it cold, and again with nothing to do")
    project.compose("build", "--quiet")
    return [
        Row("cold up --wait, images built, to all healthy", _median(cold), "s", 10),
        Row("up --wait with nothing to do", _median(lambda: project.timed(*UP)), "s", 3),
    ]


class Edits:
    """Changes one line of Python in the copy, each time to something new."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._file = project.folder / "shared" / "nexus" / "__init__.py"
        self._version = ""

    def make(self) -> None:
        # Never seen before: the engine remembers the layers of the last benchmark.
        self._version = f"0.0.{time.time_ns()}"
        line = f'__version__ = "{self._version}"'
        self._file.write_text(re.sub(r"(?m)^__version__ = .*$", line, self._file.read_text()))

    def check(self) -> None:
        """The API must say the new version, or the figure would be that of a rebuild that did nothing."""
        url = f"http://127.0.0.1:{self._project.ports['API_PORT']}/openapi.json"
        with urllib.request.urlopen(url, timeout=5) as answer:
            version = json.load(answer)["info"]["version"]
        if version != self._version:
            raise SystemExit(f"nexus: the API runs version {version}, not the edited one")


def rebuilds(project: Project) -> list[Row]:
    """The edited file is in every image, so every one is rebuilt and every container of ours replaced."""
    edits = Edits(project)

    def build() -> float:
        edits.make()
        return project.timed("build", "--quiet")

    def build_and_restart() -> float:
        edits.make()
        seconds = project.timed(*UP)
        edits.check()
        return seconds

    say("changing a line of Python")
    driver = engine("{{.Driver}}")
    whole, alone = SLOW_TARGETS if driver == SLOW_DRIVER else TARGETS
    return [
        Row(f"one line changed: build alone ({driver})", _median(build), "s", alone),
        Row(f"one line changed: build and restart ({driver})", _median(build_and_restart), "s", whole),
    ]


def migrator(project: Project) -> list[Row]:
    """Both inside one container, so that starting the container is in neither."""
    say("running the migrator at head")
    output = project.compose("run", "--rm", "-T", "--entrypoint", "bash", "migrator", "-c", MIGRATOR_LOOP)
    seconds = [float(value) for value in re.findall(r"took ([\d.]+)", output)]
    at_head, imports = statistics.median(seconds[0::2]), statistics.median(seconds[1::2])
    return [
        Row("migrator at head, nothing to do", at_head, "s"),
        Row("interpreter and the migrator's imports, nothing else", imports, "s"),
        Row("migrator at head against these imports", at_head / imports, "times", 2),
    ]


def _layers(image: str) -> int:
    """Bytes of all layers. The engine's total is no measure: newer ones count compressed layers in."""
    sizes = run("docker", "history", "--human=false", "--format", "{{.Size}}", image)
    return sum(int(size) for size in sizes.split())


def sizes(project: Project) -> list[Row]:
    rendered = json.loads(project.compose("config", "--format", "json"))["services"]
    rows = []
    for service, target in (("api", 115), ("worker", 80)):
        base = rendered[service]["build"]["args"]["PYTHON_IMAGE"]
        more = _layers(f"{project.name}-{service}") - _layers(base)
        rows.append(Row(f"image of {service} above its base", more / 1e6, "MB", target))
    return rows


def memory(project: Project) -> list[Row]:
    """As the engine counts: without the file cache that it could give back."""
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    rows = []
    for service in SERVICES:
        command = ("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", project.container(service))
        used = re.match(r"([\d.]+)(\w+)", run(*command))
        if used is None:
            raise SystemExit("nexus: docker stats does not tell the memory")
        rows.append(Row(f"memory at rest: {service}", float(used[1]) * units[used[2]] / 1e6, "MB"))
    return rows


def _probe_milliseconds(container: str) -> float:
    test = json.loads(run("docker", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", container))
    command = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
    output = run("docker", "exec", container, "sh", "-c", PROBE_LOOP, "sh", str(PROBE_RUNS), *command)
    children = output.splitlines()[1]
    minutes = re.findall(r"(\d+)m([\d.]+)s", children)
    return sum(int(m) * 60 + float(s) for m, s in minutes) * 1000 / PROBE_RUNS


def probes(project: Project) -> list[Row]:
    """The probe's own process with its children, from inside the container: user and system time."""
    say("running each probe on its own")
    return [
        Row(f"CPU of one probe: {service}", _probe_milliseconds(project.container(service)), "ms", 20)
        for service in SERVICES
    ]


def _at_rest(project: Project, interval: str) -> processes.Cpu | None:
    """CPU in a minute of the stack at rest, probed at this interval; None where it cannot be seen."""
    project.compose("up", "--detach", HEALTH_INTERVAL=interval)
    containers = [project.container(service) for service in SERVICES]
    if not processes.visible(containers):
        return None
    time.sleep(10)  # until all of it has started
    say(f"measuring the stack at rest for {WINDOW} s, probes every {interval}")
    return processes.cpu_per_minute(containers, WINDOW)


def probes_per_minute(project: Project) -> list[Row]:
    """All probes with the engine's share: the same stack at rest with and without them."""
    probed, silent = _at_rest(project, "3s"), _at_rest(project, "1h")
    if probed is None or silent is None:
        say("the engine's processes cannot be seen from here: no figure for all probes in a minute")
        return []
    own, daemons = probed.own - silent.own, probed.daemons - silent.daemons
    return [
        Row("CPU of all probes in a minute: probes, runc, shims", own, "s"),
        Row("the same with dockerd and containerd", own + daemons, "s"),
        Row("the same as a share of one core", (own + daemons) / 60 * 100, "%"),
    ]


def main() -> None:
    end_on_signals()
    where = machine()
    with temporary_project("nexus-bench") as project:
        rows = starts(project) + rebuilds(project) + migrator(project) + sizes(project)
        rows += probes(project) + memory(project) + probes_per_minute(project)
    publish("stack", rows, where)


if __name__ == "__main__":
    main()
