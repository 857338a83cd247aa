"""`nexus doctor` asks Redis: is it there, and does it keep what is queued?"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from nexus.config import Settings
from nexus.db.engine import NOT_TRUSTED
from nexus.doctor.bounds import PATIENCE, bounded
from nexus.doctor.findings import Finding, fault, ok, unchecked, warning
from nexus.health import evicts_queues, untrusted

#: What part of its `maxmemory` a Redis may use before that is worth a line.
NEARLY_FULL = 0.9


def check_redis(settings: Settings) -> Iterator[Finding]:
    urls = {
        name: getattr(settings, name).get_secret_value()
        for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "REDIS_URL")
    }
    # Mostly they are one; then it is asked once, as what matters most.
    servers = {urlsplit(url).netloc: name for name, url in reversed(urls.items())}
    for name in servers.values():
        yield _redis_finding(name, urls[name])


def _redis_finding(name: str, url: str) -> Finding:
    where = f"Redis at {urlsplit(url).hostname} ({name})"
    try:
        with (
            bounded(PATIENCE),
            redis.Redis.from_url(
                url, socket_timeout=3, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0)
            ) as client,
        ):
            memory = client.info("memory")
    except redis.exceptions.NoPermissionError:
        return unchecked("redis", f"{where} answers, but does not let us see its policy")
    except redis.exceptions.AuthenticationError:
        return fault("redis", f"{where} refuses our password", f"correct the password in {name}")
    except (redis.exceptions.RedisError, OSError) as error:
        if untrusted(error):
            return fault("redis", f"{where} {NOT_TRUSTED}", f"see the host and ssl_ca_certs in {name}")
        return fault(
            "redis", f"{where} does not answer", "look at its state and its log ('make ps', 'make logs')"
        )
    return redis_memory(name, where, memory)


def redis_memory(name: str, where: str, memory: dict[str, Any]) -> Finding:
    """What `INFO memory` says of the policy and of what is left."""
    policy, used, most = memory["maxmemory_policy"], memory["used_memory"], memory["maxmemory"]
    if name == "CELERY_BROKER_URL" and evicts_queues(memory):
        return fault(
            "redis",
            f"{where} may drop queued tasks: its maxmemory-policy is {policy}",
            "set maxmemory-policy noeviction",
        )
    if most and used >= most:
        return fault(
            "redis",
            f"{where} is full: {_mb(used)} of {_mb(most)} MB used",
            "raise its maxmemory, or find out why the worker takes nothing from the queue",
        )
    if most and used >= NEARLY_FULL * most:
        return warning(
            "redis",
            f"{where} is nearly full: {_mb(used)} of {_mb(most)} MB used",
            "raise its maxmemory, or find out why the worker takes nothing from the queue",
        )
    return ok("redis", f"{where} answers, policy {policy}, {_mb(used)} MB used")


def _mb(size: int) -> str:
    return f"{size / 1024**2:.1f}"
