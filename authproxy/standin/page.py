"""Owns what authentik would believe of a request, and the page and JSON that show it.

Pure: knows nothing of sockets or of Twisted. The rules are authentik's for a trusted peer, its Rust
front end's where the generations differ: exactly one X-Forwarded-Proto, the first
X-Forwarded-Host line taken raw, the right-most entry of X-Forwarded-For. Nothing of an untrusted
peer's is believed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

STARTING = "authentik starting"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came off the wire; `peer` is the TCP neighbour's address, perhaps trusted."""

    method: bytes
    target: bytes
    version: bytes
    fields: Sequence[tuple[bytes, bytes]]
    peer: str
    secure: bool
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What authentik would believe. `sources` says where scheme, host and client come from."""

    scheme: str
    host: str
    client: str
    url: str
    method: str
    path: str
    http_version: str
    headers: tuple[tuple[str, str], ...]
    sources: dict[str, str]

    def as_json(self) -> bytes:
        """One object: scheme, host, client, url, method, path, http_version, headers (pairs)."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "sources"}
        return json.dumps(shown).encode()

    def as_html(self) -> bytes:
        """The page."""
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n"
            for name, value in self.headers
        )
        facts = {name: escape(str(getattr(self, name))) for name in self.__slots__}
        facts |= {f"{name}_source": escape(source) for name, source in self.sources.items()}
        facts["base"] = escape(f"{self.scheme}://{self.host}/")  # as authentik's pages have it
        facts |= {"headers": "".join(rows), "count": str(len(self.headers)), "style": STYLE}
        return PAGE.substitute(facts).encode()


def seen(arrived: Arrived) -> Seen:
    """What authentik would make of a request."""
    pairs = arrived.fields
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)

    def lines(name: str) -> list[str]:
        return [value for other, value in fields if other.lower() == name]

    def forwarded(name: str) -> list[str]:
        return lines(name) if arrived.trusted else []

    scheme, scheme_source = _scheme(forwarded("x-forwarded-proto"), arrived.secure)
    host, host_source = _host(forwarded("x-forwarded-host"), lines("host"))
    client, client_source = _client(forwarded("x-forwarded-for"), arrived.peer)
    target = arrived.target.decode("latin-1")
    return Seen(
        scheme=scheme,
        host=host,
        client=client,
        url=f"{scheme}://{host}{target}" if target.startswith("/") else target,
        method=arrived.method.decode("latin-1"),
        path=target.partition("?")[0],
        http_version=arrived.version.decode("latin-1"),
        headers=fields,
        sources={"scheme": scheme_source, "host": host_source, "client": client_source},
    )


def _scheme(forwarded: list[str], secure: bool) -> tuple[str, str]:
    if forwarded in (["https"], ["http"]):
        return forwarded[0], "from X-Forwarded-Proto"
    own = "https" if secure else "http"
    if forwarded:
        return own, "X-Forwarded-Proto is not one scheme"
    return own, "no X-Forwarded-Proto"


def _host(forwarded: list[str], host: list[str]) -> tuple[str, str]:
    if forwarded:
        return forwarded[0], "from X-Forwarded-Host"
    if host:
        return host[0], "from Host"
    return "", "no Host"


def _client(forwarded: list[str], peer: str) -> tuple[str, str]:
    entries = [entry.strip() for line in forwarded for entry in line.split(",") if entry.strip()]
    if len(entries) == 1:
        return entries[0], "from X-Forwarded-For"
    if entries:
        return entries[-1], f"from X-Forwarded-For, the last of {len(entries)} entries"
    return peer, "no X-Forwarded-For: the TCP peer"


def starting(accept: bytes) -> tuple[bytes, bytes]:
    """(media type, content) of the 503 while authentik starts, by the request's Accept."""
    if b"application/json" in accept:
        return b"application/json", json.dumps({"error": STARTING}).encode()
    if b"text/html" in accept:
        return b"text/html; charset=utf-8", WAIT.substitute(style=STYLE, text=STARTING).encode()
    return b"text/plain; charset=utf-8", STARTING.encode()


