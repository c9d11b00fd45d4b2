"""Owns what is said of directives that become no setting, as far as their name alone tells.

A table of data: kind, where it belongs (a table of the configuration, "" for the site it stands
in), what is said, and the names. What is not here is unknown, and said to be lost.
"""

from __future__ import annotations

from attrs import frozen

from .draft import Kind
from .reading import Directive


@frozen
class Words:
    """What is said of a directive. home: a name of draft.TABLES, "" for where it stands."""

    kind: Kind
    home: str
    words: str


_TABLE = (
    (
        Kind.UNNEEDED, "",
        "The processes, their number, user and descriptors are authproxy's own business and the"
        " systemd unit's.",
        "user pid daemon master_process lock_file events use multi_accept accept_mutex"
        " worker_connections worker_rlimit_nofile worker_cpu_affinity worker_priority"
        " worker_shutdown_timeout worker_aio_requests load_module pcre_jit thread_pool"
        " timer_resolution env debug_points working_directory worker_rlimit_core http",
    ),
    (
        Kind.UNNEEDED, "",
        'The number of processes is its own, workers = "auto": nginx\'s may not fit.',
        "worker_processes",
    ),
    (
        Kind.UNNEEDED, "",
        "Nothing is buffered on disk or held back: content passes as it comes, in bounded memory.",
        "proxy_buffering proxy_request_buffering proxy_buffers proxy_busy_buffers_size"
        " proxy_max_temp_file_size proxy_temp_file_write_size proxy_temp_path client_body_temp_path"
        " client_body_buffer_size client_body_in_file_only client_body_in_single_buffer"
        " chunked_transfer_encoding output_buffers postpone_output sendfile_max_chunk"
        " proxy_limit_rate proxy_store proxy_ignore_client_abort client_header_buffer_size",
    ),
    (
        Kind.UNNEEDED, "",
        "How sockets are driven is settled: written at once, TCP keepalive on WebSockets.",
        "tcp_nodelay tcp_nopush sendfile aio directio reset_timedout_connection"
        " lingering_close lingering_time lingering_timeout proxy_socket_keepalive send_lowat"
        " proxy_send_lowat connection_pool_size request_pool_size keepalive_disable"
        " keepalive_min_timeout keepalive_time msie_padding msie_refresh",
    ),
    (
        Kind.UNNEEDED, "",
        "HTTP/1.1, persistent connections and unchanged content are the only way upstream is"
        " spoken to.",
        "proxy_http_version proxy_pass_request_headers proxy_pass_request_body proxy_cache"
        " proxy_no_cache proxy_cache_bypass proxy_headers_hash_max_size"
        " proxy_headers_hash_bucket_size proxy_cache_convert_head http2_push http2_push_preload"
        " http2_max_concurrent_streams proxy_force_ranges",
    ),
    (
        Kind.UNNEEDED, "",
        "authentik makes its URLs from the host and scheme that it is told, so there is nothing to"
        " rewrite on the way back.",
        "proxy_redirect proxy_cookie_domain proxy_cookie_path proxy_cookie_flags port_in_redirect"
        " absolute_redirect server_name_in_redirect",
    ),
    (
        Kind.UNNEEDED, "",
        "It has no meaning without files, variables or caches of nginx.",
        "include types default_type types_hash_max_size types_hash_bucket_size map_hash_max_size"
        " map_hash_bucket_size server_names_hash_max_size server_names_hash_bucket_size"
        " variables_hash_max_size variables_hash_bucket_size charset charset_map index autoindex"
        " open_file_cache open_file_cache_valid open_file_cache_errors open_file_cache_min_uses"
        " log_not_found log_subrequest open_log_file_cache proxy_cache_path proxy_cache_valid"
        " proxy_cache_key proxy_cache_use_stale proxy_cache_lock proxy_cache_revalidate"
        " proxy_cache_methods proxy_cache_min_uses proxy_cache_background_update root try_files"
        " etag if_modified_since expires fastcgi_buffers fastcgi_buffer_size"
        " uninitialized_variable_warn rewrite_log recursive_error_pages merge_slashes"
        " disable_symlinks set",
    ),
    (
        Kind.UNNEEDED, "",
        "There is no version and no name of a server product in what authproxy answers.",
        "server_tokens",
    ),
    (
        Kind.UNNEEDED, "",
        "Names are resolved anew for each connection to upstream, by the system's resolver.",
        "resolver resolver_timeout",
    ),
    (
        Kind.DIFFERENT, "",
        "Responses pass as authentik sends them: it compresses by itself.",
        "gzip gzip_types gzip_vary gzip_proxied gzip_comp_level gzip_min_length gzip_buffers"
        " gzip_http_version gzip_disable gzip_static gunzip brotli brotli_types brotli_comp_level"
        " brotli_static brotli_min_length zstd zstd_types zstd_comp_level",
    ),
    (
        Kind.DIFFERENT, "",
        "Upstreams are chosen by the fewest running requests. A failed connection is tried with the"
        " next one; a request is sent again only where that is safe.",
        "ip_hash hash random least_time fair sticky proxy_next_upstream proxy_next_upstream_tries"
        " proxy_next_upstream_timeout queue",
    ),
    (
        Kind.UNNEEDED, "",
        "That is how upstreams are chosen: by the fewest running requests.",
        "least_conn zone",
    ),
    (
        Kind.UNNEEDED, "pool",
        "Connections to upstream are kept by the pool, with limits of its own that suit authentik.",
        "keepalive_timeout/upstream keepalive_requests/upstream keepalive_time/upstream"
        " proxy_ssl_session_reuse",
    ),
    (
        Kind.DIFFERENT, "",
        "Error pages for a failed connection are authproxy's own; those of authentik pass.",
        "error_page proxy_intercept_errors",
    ),
    (
        Kind.DIFFERENT, "tls",
        "Suites, curves, sessions and staples are fixed to what is good today: TLS 1.3, for 1.2"
        " only suites with forward secrecy and AEAD; no stapling.",
        "ssl_ciphers ssl_prefer_server_ciphers ssl_ecdh_curve ssl_dhparam ssl_conf_command"
        " ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_session_ticket_key"
        " ssl_buffer_size ssl_early_data ssl_stapling ssl_stapling_verify ssl_stapling_file"
        " ssl_stapling_responder ssl_trusted_certificate ssl_handshake_timeout"
        " ssl_certificate_cache proxy_ssl_ciphers proxy_ssl_protocols proxy_ssl_verify_depth"
        " proxy_ssl_conf_command",
    ),
    (
        Kind.LOST, "listen", "There is no HTTP/3 here: browsers use HTTP/2.",
        "quic_retry quic_gso quic_host_key quic_active_connection_id_limit http3 http3_hq"
        " http3_max_concurrent_streams http3_stream_buffer_size",
    ),
    (
        Kind.DIFFERENT, "listen",
        "HTTP/2's limits are settings of [limits], with defaults for authentik.",
        "http2_recv_timeout http2_idle_timeout http2_max_field_size http2_max_header_size"
        " http2_max_requests http2_body_preread_size http2_chunk_size http2_recv_buffer_size",
    ),
    (
        Kind.UNNEEDED, "log",
        "Messages go to stderr, in the journal under the unit's name. The access log is combined"
        " (with four columns more) or JSON.",
        "error_log log_format",
    ),
    (
        Kind.UNNEEDED, "timeouts",
        "A client must take what it is sent at a minimum rate, and so must upstream:"
        " timeouts.write_stall.",
        "proxy_send_timeout",
    ),
    (
        Kind.DIFFERENT, "",
        "Request fields with other characters than letters, digits and - are left out.",
        "underscores_in_headers ignore_invalid_headers",
    ),
    (
        Kind.DIFFERENT, "trust",
        "The list of addresses is always walked from the right, past those that are trusted.",
        "real_ip_recursive",
    ),
    (
        Kind.ATTENTION, "tls",
        "Clients are not asked for certificates: whoever had to show one no longer has to.",
        "ssl_verify_client ssl_client_certificate ssl_verify_depth ssl_crl ssl_ocsp ssl_ocsp_cache"
        " ssl_ocsp_responder",
    ),
    (
        Kind.ATTENTION, "",
        "There are no passwords in front of authentik here: its own flows and policies have to"
        " protect this.",
        "auth_basic auth_basic_user_file auth_request auth_request_set auth_jwt auth_jwt_key_file"
        " auth_delay auth_digest satisfy",
    ),
    (
        Kind.ATTENTION, "limits",
        "Requests are not counted by rate: authentik's reputation policy slows down guessing, and"
        " limits.unproven_per_address bounds new connections of an address.",
        "limit_req limit_req_zone limit_req_status limit_req_log_level limit_req_dry_run limit_conn"
        " limit_conn_zone limit_conn_status limit_conn_log_level limit_conn_dry_run limit_rate"
        " limit_rate_after",
    ),
    (
        Kind.ATTENTION, "",
        "Requests are not filtered by this: what it kept out now reaches authentik.",
        "modsecurity modsecurity_rules modsecurity_rules_file naxsi geo geoip_country geoip_city"
        " geoip2 secure_link secure_link_md5 valid_referers limit_except access_by_lua"
        " access_by_lua_block access_by_lua_file rewrite_by_lua_block rewrite_by_lua_file"
        " app_protect_enable",
    ),
    (
        Kind.ATTENTION, "",
        "Conditions and rewrites cannot be expressed: every request of the site goes to upstream"
        " as the client sent it.",
        "if rewrite break return",
    ),
    (
        Kind.LOST, "",
        "Only what nginx needs to know upstream's connection by: authproxy has no client"
        " certificate for upstream, and no revocation list.",
        "proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_password_file proxy_ssl_crl",
    ),
    (
        Kind.LOST, "",
        "Fields of responses are authentik's own and pass; only Strict-Transport-Security is set"
        " here. authentik sends X-Frame-Options and the like itself.",
        "add_header add_trailer more_set_headers more_clear_headers proxy_hide_header"
        " proxy_pass_header proxy_ignore_headers more_set_input_headers",
    ),
    (
        Kind.LOST, "",
        "The content of responses passes unchanged.",
        "sub_filter sub_filter_once sub_filter_types sub_filter_last_modified addition_types"
        " add_before_body add_after_body ssi image_filter mirror mirror_request_body",
    ),
    (
        Kind.LOST, "",
        "HTTP alone is proxied here: leave other protocols, such as those of outposts, with nginx.",
        "stream mail",
    ),
    (
        Kind.LOST, "",
        "Variables are not known here.",
        "map split_clients perl_set js_set js_import js_path js_content perl perl_modules",
    ),
    (
        Kind.LOST, "",
        "Whom upstream sees as its peer is for the system's routes to decide.",
        "proxy_bind proxy_method proxy_set_body proxy_protocol",
    ),
)  # fmt: skip

