"""nginx's files -> directives: includes, errors with line and cure, and bounds for what is hostile."""

from __future__ import annotations

import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy.nginx import reading
from authproxy.nginx.reading import Configuration, Directive, NginxError, read


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def file(self, name: str, content: str | bytes) -> pathlib.Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def read(self, content: str | bytes, name: str = "a.conf") -> Configuration:
        return read(str(self.file(name, content)))

    def error(self, content: str | bytes, name: str = "a.conf") -> str:
        """The one line that is said of a file."""
        return self.error_of(self.file(name, content))

    def error_of(self, path: pathlib.Path | str) -> str:
        found = str(self.assertRaises(NginxError, read, str(path)))
        self.assertNotIn("\n", found)
        return found


def flat(directives: tuple[Directive, ...]) -> list[str]:
    """`FILE:LINE name args`, those inside blocks after them."""
    found = []
    for directive in directives:
        found.append(" ".join((directive.place, directive.name, *directive.args)))
        found += flat(directive.block or ())
    return found


class ReadingTests(Case):
    def test_lines_and_blocks(self) -> None:
        found = self.read("# c\nserver {\n  listen 80; # d\n\n  location / { return 404; }\n}\n")
        self.assertEqual(
            flat(found.directives),
            [
                "a.conf:2 server",
                "a.conf:3 listen 80",
                "a.conf:5 location /",
                "a.conf:5 return 404",
            ],
        )
        self.assertEqual(found.missing, ())

    def test_quotes(self) -> None:
        [found] = self.read('a \'b;{}#\' "c\\"d" e#f ${g}h;').directives
        self.assertEqual(found.args, ("b;{}#", 'c"d', "e#f", "${g}h"))

    def test_nothing(self) -> None:
        for content in ("", "\n", "# nothing\n"):
            self.assertEqual(self.read(content).directives, (), content)

    def test_lua(self) -> None:
        """Its braces are no blocks."""
        found = self.read("server { content_by_lua_block { if a then b = {} end } listen 81; }")
        self.assertIn("a.conf:1 listen 81", flat(found.directives))

    def test_a_map_is_data(self) -> None:
        """A server in a map is no server, and an include there is nothing to read."""
        found = self.read("map $a $b { hostnames; include nowhere; server x; default y z; }")
        self.assertEqual(found.missing, ())

    def test_a_byte_order_mark(self) -> None:
        [found] = self.read(b"\xef\xbb\xbfserver { listen 80; }").directives
        self.assertEqual(found.name, "server")

    def test_lines_of_other_systems(self) -> None:
        [found] = self.read(b"server {\r\n listen 80;\r\n}\r\n").directives
        assert found.block is not None
        self.assertEqual(found.block[0].args, ("80",))


class IncludeTests(Case):
    def test_relative_to_the_file(self) -> None:
        self.file("b/c.conf", "listen 81;\nlisten 82;")
        found = self.read("server {\ninclude b/c.conf;\nlisten 83;\n}")
        self.assertEqual(
            flat(found.directives),
            [
                "a.conf:1 server",
                "b/c.conf:1 listen 81",
                "b/c.conf:2 listen 82",
                "a.conf:3 listen 83",
            ],
        )

    def test_relative_to_nginx_conf(self) -> None:
        """As nginx does, whatever file of sites-enabled is named, and whoever includes."""
        self.file("nginx.conf", "")
        self.file("snippets/one", "include snippets/two;")
        self.file("snippets/two", "listen 82;")
        found = self.read("server { include snippets/one; }", "sites-enabled/group/sso")
        self.assertEqual(found.prefix, str(self.directory))
        second = str(self.directory / "snippets/two")
        self.assertEqual(flat(found.directives)[1:], [f"{second}:1 listen 82"])

    def test_globs_in_order(self) -> None:
        for name in ("20-b", "10-a", ".hidden"):
            self.file(f"sites/{name}", f"server_name {name[3:]};")
        found = self.read("include sites/*;\ninclude none/*.conf;")
        self.assertEqual(
            flat(found.directives), ["sites/10-a:1 server_name a", "sites/20-b:1 server_name b"]
        )
        self.assertEqual(found.missing, ())

    def test_absolute(self) -> None:
        other = self.file("elsewhere/x", "listen 81;")
        found = self.read(f"include {other};", "own/a.conf")
        self.assertEqual(flat(found.directives), [f"{other}:1 listen 81"])

    def test_the_same_file_twice(self) -> None:
        self.file("b", "listen 81;")
        found = self.read("server { include b; }\nserver { include b; }")
        self.assertEqual(len(flat(found.directives)), 4)

    def test_missing(self) -> None:
        """The rest is read; nginx would not start, but here it may be another machine."""
        self.file("d/x", "")
        found = self.read('include gone.conf;\ninclude d;\ninclude "a\0b";\nlisten 80;')
        self.assertEqual(
            [(d.line, why) for d, why in found.missing],
            [(1, "there is no such file"), (2, "it is not a file"), (3, "there is no such file")],
        )
        self.assertIn("a.conf:4 listen 80", flat(found.directives))

    def test_not_readable(self) -> None:
        other = self.file("secret", "listen 81;")
        self.patch(reading.os, "access", lambda path, mode: str(other) != str(path))
        found = self.read("include secret;")
        self.assertEqual([why for _, why in found.missing], ["it may not be read by this user"])

    def test_of_itself(self) -> None:
        self.assertIn("a.conf:2: ", said := self.error("\ninclude a.conf;"))
        self.assertIn("includes itself", said)

    def test_of_each_other(self) -> None:
        self.file("b.conf", "\n\ninclude a.conf;")
        self.assertIn("b.conf:3: ", said := self.error("include b.conf;"))
        self.assertIn("includes itself", said)

    def test_of_itself_by_a_link(self) -> None:
        os.symlink("a.conf", self.directory / "link.conf")
        self.assertIn("includes itself", self.error("include link.conf;"))

    def test_of_itself_by_a_glob(self) -> None:
        self.assertIn("includes itself", self.error("include *.conf;"))

    def test_a_broken_file(self) -> None:
        self.file("b", "\nlisten 80\n")
        self.assertTrue(self.error("include b;").startswith("b:3: "))


