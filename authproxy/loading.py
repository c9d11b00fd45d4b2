"""Owns the reading of everything that is configured: the file, and the files that it names.

The start and every reload go this way, so both refuse the same things in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from . import config, files
from .certificates import CertificateError
from .config import ConfigError, Problem
from .identity import Identity
from .settings import Settings


@frozen
class Loaded:
    """What was read: the text of the file, what it means, and the certificates."""

    text: str
    settings: Settings
    identity: Identity


@frozen
class Source:
    """Where settings come from: a file (None: the default's place, if it is there), options of the
    command line that override it, and the environment."""

    path: str | None
    overrides: Mapping[str, str]
    environ: Mapping[str, str]

    def load(self) -> Loaded:
        """Read everything. Raises ConfigError with every problem that there is."""
        path = config.path_or_default(self.path)
        text, problem = config.read(path)
        if problem is not None:
            raise ConfigError([problem])
        settings, problems = config.loads(text, path or "", self.overrides)
        for key, message in files.problems(settings, self.environ):
            problems.append(config.named(path or "", key, message, self.overrides))
        if problems:
            raise ConfigError(problems)
        return Loaded(text, settings, self.identity(settings))

    def renewed(self, loaded: Loaded) -> Loaded:
        """The same settings with the certificates as they are on disk now. Raises ConfigError.

        What upstream is verified with is looked at, too: workers read it themselves, and one that
        finds it damaged can only end.
        """
        problems = [
            config.named(loaded.settings.path, key, message, self.overrides)
            for key, message in files.certificate_problems(loaded.settings, self.environ)
        ]
        if problems:
            raise ConfigError(problems)
        return evolve(loaded, identity=self.identity(loaded.settings))

    def identity(self, settings: Settings) -> Identity:
        """The certificates that settings name. Raises ConfigError."""
        try:
            return Identity.load(settings, self.environ)
        except CertificateError as e:
            raise ConfigError([Problem(settings.path, "", str(e))]) from None
