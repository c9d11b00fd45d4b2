"""The `authproxy` command.

Each subcommand is a module with `run(arguments, environ) -> status`, and `parser()`, its argparse
parser, from which completions and manual are made (script/generate).
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module

from .. import __version__

COMMANDS = {
    "run": "run the proxy in the foreground (as twistd --nodaemon authproxy does)",
    "check": "test a configuration: print every problem, exit 0 or 1",
    "reload": "let the running proxy read its configuration again; exits 1 if it is refused",
    "status": "a few lines about the running proxy",
    "doctor": "go through the running proxy as a client does: what fails, and the cure",
    "config": "print the settings in force, defaults included (config show)",
    "pin": "the line that pins the key of an authentik server's certificate",
    "demo": "an authentik stand-in with authproxy in front of it, to try things out",
    "import-nginx": "an nginx configuration in, the authproxy.toml that does the same out",
    "completion": "the completion of bash, zsh or fish, for its configuration",
    "copy-keys": "root's part before the service starts; the systemd unit calls it",
}


def usage() -> str:
    """What --help prints."""
    lines = "\n".join(f"  {name:12} {what}" for name, what in COMMANDS.items())
    return (
        "usage: authproxy COMMAND [options]\n\n"
        "The front door of an authentik server.\n\n"
        f"commands:\n{lines}\n\n"
        "`authproxy COMMAND --help` says more. `authproxy --version` prints the version."
    )


def module_of(command: str) -> str:
    """The dotted name of the module that a command is."""
    return f"{__name__}.{command.replace('-', '_')}"


def main(arguments: list[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """The console script. Returns the exit status: 2 for a command line that makes no sense."""
    if arguments is None:
        _open_what_is_closed()
        _end_at_interrupts()
    arguments = sys.argv[1:] if arguments is None else arguments
    environ = os.environ if environ is None else environ
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] in ("--version", "-V"):
        print(f"authproxy {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"authproxy: {_no_command(arguments)}\n\n{usage()}", file=sys.stderr)
        return 2
    module = import_module(module_of(arguments[0]))
    status: int = module.run(arguments[1:], environ)
    return status


def _no_command(arguments: list[str]) -> str:
    """What to say of a command line that begins with no command."""
    first = arguments[0]
    behind = [number for number, argument in enumerate(arguments) if argument in COMMANDS]
    if first.startswith("-") and behind:
        at = behind[0]
        moved = shlex.join([arguments[at], *arguments[:at], *arguments[at + 1 :]])
        return f"options stand behind the command: authproxy {moved}"
    close = get_close_matches(first, COMMANDS, 1, 0.75)
    return f"there is no command {first!r}." + (f" Did you mean {close[0]}?" if close else "")


def _open_what_is_closed() -> None:
    """Let no socket get the number of a standard stream that whoever started us has closed (2>&-):
    logs would be written to whom it belongs."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            mode = "w" if descriptor else "r"
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _end_at_interrupts() -> None:
    """Let Ctrl-C end the process without a word, until a command has its own way.

    Python raises KeyboardInterrupt wherever it is: in an import that is a traceback, or is lost,
    and then nothing ends.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
