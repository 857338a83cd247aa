"""A command within a running container: its exit code and all that it printed."""

import struct
from collections.abc import Iterator

import docker
import requests
from docker.errors import create_api_error_from_http_exception
from docker.models.containers import Container

#: Before each piece of output: which stream, three bytes of nothing, how many bytes follow.
#: https://docs.docker.com/reference/api/engine/ (ContainerAttach, "Stream format")
FRAME = struct.Struct(">BxxxL")


def frames(output: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(output):
        _, length = FRAME.unpack_from(output, start)
        start += FRAME.size
        yield output[start : start + length]
        start += length


def execute(container: Container, *command: str) -> tuple[int, str]:
    """Runs it to its end.

    The SDK's own `exec_run` loses whatever arrives in one piece with the head of the engine's answer. That is
    all of a short output, once this process had to wait for a processor meanwhile:
    https://github.com/docker/docker-py/issues/3332

    Raises:
        docker.errors.APIError: what the engine said when it refused.
    """
    assert isinstance(container.client, docker.DockerClient)
    api = container.client.api
    started = api.exec_create(container.id, list(command))["Id"]
    address = f"{api.base_url}/v{api.api_version}/exec/{started}/start"
    answer = api.post(address, json={"Detach": False, "Tty": False}, timeout=api.timeout)
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)
    output = b"".join(frames(answer.content))
    code = api.exec_inspect(started)["ExitCode"]
    assert isinstance(code, int)
    return code, output.decode()