STYLE = """\
:root { color-scheme: light dark; --ink: #1c2126; --soft: #626c76; --line: #dde1e5;
  --paper: #f5f6f7; --card: #fff; --mark: #c9421b; --good: #1a7f4b; --wait: #a66a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #98a2ac; --line: #343b42;
  --paper: #15181b; --card: #1e2226; --mark: #ff8a66; --good: #57c98b; --wait: #e0aa4a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 0 0 .75rem; font-size: 1rem; }
p { margin: .35rem 0 0; }
.soft, small { color: var(--soft); }
small { display: block; font-size: .8rem; }
section { margin-top: 1rem; padding: 1rem 1.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
code, td, th, .value { overflow-wrap: anywhere;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
dl { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem 1.25rem; margin: 0; }
dl .wide { grid-column: 1 / -1; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; }
.value { font-size: 1.05rem; }
table { width: 100%; border-collapse: collapse; font-size: .85rem; }
th, td { padding: .4rem 0; border-top: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { width: 30%; padding-right: 1rem; font-weight: 600; }
tr:first-child > * { border-top: 0; }
#state::before { content: ""; display: inline-block; width: .65rem; height: .65rem;
  margin-right: .45rem; border-radius: 50%; background: var(--wait); }
#state[data-state=open]::before { background: var(--good); }
#state[data-state=closed]::before { background: var(--mark); }
ol { margin: .75rem 0 0; padding: 0; list-style: none; min-height: 6.5rem; font-size: .85rem; }
li { font-family: ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
li.old { color: var(--soft); }
@media (max-width: 36rem) { main { padding-top: 1.25rem; } dl { grid-template-columns: 1fr; }
  th, td { display: block; width: auto; padding: 0; } th { padding-top: .5rem; }
  td { border-top: 0; padding-bottom: .5rem; } dl.live { grid-template-columns: repeat(3, 1fr); } }
"""

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="ak-base-url" content="$base">
<title>authentik stand-in</title>
<link rel="icon" href="data:,">
<style>
$style</style>
</head>
<body>
<main>
<h1>Stand-in of authentik</h1>
<p class="soft">The request for this page reached the server behind the proxy as shown below.
With these fields authentik builds its addresses and decides who you are.</p>

<section>
<h2>What authentik would believe</h2>
<dl>
<div><dt>Client address</dt><dd class="value">$client</dd><small>$client_source</small></div>
<div><dt>Scheme</dt><dd class="value">$scheme</dd><small>$scheme_source</small></div>
<div><dt>Host</dt><dd class="value">$host</dd><small>$host_source</small></div>
<div class="wide"><dt>Absolute URL</dt><dd class="value">$url</dd></div>
</dl>
</section>

<section>
<h2>WebSocket <code>/ws/client/</code></h2>
<dl class="live">
<div><dt>State</dt><dd class="value" id="state" data-state="connecting" role="status">
connecting</dd></div>
<div><dt>Round trip</dt><dd class="value" id="trip">&ndash;</dd></div>
<div><dt>Messages</dt><dd class="value" id="count">0</dd></div>
</dl>
<ol id="log"></ol>
<p class="soft"><a href="/files">A hundred files at once</a>, beside another one.</p>
</section>

<section>
<h2>The request: $count header fields, in order</h2>
<p><code>$method $path $http_version</code></p>
<table style="margin-top: .75rem">
$headers</table>
</section>
</main>
<script>
const at = id => document.getElementById(id);
let count = 0, url = location.protocol.replace("http", "ws") + "//" + location.host + "/ws/client/";
function state(name, text) { at("state").dataset.state = name; at("state").textContent = text; }
function note(text) {
  const item = document.createElement("li");
  item.textContent = text;
  for (const other of at("log").children) other.className = "old";
  at("log").prepend(item);
  if (at("log").children.length > 5) at("log").lastChild.remove();
}
function connect() {
  state("connecting", "connecting");
  const socket = new WebSocket(url);
  let timer;
  const ask = () => socket.send(JSON.stringify({echo: performance.now()}));
  socket.onopen = () => { state("open", "open"); ask(); timer = setInterval(ask, 2000); };
  socket.onmessage = event => {
    const data = JSON.parse(event.data);
    if (data.echo !== undefined) {
      at("trip").textContent = (performance.now() - data.echo).toFixed(1) + " ms";
      return;
    }
    at("count").textContent = ++count;
    note(data.headers ? "handshake of " + data.client + " for " + data.scheme + "://" + data.host
      : new Date(data.time * 1000).toLocaleTimeString() + "  " + data.message);
  };
  socket.onclose = event => {
    clearInterval(timer);
    state("closed", "closed (" + event.code + "), again in 3 s");
    setTimeout(connect, 3000);
  };
}
connect();
</script>
</body>
</html>
""")

WAIT = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>$text</title>
<style>
$style</style>
</head>
<body>
<main>
<h1>$text</h1>
<p class="soft">This page asks again every five seconds.</p>
</main>
</body>
</html>
""")