_BY_NAME = {
    name: Words(kind, home, words) for kind, home, words, names in _TABLE for name in names.split()
}
_UNKNOWN = Words(Kind.LOST, "", "This is not known here, and not done.")
_LUA = Words(Kind.LOST, "", "Lua is not run here: what it did is not done.")

_UPGRADE = Words(
    Kind.UNNEEDED, "",
    "WebSockets are recognised: Upgrade and Connection are set for them, and for nothing else.",
)  # fmt: skip
_OTHER_HOSTS = Words(Kind.UNNEEDED, "", "Hosts that no site has get a 421 in any case.")
_SAME_HOST = Words(Kind.UNNEEDED, "", "Host goes upstream as the client sent it, with its port.")
_OTHER_HOST = Words(
    Kind.DIFFERENT, "",
    "Host goes upstream as the client sent it, with its port: authentik makes its URLs from it.",
)  # fmt: skip
_PROTO = Words(Kind.UNNEEDED, "", "X-Forwarded-Proto is always the client's scheme.")
_PASSED_PROTO = Words(
    Kind.DIFFERENT, "trust",
    "What a peer says in X-Forwarded-* is believed if its address is in proxies; without that"
    " authentik is told the scheme and address of the connection itself.",
)  # fmt: skip
_FIXED_PROTO = Words(
    Kind.DIFFERENT, "trust",
    "X-Forwarded-Proto is not fixed: it is https on https listeners; on http ones it is what a"
    " proxy in `proxies` says.",
)  # fmt: skip
_APPENDED = Words(
    Kind.DIFFERENT, "",
    "X-Forwarded-For is one address, that of the client: the list that nginx appended to can be"
    ' forged. x_forwarded_for = "append" sends the list of believed proxies.',
)  # fmt: skip
_ADDRESS = Words(Kind.UNNEEDED, "", "X-Forwarded-For is always the client's address.")
_IDENTITY = Words(
    Kind.UNNEEDED, "",
    "authentik does not read these, or they are always set; a client's own are removed.",
)  # fmt: skip
_NO_FIELDS = Words(
    Kind.LOST, "",
    "Fields cannot be added to requests, or taken from them.",
)  # fmt: skip

