"""What counting for /metrics costs a request: the product with it and without it, in many short turns.

A few percent are less than what a shared machine's mood makes. So the two are measured in pairs, one right
after the other, in turn the one and the other first, and of the pairs' ratios the median counts. What that
cannot tell apart, the CPU of one thread within the application does (bench/counting.py).
"""

import json
import statistics

from bench.drivers import Application, Sample
from bench.project import Project, say
from bench.report import Row

PAIRS, SECONDS = 24, 2
#: Bounds of what is spent for counting, as a part of what a request costs without it.
MORE_CPU, FEWER_REQUESTS = 0.03, 0.03


def measure(project: Project, path: str, headers: dict[str, str]) -> list[Row]:
    say(f"measuring what counting costs GET {path}")
    counting, silent = (Application(project, each, headers) for each in ("api", "uncounted"))
    for each in (counting, silent):
        each.ask(path, SECONDS)
    pairs = [_pair(counting, silent, path, counting_first=bool(turn % 2)) for turn in range(PAIRS)]
    command = ("python", "-m", "bench.counting", path, json.dumps(headers))
    nanoseconds = json.loads(project.compose("exec", "-T", "uncounted", *command))
    return _rows(f"GET {path}", pairs, **nanoseconds)


def _pair(
    counting: Application, silent: Application, path: str, *, counting_first: bool
) -> tuple[Sample, Sample]:
    if counting_first:
        first = counting.ask(path, SECONDS)
        return first, silent.ask(path, SECONDS)
    second = silent.ask(path, SECONDS)
    return counting.ask(path, SECONDS), second


def _rows(title: str, pairs: list[tuple[Sample, Sample]], alone: float, within: float) -> list[Row]:
    cpu = [counting.cpu / silent.cpu - 1 for counting, silent in pairs]
    rate = [1 - counting.rate / silent.rate for counting, silent in pairs]
    without = statistics.median(silent.cpu for _, silent in pairs)
    low, middle, high = statistics.quantiles(cpu, n=4)
    return [
        Row(f"{title}: CPU per request without counting", without, "ms"),
        Row(f"{title}: counting adds to it", 100 * middle, "%", 100 * MORE_CPU),
        Row(f"{title}: the same, lower quartile of the pairs", 100 * low, "%"),
        Row(f"{title}: the same, upper quartile of the pairs", 100 * high, "%"),
        Row(
            f"{title}: counting takes from the requests/s",
            100 * statistics.median(rate),
            "%",
            100 * FEWER_REQUESTS,
        ),
        Row("counting one request, in a loop", alone, "ns"),
        Row("counting one request, within the application", within, "ns"),
        Row(f"{title}: that, of the CPU above", within / without / 1e4, "%", 100 * MORE_CPU),
    ]
