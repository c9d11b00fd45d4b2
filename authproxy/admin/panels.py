"""Owns the panels of the status page, each a function from the report to HTML.

Pure. What is not a number kept current by page.js makes another revision when it changes, and the
page is drawn anew (report.py).
"""

from __future__ import annotations

from .charts import HEIGHT, WIDTH, area, line, top_of
from .formats import moment, shown
from .history import EVERY, KEEP
from .in_force import Section
from .pieces import Live, bar, card, figures, rows, state, text
from .recent import Fault
from .report import Named, Report, SiteReport

SPAN = f"{EVERY * KEEP / 60:.0f} min ago"


def alarm(report: Report) -> str:
    """Why it is not ready."""
    if not report.reasons:
        return ""
    if report.state == "draining":
        title = "Draining: what is open is finished, nothing new begins"
        return f'<section class="card alarm warning" role="status"><h3>{title}</h3></section>'
    lines = "".join(f"<li>{text(reason)}</li>" for reason in report.reasons)
    return f'<section class="card alarm" role="status"><h3>Not ready</h3><ul>{lines}</ul></section>'


def refused_reload(report: Report) -> str:
    """Why the settings in force are not those of the file."""
    last = report.last_reload
    if last is None or not last.problem:
        return ""
    lines = "".join(f"<li>{text(line)}</li>" for line in last.problem.splitlines())
    title = f"The reload of {moment(last.at)} UTC was refused: the settings before it are in force"
    return (
        f'<section class="card alarm warning" role="status"><h3>{title}</h3><ul>{lines}</ul>'
        '<p class="soft">Correct the file, test it with authproxy check, then reload again.</p>'
        "</section>"
    )


def tiles(report: Report, live: Live) -> str:
    """What one wants to see first."""
    wide = [
        ("Requests", live.number("requests_per_second", "rate") + "<small>/s</small>",
         live.number("requests", "count") + " in all"),
        ("Latency, median", live.number("last_minute.p50", "duration"),
         "99 % within " + live.number("last_minute.p99", "duration")),
        ("Errors (5xx)", live.number("last_minute.error_share", "share"),
         "in the last minute"),
        ("Under way", live.number("under_way", "count"),
         live.number("pool.waiting", "count") + " wait for upstream"),
        ("Connections", live.number("connections", "count"),
         live.number("http2_streams", "count") + " HTTP/2 streams"),
        ("WebSockets", live.number("websockets", "count"), "open"),
        ("Workers", live.number("workers", "count"),
         live.number("worker_restarts", "count") + " restarted"),
    ]  # fmt: skip
    inner = (card(f"<b>{value}</b><small>{under}</small>", name) for name, value, under in wide)
    return f'<div class="grid tiles">{"".join(inner)}</div>'


def charts(report: Report) -> str:
    """The last quarter of an hour."""
    drawn = (
        _chart(report, "Requests a second", "rate",
               [("requests", "one", "all"), ("errors", "bad-line", "5xx")], filled=True),
        _chart(report, "Latency", "duration",
               [("p50", "one", "median"), ("p99", "two", "99 %")]),
        _chart(report, "Open", "count",
               [("websockets", "one", "WebSockets"), ("connections", "two", "connections")]),
    )  # fmt: skip
    return f'<div class="grid three">{"".join(drawn)}</div>'


