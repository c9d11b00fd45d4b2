"""Microseconds a call."""


def main() -> None:
    raise NotImplementedError
