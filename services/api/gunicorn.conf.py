"""Server settings of the api container: request < graceful_timeout < stop_grace_period (35 s)."""

from nexus.api import processes
from nexus.config import settings_or_exit
from nexus.log import logging_config

_settings = settings_or_exit()

bind = "0.0.0.0:8000"  # inside the container; compose.yml publishes it on loopback only
worker_class = (
    "nexus.api.server.Worker"  # uvicorn's; gunicorn's own ASGI worker had graceful-stop faults in 26.0
)
workers = _settings.API_WORKERS
# Imported once and forked: half the start time, shared memory, and a fault at import ends the container.
preload_app = True
graceful_timeout = 25
timeout = 30
keepalive = 5
worker_tmp_dir = "/dev/shm"  # noqa: S108  the heartbeat of gunicorn's workers must not wait for a disk
control_socket_disable = True  # it wants a writable home; the root is read-only
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={processes.shared_folder()}"]
pre_fork, post_fork, child_exit = processes.pre_fork, processes.post_fork, processes.child_exit
forwarded_allow_ips = ",".join(_settings.trusted_proxies)  # none, unless somebody names them
accesslog = None
logconfig_dict = logging_config(_settings)