class ErrorTests(Case):
    def test_no_such_file(self) -> None:
        said = self.error_of("/nowhere/a.conf")
        self.assertEqual(
            said,
            "/nowhere/a.conf: cannot be read: No such file or directory. Name nginx's configuration file,"
            " such as /etc/nginx/sites-enabled/authentik.conf.",
        )

    def test_no_file(self) -> None:
        directory = str(self.directory)
        self.assertTrue(self.error_of(directory).startswith(f"{directory}: this is not a file"))
        os.mkfifo(self.directory / "pipe")
        self.assertIn("this is not a file", self.error_of(self.directory / "pipe"))
        self.assertIn("this is not a file", self.error_of("/dev/zero"))

    def test_not_allowed(self) -> None:
        path = self.file("a.conf", "listen 80;")
        self.patch(reading.os, "access", lambda path, mode: False)
        self.assertIn("Permission denied. Run this as root.", self.error_of(path))

    def test_syntax(self) -> None:
        for content, line, words in (
            ("server {\n listen 80;\n", 2, 'expecting "}"'),
            ("server {\n}\n}\n", 3, 'unexpected "}"'),
            ("server {\n listen 80\n}\nserver {\n}\n", 2, "a semicolon is missing"),
            ("server { listen 80 # c\n}", 1, "a semicolon is missing"),
            ("server { server_name 'a b' }", 1, "a semicolon is missing"),
            ("\nlisten 80", 2, "the file ends inside a directive"),
            ("\nserver_name 'a;\n}", 3, "the file ends inside a directive or a quotation"),
            ("proxy_pass http://a\nproxy_http_version 1.1;", 1, "invalid number of arguments"),
            ("\nserver_tokens;", 2, "invalid number of arguments"),
            ("\nlocation /;", 2, 'has no opening "{"'),
            ("gzip maybe;", 1, 'it must be "on" or "off"'),
            ("{}", 1, 'unexpected "{"'),
            ("server {\n};", 2, 'unexpected ";"'),
        ):
            said = self.error(content)
            self.assertIn(words, said, content)
            self.assertTrue(said.startswith(f"a.conf:{line}: "), (content, said))
            self.assertTrue(said.endswith((".", "?")), said)

    def test_nested_too_deeply(self) -> None:
        self.assertIn("too deep", self.error("a {" * 5000))
        self.assertIn("deep", self.error("a {" * 40 + "}" * 40))
        self.assertEqual(len(flat(self.read("a {" * 20 + "}" * 20).directives)), 20)

    def test_includes_nested_too_deeply(self) -> None:
        for number in range(40):
            self.file(f"{number}", f"include {number + 1};")
        self.file("40", "")
        self.assertIn("deep", self.error("include 0;"))


class BoundsTests(Case):
    def test_octets(self) -> None:
        self.patch(reading, "MOST_OCTETS", 1000)
        self.read("a " + "b" * 990 + ";")
        self.assertIn("too large", self.error("a " + "b" * 1000 + ";"))
        self.file("b", "a " + "b" * 990 + ";")
        self.assertIn("too large", self.error("include b; a b c d e f;"))

    def test_the_bound_is_before_the_parser(self) -> None:
        """Which needs a second for a MiB; a sparse file of a TiB costs nobody anything."""
        path = self.file("a.conf", "")
        os.truncate(path, 1 << 40)
        self.assertIn("too large", self.error_of(path))

    def test_files(self) -> None:
        self.patch(reading, "MOST_FILES", 10)
        for number in range(12):
            self.file(f"d/{number}", "")
        self.assertIn("too large", self.error("include d/*;"))

    def test_directives(self) -> None:
        self.patch(reading, "MOST_DIRECTIVES", 100)
        self.read("a b;" * 100)
        self.assertIn("more than 100 directives", self.error("a b;" * 101))

    def test_files_that_multiply(self) -> None:
        """Ten files, each including the next ten times: a parser that follows all never ends."""
        for number in range(10):
            self.file(f"{number}", f"include {number + 1};" * 10)
        self.file("10", "listen 80;")
        self.assertIn("directives", self.error("include 0;"))

    def test_binary(self) -> None:
        """It is no configuration, or a strange one; but never anything else."""
        for content in (
            os.urandom(4096),
            bytes(range(256)) * 4,
            b"\0" * 100 + b";",
            b"\xff\xfes\0e\0r\0v\0e\0r\0",
        ):
            try:
                self.read(content)
            except NginxError as e:
                self.assertNotIn("\n", str(e))