def _chart(
    report: Report, title: str, form: str, lines: list[tuple[str, str, str]], filled: bool = False
) -> str:
    names = [name for name, _, _ in lines]
    series = {name: getattr(report.history, name) for name in names}
    top = top_of(*series.values())
    drawn, legend = "", ""
    for name, kind, words in lines:
        if filled:
            fill = "fill-bad" if kind == "bad-line" else "fill"
            drawn += (
                f'<path class="{fill}" data-series="{name}" data-draw="area"'
                f' d="{area(series[name], top)}"/>'
            )
        path = line(series[name], top)
        drawn += f'<path class="{kind}" data-series="{name}" data-draw="line" d="{path}"/>'
        last = series[name][-1] if series[name] else None
        now = f'<b class="is" data-last="{name}">{text(shown(form, last))}</b>'
        at = f'<b class="at" data-name="{name}"></b>'
        legend += f'<span class="{kind}"><i></i>{text(words)} {now}{at}</span>'
    said = ", ".join(f"{words} {shown(form, (series[n] or [None])[-1])}" for n, _, words in lines)
    axes = f"M0 0H{WIDTH}M0 {HEIGHT // 2}H{WIDTH}M0 {HEIGHT}H{WIDTH}"
    content = (
        f'<div class="frame"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
        f' role="img" aria-label="{text(title)}: {text(said)}"><path class="axis" d="{axes}"/>'
        f'{drawn}<path class="cross" d=""/></svg>'
        f'<span class="top">{text(shown(form, top))}</span><span class="ago"></span></div>'
        f'<div class="under"><span>{SPAN}</span><span>now</span></div>'
    )
    head = (
        f'<div class="head"><h2>{text(title)}</h2><div class="legend">{legend}</div></div>{content}'
    )
    return (
        f'<section class="card chart" data-chart="{" ".join(names)}" data-f="{form}">{head}'
        "</section>"
    )


def sites(report: Report, live: Live) -> str:
    """Each site with its upstreams and its certificate."""
    drawn = (_site(report, site, number, live) for number, site in enumerate(report.sites))
    only = " only" if len(report.sites) == 1 else ""
    return f'<div class="grid sites{only}">{"".join(drawn)}</div>'


def _site(report: Report, site: SiteReport, number: int, live: Live) -> str:
    minute = f"sites.{number}.last_minute"
    hosts = ", ".join(site.hosts) or "any host"
    upstreams = [
        (
            f'<span class="code">{text(upstream.name)}</span>'
            + _workers(upstream.workers_up, upstream.workers),
            state(upstream.state),
        )
        for upstream in site.upstreams
    ]
    numbers = figures([
        ("Requests", live.number(f"sites.{number}.requests", "count")),
        ("a second", live.number(f"{minute}.requests", "rate")),
        ("5xx", live.number(f"{minute}.error_share", "share")),
        ("Median", live.number(f"{minute}.p50", "duration")),
        ("99 %", live.number(f"{minute}.p99", "duration")),
        ("Upstream's first byte", live.number(f"{minute}.first_byte_p50", "duration")),
    ])  # fmt: skip
    head = f'<div class="head"><h3>{text(hosts)}</h3>{state(site.state)}</div>'
    table = f'<div class="line">{rows(upstreams)}</div>'
    return card(head + numbers + table + _certificate(report, number))


def _workers(up: int | None, workers: int) -> str:
    if up is None or up in (0, workers):
        return ""
    return f" <small>seen by {up} of {workers} workers</small>"


def _certificate(report: Report, number: int) -> str:
    if number >= len(report.certificates):
        return ""
    its = report.certificates[number]
    kind = {"valid": "good", "expires soon": "warn"}.get(its.state, "bad")
    days = f"{its.days_left} day{'' if its.days_left == 1 else 's'} left"
    if its.days_left < 0:
        days = "no day left"
    who = "self-signed" if its.self_signed else f"issued by {its.issuer}"
    names = ", ".join(its.names) or "no name"
    notes = "".join(f'<p class="warn">{text(note)}</p>' for note in its.notes)
    return (
        f'<div class="line"><div class="head"><span>Certificate, <b>{days}</b></span>'
        f"{state(its.state)}</div>{bar(its.days_left / its.lifetime_days, kind)}"
        f"<p><small>{text(names)}; {text(who)},"
        f' <span class="date">until {text(its.not_after[:10])}</span></small></p>'
        f"{notes}</div>"
    )


