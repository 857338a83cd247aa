"""Containers beside the disposable stack's own: copies of one, to be harmed without harming that."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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


def archive(path: Path) -> bytes:
    """A tar of this one file, readable for every user."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(path.name)
        member.size, member.mode = path.stat().st_size, 0o644
        tar.addfile(member, io.BytesIO(path.read_bytes()))
    return packed.getvalue()


@contextmanager
def copy_of(
    client: docker.DockerClient,
    stack: Stack,
    service: str,
    environment: dict[str, str],
    *,
    files: Mapping[str, Path] | None = None,
    **changes: Any,
) -> Iterator[Container]:
    """A container like that of the service: image, user, environment, hardening, networks; gone at the end.

    Args:
        environment: what is added to its environment.
        files: what lies in a folder of the container, by that folder; volumes, since the root is read-only.
        changes: arguments of `containers.create`; `tmpfs` is added to what the service has.
    """
    model = stack.service(service)
    host, config = model.attrs["HostConfig"], model.attrs["Config"]
    inherited = dict(line.split("=", 1) for line in config["Env"])
    networks, files = networks_of(model), files or {}
    container = client.containers.create(
        config["Image"],
        **{
            "name": f"nexus-spare-{service}-{uuid4().hex[:8]}",
            "init": bool(host.get("Init")),  # left out where nobody asked for one
            "user": config["User"],
            "environment": inherited | environment,
            "network": networks[NETWORK]["Name"],
            # The project alone: the tear-down finds it, and nobody takes it for one of the services.
            "labels": {DISPOSABLE: "true", PROJECT: model.labels[PROJECT]},
            "read_only": True,
            "cap_drop": host["CapDrop"],
            "security_opt": host["SecurityOpt"],
            "mem_limit": host["Memory"],
            "pids_limit": host["PidsLimit"],
            "shm_size": host["ShmSize"],
            "dns_opt": host["DnsOptions"],
            "volumes": list(files),
            **changes,
            "tmpfs": host["Tmpfs"] | changes.get("tmpfs", {}),
        },
    )
    try:
        for name in networks.keys() - {NETWORK}:
            client.networks.get(networks[name]["Name"]).connect(container)
        for folder, path in files.items():
            container.put_archive(folder, archive(path))
        container.start()
        yield container
    finally:
        container.remove(force=True, v=True)
