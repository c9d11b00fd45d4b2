"""Owns a page that loads a hundred small files at once, as authentik's interface does, beside a
WebSocket: what HTTP/2 is for. It shows which protocol carried what.

The page says what came of it in the data-result attribute of its root element, as JSON: loaded,
failed, protocols (name -> number of files), socket ("open", "closed", ...), messages.
"""

from __future__ import annotations

import re
from string import Template

from .page import STYLE

COUNT = 100
_FILE = re.compile(rb"/files/([0-9]{1,3})")


def file(path: bytes) -> bytes | None:
    """The content of /files/NUMBER, or None where there is none."""
    match = _FILE.fullmatch(path)
    if match is None or not 0 < int(match[1]) <= COUNT:
        return None
    return b"file %b of %d\n" % (match[1], COUNT) * 20


PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$count files</title>
<style>
$style
.files { display: grid; grid-template-columns: repeat(auto-fill, minmax(1.1rem, 1fr)); gap: 3px;
  margin: .75rem 0; }
.files i { height: 1.1rem; border-radius: 3px; background: var(--line); }
.files i.good { background: var(--good); }
.files i.bad { background: var(--mark); }
</style>
</head>
<body>
<main>
<h1>$count files at once</h1>
<p class="soft">What a browser does with authentik's interface: many small requests, and a WebSocket
that stays open. <a href="/">Back to the request</a></p>
<section>
<h2>Files</h2>
<div class="files" id="files"></div>
<p id="summary" role="status">loading</p>
</section>
<section>
<h2>WebSocket <code>/ws/client/</code></h2>
<p><span id="socket">connecting</span>, <span id="messages">0</span> messages</p>
</section>
</main>
<script>
const at = id => document.getElementById(id);
const result = {loaded: 0, failed: 0, protocols: {}, socket: "connecting", messages: 0};
function show() {
  at("socket").textContent = result.socket;
  at("messages").textContent = result.messages;
  document.documentElement.dataset.result = JSON.stringify(result);
}
performance.setResourceTimingBufferSize(1000);
async function load(number) {
  const cell = at("files").appendChild(document.createElement("i"));
  const url = "/files/" + number + "?" + Math.random();
  let good = false;
  try {
    const answer = await fetch(url);
    good = answer.ok && (await answer.text()).startsWith("file " + number + " ");
  } catch (error) { }
  cell.className = good ? "good" : "bad";
  good ? result.loaded++ : result.failed++;
  const [entry] = performance.getEntriesByName(new URL(url, location).href);
  const name = entry && entry.nextHopProtocol || "unknown";
  result.protocols[name] = (result.protocols[name] || 0) + 1;
  at("summary").textContent = result.loaded + " loaded, " + result.failed + " failed: "
    + Object.entries(result.protocols).map(([name, count]) => count + " over " + name).join(", ");
  show();
}
for (let number = 1; number <= $count; number++) load(number);
const socket = new WebSocket(location.protocol.replace("http", "ws") + "//" + location.host
  + "/ws/client/");
socket.onopen = () => { result.socket = "open"; show(); };
socket.onmessage = () => { result.messages++; show(); };
socket.onclose = event => { result.socket = "closed (" + event.code + ")"; show(); };
</script>
</body>
</html>
""")


def page() -> bytes:
    """The page."""
    return PAGE.substitute(style=STYLE, count=COUNT).encode()
