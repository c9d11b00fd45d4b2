"""The configurations of the proxies, as templates of str.format.

All have one worker on one processor, an access log in a file, keep-alive without end on both sides,
TLS 1.3 to the client, HSTS and the forwarding fields of authentik's reverse-proxy page. The
certificate of the upstream, which is on loopback, is not verified.

nginx has that page's configuration, with these differences: 32 connections kept to the upstream
instead of 10 (with 32 requests at a time it would dial for most of them), no limit of a request's
content (its default refuses what has more than 1 MiB), more connections than 512 for its worker.
Contents go through its temporary files where they are large, as on the page. Caddy keeps its
defaults towards the upstream: naming any keep-alive setting would leave it two idle connections.
HAProxy may use most of its descriptors: by default it closes upstream connections when a quarter is
in use, as with 5,000 clients, and then dials for every request.
"""

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ worker_connections 16384; }}
http {{
  client_body_temp_path {dir}/p-b; proxy_temp_path {dir}/p-p;
  fastcgi_temp_path {dir}/p-f; uwsgi_temp_path {dir}/p-u; scgi_temp_path {dir}/p-s;
  access_log {log}; keepalive_requests 1000000000; client_max_body_size 0;
  map $http_upgrade $connection_upgrade_keepalive {{ default upgrade; '' ''; }}
  upstream authentik {{
    server 127.0.0.1:{upstream}; keepalive 32; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} {ssl} backlog=4096; {certificate}
    add_header Strict-Transport-Security "max-age=63072000" always;
    location / {{
      proxy_pass {scheme}://authentik; proxy_http_version 1.1;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade_keepalive;
    }}
  }}
}}
"""
NGINX_TLS = (
    "ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.3;"
)
HAPROXY = """
global
  nbthread 1
  maxconn 9000
  log stdout format raw local0
  ssl-server-verify none
  tune.pool-low-fd-ratio 80
  tune.pool-high-fd-ratio 90
defaults
  mode http
  log global
  option httplog
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:{port} backlog 4096 {ssl}
  http-request set-header X-Forwarded-Proto {scheme}
  http-response set-header Strict-Transport-Security max-age=63072000
  default_backend authentik
backend authentik
  server one 127.0.0.1:{upstream} {upstream_ssl}
"""
CADDY_TLS = """tls {dir}/cert.pem {dir}/key.pem {{
    protocols tls1.3
  }}"""
CADDY = """
{{
  admin off
  auto_https off
  default_sni localhost
  servers {{
    protocols h1 h2
  }}
  log {{
    output file {dir}/caddy.err
    level ERROR
  }}
}}
{scheme}://:{port} {{
  bind 127.0.0.1
  {certificate}
  log {{
    output file {log} {{
      roll_disabled
    }}
  }}
  header Strict-Transport-Security max-age=63072000
  reverse_proxy {scheme}://127.0.0.1:{upstream} {{
    transport http {{
      {upstream_tls}
    }}
  }}
}}
"""
AUTHPROXY = """
workers = {workers}
[listen]
{listen}
admin = ""
plain_http = "serve"
[log]
access = "{log}"
[limits]
requests_per_connection = 1000000000
unproven_per_address = 100000
[[site]]
upstream = "{scheme}://127.0.0.1:{upstream}"
upstream_verify = "off"
{certificate}
"""
AUTHPROXY_TLS = """certificate = "{dir}/cert.pem"
private_key = "{dir}/key.pem"
"""
