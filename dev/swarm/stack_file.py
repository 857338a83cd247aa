"""`make stack-file`: the stack for `docker stack deploy`, made of what compose.yml is with this `.env`.

Reads `docker compose config --format json` on its standard input and writes YAML on its standard output. What
a swarm must not be told ends it with exit code 1 and a line for each fault; nothing is written then.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Service = dict[str, Any]

#: Image of each service that runs in the swarm; Postgres and Redis stay outside.
IMAGES = {"migrator": "api", "api": "api", "worker": "worker"}
#: What a stack file says as compose.yml does.
KEPT = (
    "cap_drop",
    "command",
    "entrypoint",
    "healthcheck",
    "init",
    "logging",
    "read_only",
    "stop_grace_period",
    "user",
)
#: Nothing orders the start in a swarm: api and worker wait so long for the migrator, seconds.
SCHEMA_WAIT = 300
#: The file of a secret that is not given.
NOTHING = "/dev/null"
#: The uid and gid of the images, to whom alone a secret is shown.
OWNER = "10001"
SECRET_MODE = 0o440

#: Settings that are secrets, and those that may hold one, with the variable of compose.yml that says it.
SECRETS = {"NEXUS_INTERNAL_SECRET": "NEXUS_INTERNAL_SECRET", "DATABASE_PASSWORD": "POSTGRES_PASSWORD"}
URLS = {
    "DATABASE_URL": "EXTERNAL_POSTGRES",
    "REDIS_URL": "EXTERNAL_REDIS",
    "CELERY_BROKER_URL": "EXTERNAL_REDIS",
    "CELERY_RESULT_BACKEND": "EXTERNAL_REDIS",
}
#: What libpq and redis-py take for one in a URL's query.
PASSWORDS = {"password", "sslpassword"}
#: The settings that say where Postgres and Redis are, the stack's name for each, and compose.yml's variables.
PEERS = {
    "DATABASE_URL": ("postgres", "EXTERNAL_POSTGRES and OWN_POSTGRES=0"),
    "REDIS_URL": ("redis", "EXTERNAL_REDIS, or EXTERNAL_REDIS_FILE, and OWN_REDIS=0"),
}


def faults(environment: dict[str, str]) -> Iterator[str]:
    """What keeps these settings from being those of a swarm, each with its remedy."""
    for name, variable in SECRETS.items():
        if environment.get(name):
            remedy = "give it as a file (make secrets, docs/deploy.md)"
            yield f"{variable} would stand in the stack file: {remedy}"
    for name, variable in URLS.items():
        try:
            url = urlsplit(environment.get(name, ""))
        except ValueError as error:
            yield f"{variable} is no URL ({error}): correct it"
            continue
        if url.password or parse_qs(url.query).keys() & PASSWORDS:
            yield f"{variable} holds a password that would stand in the stack file: give it as a file"
        peer, remedy = PEERS.get(name, (None, ""))
        if peer and (url.hostname == peer or not (url.hostname or environment.get(f"{name}_FILE"))):
            yield f"{peer} runs outside of the swarm: set {remedy}"


def stack_of(config: dict[str, Any], repository: str, tag: str, replicas: dict[str, int]) -> dict[str, Any]:
    """The stack file's content.

    Args:
        config: as Compose renders it.
        repository: what the names of the images begin with; `/api` and `/worker` are added.
        tag: that of both images.
        replicas: how many of api and worker.
    """
    given = {name for name, secret in config["secrets"].items() if secret["file"] != NOTHING}
    services = {
        name: _service(config["services"][name], f"{repository}/{image}:{tag}", given, replicas.get(name))
        for name, image in IMAGES.items()
    }
    used = sorted({secret["source"] for service in services.values() for secret in service["secrets"]})
    return {
        "version": "3.9",
        "services": services,
        "networks": {"default": {"attachable": True}},
        "secrets": {name: {"external": True, "name": f"nexus_{name}"} for name in used},
    }


def _service(service: Service, image: str, secrets: set[str], replicas: int | None) -> Service:
    found = {key: service[key] for key in KEPT if service.get(key) is not None}
    found |= {
        "image": image,
        "environment": _environment(service["environment"], waits=replicas is not None),
        "networks": ["default"],
        "volumes": [_tmpfs(each) for each in service["tmpfs"]],
        "secrets": _secrets(service, secrets),
        "deploy": _deploy(service, replicas),
    }
    if "healthcheck" in found:
        # A swarm replaces what is unhealthy: it must not be so for the sake of a peer that is away.
        alive = {"test": [*found["healthcheck"]["test"], "alive"], "start_period": f"{SCHEMA_WAIT + 30}s"}
        found["healthcheck"] = found["healthcheck"] | alive
    return found


def _environment(environment: dict[str, str], *, waits: bool) -> dict[str, str]:
    given = {name: value for name, value in environment.items() if value}
    return given | ({"SCHEMA_WAIT_SECONDS": str(SCHEMA_WAIT)} if waits else {})


def _tmpfs(written: str) -> dict[str, Any]:
    """`/tmp:mode=1777,size=64m`, which a swarm leaves out, as a mount, which it does not."""
    target, _, options = written.partition(":")
    given = dict(option.split("=") for option in options.split(","))
    size = int(given["size"].removesuffix("m")) * 2**20
    return {"type": "tmpfs", "target": target, "tmpfs": {"size": size, "mode": int(given["mode"], 8)}}


def _secrets(service: Service, given: set[str]) -> list[dict[str, Any]]:
    names = sorted(given & {secret["source"] for secret in service["secrets"]})
    return [{"source": name, "uid": OWNER, "gid": OWNER, "mode": SECRET_MODE} for name in names]


def _deploy(service: Service, replicas: int | None) -> dict[str, Any]:
    limits = {"memory": service["mem_limit"], "pids": service["pids_limit"]}
    resources = {"limits": limits}
    if replicas is None:
        once = {"condition": "on-failure", "delay": "5s", "max_attempts": 3}
        return {"mode": "replicated-job", "resources": resources, "restart_policy": once}
    change = {"parallelism": 1, "order": "start-first", "monitor": "10s"}
    return {
        "replicas": replicas,
        # Whoever asks for the name gets the address of each replica, and sees which one it talks to.
        "endpoint_mode": "dnsrr",
        "update_config": change | {"failure_action": "rollback"},
        "rollback_config": change,
        "restart_policy": {"condition": "any", "delay": "2s"},
        "resources": resources,
    }


def main() -> int:
    """Returns the exit code: 0 well, 1 something must not be in a stack file, 2 usage."""
    parser = argparse.ArgumentParser(prog="dev/swarm/stack_file.py", description="Render the stack file.")
    parser.add_argument("repository", help="what the names of the images begin with")
    parser.add_argument("tag", help="the tag of the images")
    parser.add_argument("--api", type=int, default=2, help="replicas of api")
    parser.add_argument("--worker", type=int, default=2, help="replicas of worker")
    given = parser.parse_args()
    config = json.load(sys.stdin)
    found = list(dict.fromkeys(faults(config["services"]["api"]["environment"])))
    for fault in found:
        sys.stderr.write(f"nexus: {fault}\n")
    if found:
        return 1
    replicas = {"api": given.api, "worker": given.worker}
    yaml.safe_dump(stack_of(config, given.repository, given.tag, replicas), sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