def tables(report: Report, live: Live) -> str:
    """The pool, and who asked for what."""
    drawn = [
        _pool(live),
        _counts(live, "Requests by status", "requests_by_status", report.requests_by_status,
                "requests"),
        _counts(live, "By HTTP version", "requests_by_version", report.requests_by_version,
                "requests", "HTTP/"),
        _counts(live, "By method", "requests_by_method", report.requests_by_method, "requests"),
        _counts(live, "WebSockets by path", "websockets_by_path", report.websockets_by_path,
                "websockets"),
        _counts(live, "Refused requests", "refused", report.refused),
        _counts(live, "Connections that failed early", "failed_openings", report.failed_openings),
    ]  # fmt: skip
    return f'<div class="columns">{"".join(drawn)}</div>'


def _pool(live: Live) -> str:
    names = (
        ("Idle", "idle"), ("In use", "leased"), ("Being opened", "dialling"),
        ("Requests that wait", "waiting"), ("Opened since the start", "dials"),
        ("Requests on a kept connection", "reuses"), ("Requests sent again", "retries"),
    )  # fmt: skip
    counted = [(text(words), live.number(f"pool.{name}", "count")) for words, name in names]
    traffic = [
        ("Content from clients", live.number("last_minute.received", "octets")),
        ("Content to clients", live.number("last_minute.sent", "octets")),
    ]
    return card(rows(counted + traffic), "Connections to upstream")


def _counts(
    live: Live, title: str, path: str, named: tuple[Named, ...], whole: str = "", prefix: str = ""
) -> str:
    """A table of counts, or nothing where there are none."""
    if not named:
        return ""
    lines = ""
    for number, row in enumerate(named):
        place = f"{path}.{number}.value"
        label = text(prefix + row.name if row.name[:1].isdigit() else row.name)
        kind = f"s{row.name}" if row.name in ("4xx", "5xx") else ""
        part = live.bar(place, whole, kind) if whole else ""
        lines += f"<div><dt>{label}</dt><dd>{live.number(place, 'count')}</dd>{part}</div>"
    return card(f'<dl class="counts">{lines}</dl>', title)


def faults(report: Report) -> str:
    """The last warnings and errors, with what to do."""
    if not report.errors:
        content = '<p class="soft">No warning and no error since the start.</p>'
    else:
        content = f'<ol class="faults">{"".join(map(_fault, report.errors))}</ol>'
    return f'<div class="grid">{card(content, "Last errors")}</div>'


def _fault(fault: Fault) -> str:
    kind = "warn" if fault.level == "warn" else "bad"
    words = "warning" if fault.level == "warn" else fault.level
    times = f" &times; {fault.count}" if fault.count > 1 else ""
    where = f"<br>worker {fault.worker}" if fault.worker else ""
    sentences, *lines = fault.text.split("\n")
    said, dot, cure = sentences.partition(". ")
    more = f'<p class="soft">{text(cure)}</p>' if cure else ""
    more += "".join(f'<p class="code">{text(line.strip())}</p>' for line in lines)
    return (
        f'<li><div><span class="state {kind}">{words}{times}</span>'
        f'<div class="when">{moment(fault.last)}{where}</div></div>'
        f'<div><p class="said">{text(said + dot.strip())}</p>{more}</div></li>'
    )


def settings(report: Report) -> str:
    """What is in force."""
    where = report.settings_file or "the built-in defaults"
    since = ""
    if report.last_reload is not None and not report.last_reload.problem:
        since = f", reloaded {moment(report.last_reload.at)} UTC"
    inner = "".join(map(_section, report.settings))
    return (
        '<details class="card" id="settings"><summary>Settings in force, from '
        f'<span class="code">{text(where)}</span>{since}</summary>'
        '<p class="soft">Bold: not the default.</p>'
        f'<div class="settings">{inner}</div></details>'
    )


def _section(section: Section) -> str:
    lines = "".join(
        f'<tr class="{"set" if setting.changed else ""}"><th scope="row">{text(setting.name)}</th>'
        f"<td>{text(setting.value)}</td></tr>"
        for setting in section.settings
    )
    title = f"<h3>{text(section.name)}</h3>" if section.name else ""
    return f"<section>{title}<table><tbody>{lines}</tbody></table></section>"
