"""`dstack runners`: lists runners with what they have and do, or removes one that is gone."""

from __future__ import annotations

import argparse
from collections import Counter

from dstack.cli import connection, output, quantities
from dstack.client import Json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list", "remove"], default="list", help="default: list")
    parser.add_argument("name", nargs="?", default="", help="the runner to remove")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    output.require_name(args, "remove")
    client = connection.connect(args)
    if args.action == "remove":
        client.delete_runner(args.name)
        print(f"{args.name} is removed")
        return 0
    runners, now = client.runners(), output.now()
    rows = [
        [
            runner["name"],
            runner["state"],
            f"{len(runner['jobs'])}/{runner['slots']}",
            str(runner["cpu"]),
            quantities.size(runner["memory"]),
            devices(runner),
            " ".join(runner["labels"]),
            "yes" if runner.get("untrusted") else "no",
            quantities.ago(runner["last_seen_at"], now),
        ]
        for runner in runners
    ]
    output.print_listing(
        args, runners, ["RUNNER", "STATE", "JOBS", "CPU", "MEMORY", "GPUS", "LABELS", "UNTRUSTED", "SEEN"], rows
    )
    return 0


def devices(runner: Json) -> str:
    """GPUs by name, such as `2 x A100 40.0 GB (1 busy)`; busy are those of jobs and those that strangers use."""
    count: Counter[tuple[str, int]] = Counter()
    busy: Counter[tuple[str, int]] = Counter()
    for device in runner["devices"]:
        kind = (device["name"], device["memory"])
        count[kind] += 1
        busy[kind] += bool(device["busy"] or device["job"])
    return ", ".join(
        f"{n} x {kind[0]} {quantities.size(kind[1])}" + (f" ({busy[kind]} busy)" if busy[kind] else "")
        for kind, n in count.items()
    )