_IDENTITIES = (
    "x-real-ip", "x-forwarded-host", "x-forwarded-port", "x-forwarded-ssl", "x-forwarded-server",
    "x-forwarded-scheme", "x-scheme", "x-original-url", "x-original-uri", "x-forwarded-uri",
    "x-forwarded-method", "x-client-verify", "x-url-scheme", "front-end-https", "forwarded", "via",
    "x-forwarded-protocol", "x-nginx-proxy", "proxy", "early-data", "x-original-host",
)  # fmt: skip


def said_of(directive: Directive, parent: str) -> Words:
    """What is said of a directive inside a block of this name."""
    if directive.name == "proxy_set_header" and len(directive.args) == 2:
        return _field(directive.args[0].lower(), directive.args[1])
    if directive.name == "if" and _refuses_hosts(directive):
        return _OTHER_HOSTS
    if directive.name == "map" and directive.args[:1] == ("$http_upgrade",):
        return _UPGRADE
    by_place = _BY_NAME.get(f"{directive.name}/{parent}")
    if by_place is not None:
        return by_place
    lua = _LUA if "_by_lua" in directive.name or directive.name.startswith("lua_") else _UNKNOWN
    return _BY_NAME.get(directive.name, lua)


def _refuses_hosts(directive: Directive) -> bool:
    """Whether a condition does no more than refuse other hosts than one."""
    inner = directive.block or ()
    return directive.args[:2] in (("$host", "!="), ("$http_host", "!=")) and all(
        d.name == "return" and d.args[:1] and d.args[0] in ("403", "404", "421", "444")
        for d in inner
    )


def _field(name: str, value: str) -> Words:
    """Of a field that nginx set in requests."""
    if name in ("upgrade", "connection"):
        return _UPGRADE
    if name == "host":
        return _SAME_HOST if "$http_host" in value or "$host" in value else _OTHER_HOST
    if name == "x-forwarded-proto":
        if value == "$scheme":
            return _PROTO
        return _PASSED_PROTO if "$" in value else _FIXED_PROTO
    if name == "x-forwarded-for":
        if value in ("$remote_addr", "$realip_remote_addr", "$proxy_protocol_addr"):
            return _ADDRESS
        return _PASSED_PROTO if "$http_" in value else _APPENDED
    if name == "accept-encoding":
        return _BY_NAME["gzip"]
    if name in _IDENTITIES:
        return _IDENTITY
    return _NO_FIELDS
