"""Builds, pure, the environment variables a job's processes see: of the runner's own only what is listed here."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from dstack.wire.runner import Order

# What an operator sets on a runner for all its jobs: certificates, proxies, package indexes, time zone.
PASSED_ON = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy", "TZ", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX",
    "UV_FIND_LINKS", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS",
    "PIP_CERT", "LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_DRIVER_CAPABILITIES",
)  # fmt: skip
FALLBACK_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_env(machine: Mapping[str, str], *, home: Path, tmp: Path, own_prefix: str, python: Path) -> dict[str, str]:
    """What every process of an attempt gets. `own_prefix` is the runner's own environment, which jobs do not share;
    `python` the interpreter below it, so that `python` is found where the machine's own PATH leads to none."""
    path = [part for part in machine.get("PATH", FALLBACK_PATH).split(os.pathsep) if part.startswith("/")]
    path = [part for part in path if posixpath.normpath(part) != posixpath.join(own_prefix, "bin")]
    return {
        **{name: machine[name] for name in PASSED_ON if name in machine},
        "PATH": os.pathsep.join(path or [FALLBACK_PATH]) + f"{os.pathsep}{python.parent}",
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def job_env(
    base: Mapping[str, str], order: Order, *, checkout: Path, metrics: Path, output: Path, venv: Path | None
) -> dict[str, str]:
    """The environment of the job's commands: the workflow's variables and secrets over the base, our facts over all."""
    env = {**base, **order.env, **order.job.env, **order.secrets}
    env |= {
        "CI": "true",
        "DSTACK_RUN": order.run,
        "DSTACK_REPO": order.repo,
        "DSTACK_WORKFLOW": order.workflow,
        "DSTACK_SHA": order.sha,
        "DSTACK_BRANCH": order.branch,
        "DSTACK_ATTEMPT": str(order.number),
        "DSTACK_ROOT": str(checkout),
        "DSTACK_METRICS": str(metrics),
        "DSTACK_OUTPUT": str(output),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(order.devices),  # empty: a job that asked for no GPU sees none
    }
    if venv is not None:
        env["VIRTUAL_ENV"] = str(venv)
        env["PATH"] = f"{venv / 'bin'}{os.pathsep}{env['PATH']}"
    return env
