"""Writes the settings of nginx and becomes it."""

from __future__ import annotations

import os
import sys

SETTINGS = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    server {{
        listen {host}:{port};
        location = / {{ return 200 "Hello, World!"; }}
        location /files/ {{ alias {files}/; }}
    }}
}}
"""


def main(host: str, port: str, files: str) -> None:
    """Serves the files until the process is killed."""
    folder = os.path.join(os.path.dirname(files), "nginx")
    os.makedirs(folder, exist_ok=True)
    settings = os.path.join(folder, "nginx.conf")
    with open(settings, "w") as file:
        file.write(SETTINGS.format(folder=folder, host=host, port=port, files=files))
    # If root starts nginx, its worker changes to a user that may not read the files: here it stays root.
    user = ("-g", "user root;") if os.geteuid() == 0 else ()
    os.execvp("nginx", ["nginx", "-p", folder, "-c", settings, *user])


if __name__ == "__main__":
    main(*sys.argv[1:])
