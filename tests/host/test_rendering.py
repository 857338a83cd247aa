"""What compose makes of compose.yml and compose.ci.yml: the promises that the rendered files show."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import PORT_VARIABLES
from tests.host.support import CI_FILES, Rendered, rendered

pytestmark = pytest.mark.host

STAYING = {"postgres", "redis", "api", "worker"}
DEFAULT_STACK = STAYING | {"migrator"}
#: By profile, what starts with it only.
OPTIONAL = {"test": "tests", "backup": "backup"}
ALL = DEFAULT_STACK | set(OPTIONAL.values())
BUILT = {"api", "worker", "migrator", "tests"}
PEERS_OF_DATA = BUILT | {"backup"}
DEFAULT_PORTS = {"api": "8000", "postgres": "5432", "redis": "6379"}

FILES = {"compose.yml": (), "compose.ci.yml": CI_FILES}
PROFILES = {
    "no profile": (),
    **{name: ("--profile", name) for name in OPTIONAL},
    "every profile": ("--profile", "*"),
}


@cache
def configuration(checkout: Path, files: str, profile: str) -> Rendered:
    return rendered(checkout, *FILES[files], *PROFILES[profile])


@pytest.fixture(params=FILES)
def files(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(checkout: Path, files: str) -> Rendered:
    """Everything: both files with every profile."""
    return configuration(checkout, files, "every profile")


@pytest.fixture
def services(config: Rendered) -> dict[str, Any]:
    found: dict[str, Any] = config["services"]
    return found


@pytest.fixture
def default(checkout: Path) -> dict[str, Any]:
    """The services of compose.yml alone."""
    found: dict[str, Any] = configuration(checkout, "compose.yml", "every profile")["services"]
    return found


@pytest.fixture
def disposable(checkout: Path) -> Rendered:
    return configuration(checkout, "compose.ci.yml", "every profile")


@pytest.mark.parametrize("profile", PROFILES)
def test_renders_without_env_file(checkout: Path, files: str, profile: str) -> None:
    assert not (checkout / ".env").exists()
    config = configuration(checkout, files, profile)
    wanted = {"no profile": DEFAULT_STACK, "every profile": ALL}
    wanted |= {name: DEFAULT_STACK | {service} for name, service in OPTIONAL.items()}
    assert set(config["services"]) == wanted[profile]
    assert config["name"] == ("nexus-ci" if files == "compose.ci.yml" else "nexus")


def test_there_are_no_other_profiles(services: dict[str, Any]) -> None:
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        service: [profile] for profile, service in OPTIONAL.items()
    }


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service.get("read_only") is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert 0 < service["pids_limit"] <= 1024, name
        assert 0 < int(service["mem_limit"]) <= 2 << 30, name


def test_nothing_takes_back_what_hardening_gives(services: dict[str, Any]) -> None:
    weakening = {
        "cap_add",
        "privileged",
        "network_mode",
        "pid",
        "ipc",
        "userns_mode",
        "devices",
        "group_add",
        "extra_hosts",
    }
    found = {name: set(service) & weakening for name, service in services.items()}
    # They read the file with the password of Postgres, which belongs to the group of the other three.
    for name in ("postgres", "backup"):
        assert services[name]["group_add"] == ["10001"]
        found[name].discard("group_add")
    assert found == {name: set() for name in services}


def test_every_service_has_a_user_that_is_not_root(files: str, services: dict[str, Any]) -> None:
    users = {name: service.get("user") for name, service in services.items()}
    # The one stated exception: the socket belongs to root. It has no capabilities either (tested above).
    tests = "0:0" if files == "compose.ci.yml" else "10001:10001"
    own = "10001:10001"
    assert users == {
        "postgres": "postgres", "redis": "redis", "migrator": own, "api": own, "worker": own, "tests": tests,
        "backup": "postgres",
    }  # fmt: skip


def test_logs_are_bounded(services: dict[str, Any]) -> None:
    # A dump goes through its output: the engine would keep everybody's data, if only a part of them.
    assert services["backup"]["logging"] == {"driver": "none"}
    for name in services.keys() - {"backup"}:
        service = services[name]
        options = service["logging"]["options"]
        assert service["logging"]["driver"] == "json-file", name
        assert options["max-size"].endswith("m"), name
        assert int(options["max-file"]) * int(options["max-size"][:-1]) <= 100, name


def _binds(services: dict[str, Any]) -> dict[str, list[str]]:
    mounts = {
        name: [v for v in service.get("volumes", []) if v["type"] != "volume"]
        for name, service in services.items()
    }
    return {name: [v["source"] for v in found] for name, found in mounts.items() if found}


def test_no_bind_mounts_but_the_socket_in_ci(files: str, config: Rendered) -> None:
    assert _binds(config["services"]) == (
        {"tests": ["/var/run/docker.sock"]} if files == "compose.ci.yml" else {}
    )
    # Compose mounts these from the host as well: nothing, until somebody names a file.
    assert {each["file"] for each in config["secrets"].values()} == {"/dev/null"}
    assert not config.get("configs")


def test_restart_policies(services: dict[str, Any]) -> None:
    assert {name: service["restart"] for name, service in services.items()} == {
        **dict.fromkeys(STAYING, "unless-stopped"), "migrator": "no", "tests": "no", "backup": "no"
    }  # fmt: skip


def test_what_stays_has_a_stop_time_and_a_health_check(services: dict[str, Any]) -> None:
    for name in STAYING:
        assert services[name].get("stop_grace_period"), name
        check = services[name]["healthcheck"]
        assert check["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert "python" not in " ".join(check["test"]), (
            f"{name}: an interpreter's start costs more than 20 ms"
        )
        assert check["timeout"] and check["retries"], name  # noqa: PT018


def test_no_start_interval(services: dict[str, Any]) -> None:
    """Engines before 25 refuse to create a container that has one."""
    assert not [name for name in services if "start_interval" in services[name].get("healthcheck", {})]


def test_health_interval_is_a_variable(checkout: Path, default: dict[str, Any]) -> None:
    changed = rendered(checkout, HEALTH_INTERVAL="7s")["services"]
    assert {name: default[name]["healthcheck"]["interval"] for name in STAYING} == dict.fromkeys(
        STAYING, "3s"
    )
    assert {name: changed[name]["healthcheck"]["interval"] for name in STAYING} == dict.fromkeys(
        STAYING, "7s"
    )


def _published(services: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    ports = {name: service.get("ports", []) for name, service in services.items()}
    return {name: [(p["host_ip"], p["published"]) for p in found] for name, found in ports.items() if found}


def test_ports_are_on_loopback_only(default: dict[str, Any]) -> None:
    assert _published(default) == {name: [("127.0.0.1", port)] for name, port in DEFAULT_PORTS.items()}


def test_each_port_has_a_variable(checkout: Path) -> None:
    variables = {variable: str(20000 + n) for n, variable in enumerate(PORT_VARIABLES.values())}
    published = _published(rendered(checkout, **variables)["services"])
    assert published == {name: [("127.0.0.1", variables[v])] for name, v in PORT_VARIABLES.items()}


def test_ci_publishes_nothing_and_has_no_way_out(disposable: Rendered) -> None:
    assert _published(disposable["services"]) == {}
    assert disposable["networks"]["peers"]["internal"] is True


def test_data_are_reachable_only_by_their_users(services: dict[str, Any]) -> None:
    members = {name: set(service["networks"]) for name, service in services.items()}
    assert members["postgres"] == members["redis"] == {"peers"}
    assert {name for name, networks in members.items() if "peers" in networks} == PEERS_OF_DATA | {
        "postgres",
        "redis",
    }


def test_every_one_shot_is_waited_for(services: dict[str, Any]) -> None:
    """Otherwise `up --wait` takes its end for a failure."""
    shots = {name for name, s in services.items() if s["restart"] == "no" and not s.get("profiles")}
    waited_for = {
        peer
        for service in services.values()
        for peer, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert shots == waited_for == {"migrator"}


@pytest.mark.parametrize("name", ["api", "worker"])
def test_product_waits_for_the_migrator(services: dict[str, Any], name: str) -> None:
    assert services[name]["depends_on"]["migrator"]["condition"] == "service_completed_successfully"


def test_the_tools_of_a_backup_are_those_of_the_server(services: dict[str, Any]) -> None:
    backup, postgres = services["backup"], services["postgres"]
    assert backup["image"] == postgres["image"]
    # Nothing of it stays: neither on the data volume nor on one that the image would make at each run.
    assert not backup.get("volumes")
    assert any(mount.startswith("/var/lib/postgresql/data:") for mount in backup["tmpfs"])
    for name in ("DATABASE_URL", "DATABASE_PASSWORD", "MIGRATOR_WAIT_SECONDS"):
        assert backup["environment"][name] == services["migrator"]["environment"][name]


def test_what_is_built_here_is_built_every_time(services: dict[str, Any]) -> None:
    """Otherwise `up` and `run` would execute yesterday's code."""
    built = {name for name, service in services.items() if "build" in service}
    assert built == BUILT
    assert {name: services[name].get("pull_policy") for name in built} == dict.fromkeys(built, "build")


def test_no_two_services_watch_one_path(default: dict[str, Any]) -> None:
    """Compose before 2.32 replaces both in the handler of each, and ends with a name conflict."""
    watched = [
        rule["path"] for service in default.values() for rule in service.get("develop", {}).get("watch", [])
    ]
    assert len(watched) == len(set(watched)) > 0


def test_cluster_lies_below_its_mount(services: dict[str, Any]) -> None:
    postgres = services["postgres"]
    (mount,) = postgres["volumes"]
    assert (mount["type"], mount["source"]) == ("volume", "postgres-data")
    assert Path(mount["target"]) in Path(postgres["environment"]["PGDATA"]).parents


def test_ci_does_not_trade_durability_for_speed(disposable: Rendered) -> None:
    command = " ".join(disposable["services"]["postgres"].get("command") or [])
    assert not [word for word in ("fsync", "synchronous_commit", "full_page_writes") if word in command]
