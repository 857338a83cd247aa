"""Containers beside the disposable stack's own: copies of one, to be harmed without harming that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import docker
from docker.models.containers import Container

from tests.stack.stack import DISPOSABLE, PROJECT, Stack

#: Where postgres and redis are; whatever is asked by the test-runner must be there too.
NETWORK = "peers"


def networks_of(container: Container) -> dict[str, dict[str, Any]]:
    """What the engine says of each network that a container is in, by its name in the compose file."""
    project = f"{container.labels[PROJECT]}_"
    joined = container.attrs["NetworkSettings"]["Networks"]
    return {name.removeprefix(project): each | {"Name": name} for name, each in joined.items()}


@contextmanager
def copy_of(
    client: docker.DockerClient, stack: Stack, service: str, environment: dict[str, str], **changes: Any
) -> Iterator[Container]:
    """A container like that of the service: image, user, environment, hardening; gone at the end.

    Args:
        environment: what is added to its environment.
        changes: arguments of `containers.run`; `tmpfs` is added to what the service has.
    """
    model = stack.service(service)
    host, config = model.attrs["HostConfig"], model.attrs["Config"]
    inherited = dict(line.split("=", 1) for line in config["Env"])
    container = client.containers.run(
        config["Image"],
        **{
            "name": f"nexus-spare-{service}-{uuid4().hex[:8]}",
            "detach": True,
            "init": bool(host.get("Init")),  # left out where nobody asked for one
            "user": config["User"],
            "environment": inherited | environment,
            "network": networks_of(model)[NETWORK]["Name"],
            # The project alone: the tear-down finds it, and nobody takes it for one of the services.
            "labels": {DISPOSABLE: "true", PROJECT: model.labels[PROJECT]},
            "read_only": True,
            "cap_drop": host["CapDrop"],
            "security_opt": host["SecurityOpt"],
            "mem_limit": host["Memory"],
            "pids_limit": host["PidsLimit"],
            "shm_size": host["ShmSize"],
            "dns_opt": host["DnsOptions"],
            **changes,
            "tmpfs": host["Tmpfs"] | changes.get("tmpfs", {}),
        },
    )
    try:
        yield container
    finally:
        container.remove(force=True, v=True)
