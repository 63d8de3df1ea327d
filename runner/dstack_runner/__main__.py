"""`dstack-runner`: filled in below."""


def main() -> int:
    return 0
