"""What each kind of directive becomes: settings where the meaning is the same, remarks elsewhere."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import (
    Limits,
    Listen,
    ListenAddress,
    Log,
    SiteSettings,
    Timeouts,
    Upstream,
    Verify,
)

from .translated import Result, of_text, refusal, site

PLAIN = """
server {{
    listen 80;
    server_name sso.example.com;
    {}
}}
"""


class Case(SynchronousTestCase):
    def made(self, text: str) -> Result:
        return of_text(text, self.mktemp())

    def of(
        self, server: str = "", location: str = "", top: str = "",
        upstream: str = "https://127.0.0.1:9443",
    ) -> Result:  # fmt: skip
        return self.made(site(server, location, top, upstream))

    def listen(self, text: str) -> Listen:
        return self.made(text).settings.listen


class SiteTests(Case):
    def test_the_shortest(self) -> None:
        found = self.of()
        self.assertEqual(
            found.site,
            SiteSettings(
                hosts=("sso.example.com",),
                upstreams=(Upstream("https", "tcp", "127.0.0.1", 9443),),
                certificate="/etc/nginx/sso.pem",
                private_key="/etc/nginx/sso.key",
                hsts=0,
            ),
        )
        self.assertEqual(found.settings.listen.http, ())
        self.assertEqual(found.settings.timeouts, Timeouts())
        self.assertEqual(found.settings.limits, Limits())
        self.assertEqual(found.settings.log, Log())

    def test_names(self) -> None:
        for names, hosts in (
            ("sso.example.com login.example.com", ("sso.example.com", "login.example.com")),
            ("*.example.com", ("*.example.com",)),
            (".example.com", ("example.com", "*.example.com")),
            ("SSO.Example.COM.", ("sso.example.com",)),
            ("sso.example.com _", ("sso.example.com",)),
            ("_", ()),
            ("~^sso", ()),
            ("authentik.*", ()),
            ("$hostname", ()),
            ("192.0.2.1 [2001:db8::1]", ("192.0.2.1", "[2001:db8::1]")),
        ):
            found = self.made(site().replace("sso.example.com", names, 1)).site.hosts
            self.assertEqual(found, hosts, names)

    def test_names_that_cannot_be(self) -> None:
        found = self.made(site().replace("sso.example.com", "~^sso"))
        self.assertIn('#hosts = ["sso.example.com"]', found.text)
        self.assertIn("hosts are no patterns here", found.said("LOST"))

    def test_hosts_of_two_servers(self) -> None:
        """nginx takes the first and warns."""
        found = self.made(site() + site().replace("sso.example.com", "sso.example.com b.example"))
        self.assertEqual(
            [s.hosts for s in found.settings.sites], [("sso.example.com",), ("b.example",)]
        )
        found = self.made(site() + site(upstream="https://127.0.0.1:9000"))
        self.assertEqual(len(found.settings.sites), 1)
        self.assertIn("the sites above have its hosts", found.said("ATTENTION"))

    def test_two_servers_for_every_host(self) -> None:
        text = site().replace("sso.example.com", "_")
        found = self.made(text + text.replace("9443", "9444"))
        self.assertEqual(len(found.settings.sites), 1)

    def test_one_for_80_and_443(self) -> None:
        """People who do not redirect; here it is."""
        plain = PLAIN.format("location / { proxy_pass https://127.0.0.1:9443; }")
        found = self.made(plain + site())
        self.assertEqual(len(found.settings.sites), 1)
        self.assertTrue(found.site.certificate)
        self.assertEqual(found.settings.listen.plain_http, "redirect")
        self.assertIn("here it is redirected", found.said("DIFFERENT"))

    def test_a_host_that_never_had_tls(self) -> None:
        plain = PLAIN.format("location / { proxy_pass https://127.0.0.1:9443; }")
        found = self.made(plain.replace("sso.", "old.") + site())
        self.assertEqual(len(found.settings.sites), 2)
        self.assertIn("nginx served this host without TLS", found.said("ATTENTION"))

    def test_certificates(self) -> None:
        found = self.made(site().replace("/etc/nginx/sso.", "tls/sso."))
        self.assertTrue(found.site.certificate.endswith("/tls/sso.pem"), found.site.certificate)
        self.assertTrue(found.site.certificate.startswith("/"))
        for path in ("$cert", "data:$cert", "engine:x:y"):
            found = self.made(site().replace("/etc/nginx/sso.key", path))
            self.assertEqual(found.site.certificate, "", path)
            self.assertIn("A certificate must be a file", found.said("ATTENTION"))

    def test_certificates_of_http(self) -> None:
        text = site().replace("ssl_certificate", "#")
        found = self.made(f"http {{ ssl_certificate /a.pem; ssl_certificate_key /a.key; {text} }}")
        self.assertEqual((found.site.certificate, found.site.private_key), ("/a.pem", "/a.key"))

    def test_hsts(self) -> None:
        for value, seconds in (
            ('"max-age=63072000" always', 63072000),
            ("max-age=300", 300),
            ("'max-age=\"300\"; includeSubDomains'", 300),
            ("max-age=999999999999", 315360000),
            ("max-age=0", 0),
            ("$hsts", 0),
        ):
            found = self.of(f"add_header Strict-Transport-Security {value};")
            self.assertEqual(found.site.hsts, seconds, value)
        self.assertIn("nginx sent no Strict-Transport-Security", self.of().text)

    def test_hsts_with_more(self) -> None:
        found = self.of("add_header strict-transport-security 'max-age=300; includeSubDomains';")
        self.assertIn("without includeSubDomains", found.said("LOST"))

    def test_hsts_that_nginx_did_not_send(self) -> None:
        """The best known trap of add_header."""
        found = self.of(
            "add_header Strict-Transport-Security max-age=300;", "add_header X-Other x;"
        )
        self.assertEqual(found.site.hsts, 300)
        self.assertIn("nginx did not send it", found.said("DIFFERENT"))

    def test_unknown_directives_are_named_wherever_they_are(self) -> None:
        found = self.made(
            "zzz_main 1;\nevents { zzz_events 1; }\nhttp { zzz_http 1;"
            "upstream up { zzz_upstream 1; server 127.0.0.1:9443; }"
            + site("zzz_server 1; if ($a) { zzz_if 1; }", "zzz_location 1;", upstream="https://up")
            + "}"
        )
        for name in ("main", "http", "upstream", "server", "location"):
            self.assertIn(f"zzz_{name}", found.text)
        self.assertIn("Conditions and rewrites cannot be expressed", found.said("ATTENTION"))


class UpstreamTests(Case):
    def test_forms(self) -> None:
        for given, upstream in (
            ("https://10.0.0.5:9443", "https://10.0.0.5:9443"),
            ("https://10.0.0.5:9443/", "https://10.0.0.5:9443"),
            ("HTTPS://10.0.0.5:9443", "https://10.0.0.5:9443"),
            ("https://[::1]:9443", "https://[::1]:9443"),
            ("https://authentik.example.com", "https://authentik.example.com:443"),
            ("http://authentik-server:9000$request_uri", "http://authentik-server:9000"),
            ("http://unix:/run/a.sock", "unix:/run/a.sock"),
            ("http://unix:/run/a.sock:/", "unix:/run/a.sock"),
        ):
            [found] = self.of(upstream=given).site.upstreams
            self.assertEqual(str(found), upstream, given)

    def test_blocks(self) -> None:
        for servers, upstreams in (
            ("server 10.0.0.5:9443;", ["https://10.0.0.5:9443"]),
            ("server 10.0.0.5;", ["https://10.0.0.5:80"]),  # nginx's default, whatever is spoken
            ("server a:9443; server b:9443 weight=3;", ["https://a:9443", "https://b:9443"]),
            ("server a:9443; server b:9443 down;", ["https://a:9443"]),
            ("server a:9443; server b:9443 backup;", ["https://a:9443"]),
            ("server b:9443 backup;", ["https://b:9443"]),
            ("server a:9443; server a:9443;", ["https://a:9443"]),
            ("server a:9443; server unix:/x;", ["https://a:9443"]),
        ):
            found = self.of(top=f"upstream up {{ {servers} }}", upstream="https://up")
            self.assertEqual(list(map(str, found.site.upstreams)), upstreams, servers)

    def test_a_block_in_another_file(self) -> None:
        """A site file alone: its host would be taken for a name on port 80."""
        for upstream, told in (
            ("http://authentik", True), ("https://authentik-server", True),
            ("http://authentik:9000", False), ("http://localhost", False),
            ("https://idp.example.com", False),
        ):  # fmt: skip
            found = self.of(upstream=upstream)
            self.assertEqual("which is in none of these files" in found.text, told, upstream)
        found = self.of(top="upstream up { server a:9443; }", upstream="https://up")
        self.assertNotIn("which is in none of these files", found.text)

    def test_what_try_files_ends_with(self) -> None:
        text = site().replace("location /", "location / { try_files /off.html @up; } location @up")
        found = self.made(text)
        self.assertEqual(found.site.hosts, ("sso.example.com",))
        self.assertNotIn("AUTHENTIK_WEB__PATH", found.text)

    def test_constants(self) -> None:
        for server, location, upstream in (
            ("set $u https://a:9443;", "", "$u"),
            ("set $host_ a; set $port 9443;", "", "https://$host_:${port}"),
            ("set $u b;", "set $u a;", "https://$u:9443"),
            ("set $a a; set $b $a:9443;", "", "https://$b$request_uri"),
        ):
            found = self.of(server, location, upstream=upstream)
            self.assertEqual(list(map(str, found.site.upstreams)), ["https://a:9443"], upstream)

    def test_variables(self) -> None:
        for server, upstream in (
            ("", "https://$host:9443"),
            ("", "$up"),
            ("set $u $arg_x;", "https://$u"),
            ("set $u a; if ($arg_x) { set $u b; }", "https://$u:9443"),
            ("", "https://a:9443$uri_of_mine"),
        ):
            said = refusal(site(server, upstream=upstream), self.mktemp())
            self.assertIn("decided by a variable", said, upstream)
            self.assertRegex(said, r"^authentik\.conf:\d+: ")

    def test_verification(self) -> None:
        far = "https://10.0.0.5:9443"
        ca = "proxy_ssl_trusted_certificate /etc/ca.pem;"
        for location, verify in (
            ("", Verify("off")),
            ("proxy_ssl_verify off;", Verify("off")),
            (ca, Verify("off")),
            ("proxy_ssl_verify on;", Verify("system")),
            ("proxy_ssl_verify on; " + ca, Verify("ca", "/etc/ca.pem")),
            (
                "proxy_ssl_verify on;"
                " proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;",
                Verify("system"),
            ),
        ):
            found = self.of(location=location, upstream=far)
            self.assertEqual(found.site.upstream_verify, verify, location)
            self.assertEqual(
                "# ATTENTION: nginx did not verify" in found.text, verify.mode == "off"
            )

    def test_none_is_needed_near(self) -> None:
        for upstream in ("https://127.0.0.1:9443", "https://localhost:9443", "http://127.0.0.1"):
            found = self.of(upstream=upstream)
            self.assertNotIn("upstream_verify", found.text)
            self.assertNotIn("ATTENTION: ", found.text)

    def test_plain_to_elsewhere(self) -> None:
        found = self.of(upstream="http://10.0.0.5:9000")
        self.assertIn('# upstream = "https://10.0.0.5:9443"', found.text)
        self.assertIn("ATTENTION: plain HTTP to another machine", found.text)

    def test_names_to_verify(self) -> None:
        on = "proxy_ssl_verify on;"
        top = "upstream idp { server 10.0.0.5:9443; }"
        for location, upstream, name in (
            ("proxy_ssl_name idp.example.com;", "https://10.0.0.5:9443", "idp.example.com"),
            ("proxy_ssl_name $host;", "https://10.0.0.5:9443", "sso.example.com"),
            (on, "https://authentik.example.com:9443", ""),
            (on, "https://idp", "idp"),  # what nginx verifies is what stands in proxy_pass
            ("", "https://idp", ""),
            ("proxy_ssl_name '';", "https://10.0.0.5:9443", ""),
            ("proxy_ssl_name 'a b';", "https://10.0.0.5:9443", ""),
        ):
            found = self.of(location=location, top=top, upstream=upstream)
            self.assertEqual(found.site.upstream_server_name, name, (location, upstream))

    def test_a_name_that_cannot_be(self) -> None:
        said = refusal(site(upstream="http://authentik_server:9000"), self.mktemp())
        self.assertRegex(said, r"^authentik\.conf:\d+: ")
        self.assertIn("Give it an alias", said)

    def test_paths_that_change(self) -> None:
        for location, upstream in (
            ("/auth/", "https://127.0.0.1:9443/"),
            ("/auth/", "https://127.0.0.1:9443/sso/"),
            ("/", "https://127.0.0.1:9443/auth/"),
        ):
            text = site(upstream=upstream).replace("location /", f"location {location}")
            self.assertIn("here paths stay", self.made(text).said("ATTENTION"), upstream)
        text = site(upstream="https://127.0.0.1:9443/auth/").replace(
            "location /", "location /auth/"
        )
        self.assertNotIn("here paths stay", self.made(text).text)


class ListenTests(Case):
    def addresses(self, *listens: str) -> list[str]:
        text = site().replace("listen 443 ssl;", "".join(f"listen {one};" for one in listens))
        return list(map(str, self.listen(text).https))

    def test_addresses(self) -> None:
        for listens, addresses in (
            (["443 ssl"], ["0.0.0.0:443"]),
            (["*:443 ssl"], ["0.0.0.0:443"]),
            (["443 ssl", "[::]:443 ssl"], ["[::]:443"]),
            (["[::]:443 ssl ipv6only=on", "443 ssl http2 deferred"], ["[::]:443"]),
            (["[::]:443 ssl ipv6only=off"], ["[::]:443"]),
            (["10.0.0.1:443 ssl"], ["10.0.0.1:443"]),
            (["10.0.0.1:443 ssl", "443 ssl"], ["0.0.0.0:443"]),
            (["10.0.0.1:8443 ssl", "443 ssl"], ["10.0.0.1:8443", "0.0.0.0:443"]),
            (["localhost:443 ssl"], ["127.0.0.1:443", "[::1]:443"]),
            (["[2001:db8::1]:443 ssl"], ["[2001:db8::1]:443"]),
            (["unix:/run/x.sock ssl"], ["unix:/run/x.sock"]),
            (["443 ssl", "443 quic reuseport"], ["0.0.0.0:443"]),
            (["443 ssl", "sso.example.com:444 ssl"], ["0.0.0.0:443"]),
        ):
            self.assertEqual(self.addresses(*listens), addresses, listens)

    def test_addresses_that_cannot_be(self) -> None:
        for listen in ("sso.example.com:443 ssl", "0 ssl", "99999 ssl", "unix:x ssl", "[::1 ssl"):
            text = site(f"listen {listen};").replace("listen 443 ssl;", "")
            found = self.made(text)
            self.assertEqual(found.settings.listen.https, Listen().https, listen)
            self.assertIn("None of nginx's https addresses", found.said("ATTENTION"))

    def test_ipv6_alone(self) -> None:
        found = self.made(site().replace("listen 443", "listen [::]:443"))
        self.assertIn("listens for IPv4 too", found.said("DIFFERENT"))

    def test_ssl_on(self) -> None:
        found = self.listen(site("ssl on;").replace("443 ssl", "443"))
        self.assertEqual((len(found.https), len(found.http)), (1, 0))

    def test_one_ssl_is_for_all_of_an_address(self) -> None:
        second = site().replace("443 ssl", "443").replace("sso.", "b.")
        found = self.listen(site() + second)
        self.assertEqual((len(found.https), len(found.http)), (1, 0))

    def test_the_admin_address(self) -> None:
        found = self.listen(site("listen 127.0.0.1:9930 ssl;"))
        self.assertIsNone(found.admin)

    def test_redirects(self) -> None:
        for body in (
            "return 301 https://$host$request_uri;",
            "return 302 https://$server_name$request_uri;",
            "return https://$host$request_uri;",
            "return 301 https://sso.example.com$request_uri;",
            "rewrite ^ https://$host$request_uri permanent;",
            "rewrite ^(.*)$ https://$http_host$1 permanent;",
            "location / { return 308 https://$host$request_uri; }",
            "if ($host = sso.example.com) { return 301 https://$host$request_uri; } return 404;",
        ):
            found = self.made(PLAIN.format(body) + site())
            listen = found.settings.listen
            self.assertEqual(list(map(str, listen.http)), ["0.0.0.0:80"], body)
            self.assertEqual((listen.plain_http, listen.public_https_port), ("redirect", 0))
            self.assertEqual(found.said("ATTENTION"), "", body)

    def test_redirects_elsewhere(self) -> None:
        for body in (
            "return 301 https://other.example.com$request_uri;",
            "return 301 http://$host$request_uri;",
        ):
            found = self.made(PLAIN.format(body) + site())
            self.assertEqual(found.settings.listen.http, (), body)
            self.assertIn("redirects to another host", found.said("LOST"))

    def test_ports_of_redirects(self) -> None:
        for port, target, public in ((8443, ":8443", 0), (8443, "", 443), (443, ":8443", 8443)):
            redirect = PLAIN.format(f"return 301 https://$host{target}$request_uri;")
            found = self.listen(redirect + site().replace("443 ssl", f"{port} ssl"))
            self.assertEqual(found.public_https_port, public, (port, target))

    def test_no_tls_at_all(self) -> None:
        found = self.made(PLAIN.format("location / { proxy_pass http://127.0.0.1:9000; }"))
        listen = found.settings.listen
        self.assertEqual((listen.plain_http, listen.https), ("serve", ()))
        self.assertEqual(list(map(str, listen.http)), ["0.0.0.0:80"])

    def test_no_redirect_beside_serve(self) -> None:
        """Or what nginx redirected would be served in the clear."""
        serving = PLAIN.format("location / { proxy_pass http://127.0.0.1:9000; }")
        redirect = PLAIN.format("return 301 https://$host$request_uri;")
        found = self.made(serving.replace("80", "8080", 1) + redirect)
        self.assertEqual(list(map(str, found.settings.listen.http)), ["0.0.0.0:8080"])
        self.assertIn("nothing is redirected", found.said("ATTENTION"))

    def test_no_listen_is_80(self) -> None:
        found = self.listen("server { location / { proxy_pass http://127.0.0.1:9000; } }")
        self.assertEqual(list(map(str, found.http)), ["0.0.0.0:80"])

    def test_http2(self) -> None:
        for text, on in (
            (site(), True),
            (site("http2 on;"), True),
            (site("http2 off;"), False),
            (site().replace("443 ssl", "443 ssl http2"), True),
        ):
            self.assertEqual(self.listen(text).http2, on)

    def test_proxy_protocol(self) -> None:
        text = site(
            "set_real_ip_from 10.0.0.2; set_real_ip_from unix:; real_ip_header proxy_protocol;"
        ).replace("443 ssl", "443 ssl proxy_protocol")
        found = self.made(text).settings
        self.assertEqual(found.listen.proxy_protocol_from, ("10.0.0.2/32", "unix:"))
        self.assertEqual(found.trust.proxies, ())

    def test_proxy_protocol_of_anybody(self) -> None:
        for more in ("", "real_ip_header proxy_protocol;"):
            found = self.made(site(more).replace("443 ssl", "443 ssl proxy_protocol"))
            self.assertEqual(found.settings.listen.proxy_protocol_from, ())
            self.assertIn("#proxy_protocol_from = ", found.text)
            self.assertIn("# ATTENTION: nginx took a PROXY header from everybody", found.text)

    def test_challenges(self) -> None:
        challenge = "/.well-known/acme-challenge/"
        for location, webroot in (
            (f"location {challenge} {{ root /var/www/le; }}", "/var/www/le"),
            (
                f"location ^~ {challenge} {{ root /var/www/le/; try_files $uri =404; }}",
                "/var/www/le",
            ),
            (f"location {challenge} {{ alias /w{challenge}; }}", "/w"),
            (f"location {challenge} {{ alias /var/www/le/; }}", ""),
            (f"location {challenge} {{ proxy_pass http://127.0.0.1:8888; }}", ""),
            (f"root /w; location {challenge} {{ allow all; }}", "/w"),
            ("location /.well-known/ { root /w; }", "/w"),
            ("location ~ /.well-known/acme-challenge { root /w; }", "/w"),
            (f"location {challenge} {{ root $x; }}", ""),
            (f"location {challenge} {{ root relative; }}", ""),
        ):
            redirect = f"{location} location / {{ return 301 https://$host$request_uri; }}"
            found = self.listen(PLAIN.format(redirect) + site())
            self.assertEqual(found.acme_webroot, webroot, location)
            self.assertEqual(len(found.http), 1)

    def test_renewal_without_nginx(self) -> None:
        text = site().replace("/etc/nginx/sso", "/etc/letsencrypt/live/a/sso")
        self.assertIn('#acme_webroot = "/var/www/letsencrypt"', self.made(text).text)
        self.assertNotIn("acme_webroot", self.made(site()).text)
        challenge = "location /.well-known/acme-challenge/ { root /w; }"
        found = self.made(text + PLAIN.format(challenge + "return 301 https://$host$request_uri;"))
        self.assertNotIn("#acme_webroot", found.text)


class TrustTests(Case):
    def test_proxies(self) -> None:
        found = self.of(
            "set_real_ip_from 10.0.0.0/8; set_real_ip_from 2001:db8::1; set_real_ip_from unix:;"
            "real_ip_header X-Forwarded-For;"
        )
        self.assertEqual(found.settings.trust.proxies, ("10.0.0.0/8", "2001:db8::1/128", "unix:"))

    def test_another_field(self) -> None:
        """X-Real-IP, which is also nginx's default: what the proxy does with X-Forwarded-For is not
        known, and to believe it could let clients choose their address."""
        for header in ("", "real_ip_header X-Real-IP;"):
            found = self.of("set_real_ip_from 10.0.0.0/8;" + header)
            self.assertEqual(found.settings.trust.proxies, ())
            self.assertIn('#proxies = ["10.0.0.0/8"]', found.text)
            self.assertIn('#address_field = "x-real-ip"', found.text)
            self.assertIn("No proxy is believed before", found.said("ATTENTION"))
        found = self.of("set_real_ip_from 10.0.0.0/8; real_ip_header X-Their-Own;")
        self.assertEqual(found.settings.trust.proxies, ())
        self.assertNotIn("address_field", found.text)

    def test_cloudflare(self) -> None:
        """Not as proxies: it passes X-Forwarded-Host of its clients on."""
        given = "set_real_ip_from 173.245.48.0/20; set_real_ip_from 127.0.0.1;"
        found = self.of(given + "real_ip_header CF-Connecting-IP;")
        trust = found.settings.trust
        self.assertEqual((trust.proxies, trust.presets), ((), ("cloudflare",)))
        self.assertEqual(trust.preset_networks, ("127.0.0.1/32",))

    def test_everybody_is_never_believed(self) -> None:
        for network in ("0.0.0.0/0", "::/0"):
            found = self.of(f"set_real_ip_from {network}; real_ip_header X-Forwarded-For;")
            self.assertEqual(found.settings.trust.proxies, ())
            self.assertIn("every client chooses its address", found.said("ATTENTION"))

    def test_a_proxy_that_nobody_named(self) -> None:
        found = self.of(location="proxy_set_header X-Forwarded-Proto $http_x_forwarded_proto;")
        self.assertIn("#proxies = ", found.text)
        self.assertIn("# ATTENTION: nginx told authentik what the proxy in front said", found.text)

    def test_https_by_word(self) -> None:
        """On plain HTTP; with TLS it is https anyhow."""
        fixed = "proxy_set_header X-Forwarded-Proto https;"
        self.assertNotIn("#proxies", self.of(location=fixed).text)
        plain = PLAIN.format(f"location / {{ proxy_pass http://127.0.0.1:9000; {fixed} }}")
        self.assertIn("#proxies = ", self.made(plain).text)


class NumberTests(Case):
    def timeouts(self, text: str) -> Timeouts:
        return self.of(location=text).settings.timeouts

    def test_times(self) -> None:
        for text, key, value in (
            ("client_header_timeout 1m;", "head", 60),
            ("client_body_timeout 90;", "body_idle", 90),
            ("send_timeout 10s;", "write_stall", 10),
            ("keepalive_timeout 65 60;", "keepalive", 65),
            ("keepalive_timeout 500ms;", "keepalive", 0.5),
            ("keepalive_timeout 1h30m;", "keepalive", 5400),
            ("keepalive_timeout 1y;", "keepalive", 7 * 86400),
            ("keepalive_timeout 0;", "keepalive", 75),
            ("proxy_connect_timeout 2s;", "connect", 2),
            ("proxy_connect_timeout 75s;", "connect", 5),
            ("proxy_read_timeout 30s;", "first_byte", 30),
            ("proxy_read_timeout 30s;", "upstream_idle", 30),
            ("proxy_read_timeout 30s;", "relay_idle", 3600),
            ("proxy_read_timeout 1d;", "first_byte", 60),
            ("proxy_read_timeout 1d;", "relay_idle", 86400),
            ("proxy_read_timeout 1000s;", "first_byte", 60),
            ("proxy_read_timeout 1000s;", "relay_idle", 3600),
        ):
            self.assertEqual(getattr(self.timeouts(text), key), value, (text, key))

    def test_the_largest_wins(self) -> None:
        more = "location /ws/ { proxy_pass https://127.0.0.1:9443; proxy_read_timeout 2h; }"
        found = self.of(more, "proxy_read_timeout 90s;").settings.timeouts
        self.assertEqual((found.first_byte, found.relay_idle), (90, 7200))

    def test_sizes(self) -> None:
        for text, key, value in (
            ("client_max_body_size 10m;", "body_bytes", 10 << 20),
            ("client_max_body_size 1G;", "body_bytes", 1 << 30),
            ("client_max_body_size 0;", "body_bytes", 0),
            ("", "body_bytes", 0),
            ("large_client_header_buffers 4 64k;", "line_bytes", 65536),
            ("large_client_header_buffers 4 64k;", "head_bytes", 262144),
            ("large_client_header_buffers 4 8k;", "line_bytes", 32768),
            ("proxy_buffer_size 256k;", "upstream_head_bytes", 262144),
            ("proxy_buffer_size 32k;", "upstream_head_bytes", 131072),
            ("keepalive_requests 5000;", "requests_per_connection", 5000),
        ):
            found = self.of(location=text).settings.limits
            self.assertEqual(getattr(found, key), value, (text, key))

    def test_idle_connections(self) -> None:
        for number, idle, connections in ((10, 32, 256), (64, 64, 256), (1000, 1000, 1000)):
            top = f"upstream up {{ server 127.0.0.1:9443; keepalive {number}; }}"
            found = self.of(top=top, upstream="https://up").settings.pool
            self.assertEqual((found.idle, found.connections), (idle, connections))

    def test_what_is_no_number(self) -> None:
        """nginx would not start; nothing breaks here."""
        found = self.of(location="proxy_read_timeout never; client_max_body_size much;")
        self.assertEqual(found.settings.timeouts, Timeouts())
        self.assertEqual(found.settings.limits, Limits())

    def test_protocols(self) -> None:
        for text, version in (
            ("", "1.3"),
            ("ssl_protocols TLSv1.3;", "1.3"),
            ("ssl_protocols TLSv1.2 TLSv1.3;", "1.2"),
            ("ssl_protocols TLSv1 TLSv1.1;", "1.2"),
        ):
            self.assertEqual(self.of(text).settings.tls.minimum_version, version, text)

    def test_access_log(self) -> None:
        for text, access, form in (
            ("", "-", "combined"),
            ("access_log off;", "", "combined"),
            ("access_log /var/log/nginx/a.log;", "-", "combined"),
            ("access_log /var/log/nginx/a.log json_all;", "-", "json"),
        ):
            found = self.of(text).settings.log
            self.assertEqual((found.access, found.format), (access, form), text)


class OtherServersTests(Case):
    OTHER = (
        "server { listen 443 ssl; server_name graphs.example.com;"
        " location / { proxy_pass http://127.0.0.1:3000; } }"
    )

    def test_what_does_not_look_like_authentik(self) -> None:
        found = self.made(self.OTHER + site())
        self.assertEqual(found.site.hosts, ("sso.example.com",))
        self.assertIn("graphs.example.com: not taken", found.said("LOST"))

    def test_nothing_looks_like_authentik(self) -> None:
        """Then it is what there is."""
        found = self.made(self.OTHER)
        self.assertEqual(str(found.site.upstreams[0]), "http://127.0.0.1:3000")

    def test_what_looks_like_authentik(self) -> None:
        for name, upstream, path in (
            ("login.example.com", "http://idp:9000", "/"),
            ("login.example.com", "http://idp:9443", "/"),
            ("login.example.com", "http://authentik:80", "/"),
            ("authentik.example.com", "http://127.0.0.1:3000", "/"),
            ("login.example.com", "http://127.0.0.1:3000", "/outpost.goauthentik.io"),
        ):
            text = (
                f"server {{ server_name {name}; location / {{ proxy_pass {upstream}; }}"
                f" location {path}x/ {{ proxy_pass {upstream}; }} }}"
            )
            found = self.made(self.OTHER + text)
            self.assertEqual(found.site.hosts, (name,))

    def test_an_application_behind_authentik(self) -> None:
        """Forward auth: its /outpost.goauthentik.io is no reason to take it."""
        app = self.OTHER.replace(
            "location / {",
            "location /outpost.goauthentik.io { proxy_pass http://127.0.0.1:9000; }"
            " location / { auth_request /outpost.goauthentik.io/auth/nginx;",
        )
        found = self.made(app + site())
        self.assertEqual(found.site.hosts, ("sso.example.com",))
        self.assertIn("asks authentik (auth_request)", found.said("LOST"))
        self.assertIn("it stays with nginx", refusal(app, self.mktemp()))

    def test_catch_alls(self) -> None:
        for body, sni in (("return 444;", "first"), ("ssl_reject_handshake on;", "refuse")):
            found = self.made(f"server {{ listen 443 ssl default_server; {body} }}" + site())
            self.assertEqual(found.settings.tls.unknown_sni, sni)
            self.assertEqual(len(found.settings.sites), 1)

    def test_other_locations(self) -> None:
        for location, kind in (
            ("location /shop/ { proxy_pass http://10.0.0.9; }", "ATTENTION"),
            (r"location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }", "ATTENTION"),
            ("location /x/ { proxy_pass http://$arg_a; }", "ATTENTION"),
            ("location /static/ { root /srv; }", "DIFFERENT"),
            ("location = /robots.txt { return 200 x; }", "DIFFERENT"),
        ):
            self.assertIn("Not taken: ", self.of(location).said(kind), location)

    def test_protection_that_is_lost(self) -> None:
        for text in (
            "auth_basic x;",
            "limit_req zone=a;",
            "limit_conn a 5;",
            "ssl_verify_client on;",
            "if ($http_user_agent ~ bot) { return 403; }",
            "rewrite ^/a /b break;",
            "modsecurity on;",
            "access_by_lua_block { ngx.exit(403) }",
            "valid_referers none;",
        ):
            found = self.of(text)
            self.assertIn(text.split()[0], found.said("ATTENTION"), text)


class NothingTests(Case):
    def test_why(self) -> None:
        for text, words in (
            ("", "there is no server block"),
            ("events {}", "there is no server block"),
            ("location / { proxy_pass http://a; }", "there is no server block"),
            ("server { listen 80; root /srv; }", "no server here has a location with proxy_pass"),
            ("server { include gone.conf; }", "gone.conf cannot be read"),
            ("stream { server { listen 1; proxy_pass a:1; } }", "there is no server block"),
            ("server { location / { proxy_pass http://$a; } }", "decided by a variable"),
            (
                "upstream u { server a:9443 down; } server { location / { proxy_pass http://u; } }",
                "every server behind it is down",
            ),
        ):
            said = refusal(text, self.mktemp())
            self.assertIn(words, said, text)
            self.assertRegex(said, r"^(/.*/)?authentik\.conf(:\d+)?: ", text)

    def test_missing_includes_are_loud(self) -> None:
        found = self.of("include snippets/tls.conf; include mime.types; include fastcgi_params;")
        self.assertIn("snippets/tls.conf", found.said("ATTENTION"))
        self.assertNotIn("mime.types", found.text)


class DefaultsTests(Case):
    def test_addresses_are_written(self) -> None:
        """An address of the defaults gives way to 8443 where it is taken; nginx's would not."""
        found = self.of("listen [::]:443 ssl;").settings.listen
        self.assertEqual(found.https, (ListenAddress("tcp", "::", 443),))
        self.assertTrue(found.https_explicit)
