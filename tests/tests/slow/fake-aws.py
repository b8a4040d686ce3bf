"""AWS as a machine sees it, in a network namespace of its own: endpoints, metadata service, a proxy.

Usage: fake-aws.py DIR. DIR holds good.pem and bad.pem (key and certificate), and files that a test may change at any time:
`metadata` (instance, bare, identity, refused, silent) and `skew` (seconds that the endpoints' clock is off).
"""

import email.utils
import http.server
import pathlib
import select
import socket
import socketserver
import ssl
import sys
import threading
import time

DIR = pathlib.Path(sys.argv[1])
LOCK = threading.Lock()
# Addresses by what they do; TEST-NET-3 stands for the internet.
INTERNET, PRIVATE, STRANGER, SILENT, SLOW, OLD = "203.0.113.5", "10.1.2.3", "203.0.113.6", "203.0.113.7", "203.0.113.9", "203.0.113.10"


def setting(name):
    return (DIR / name).read_text().strip()


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.pause:
            time.sleep(self.server.pause)
        host = self.headers.get("Host", "")
        # A bucket is a name or a path.
        host = self.path.removeprefix("/") or host
        status = 404 if host.startswith("missing.") else 301 if host.startswith("elsewhere.") else 403
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(time.time() + int(setting("skew")), usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        """Registers: the body is ID:CODE, the answer an instance's id."""
        identity, _, code = self.rfile.read(int(self.headers["Content-Length"])).decode().partition(":")
        with LOCK, open(DIR / "registrations", "a+") as file:
            file.seek(0)
            instance = f"mi-{len(file.readlines()) + 1:017x}"
            file.write(f"{identity} {code} {instance}\n")
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(instance)))
        self.end_headers()
        self.wfile.write(instance.encode())

    def log_message(self, *_):
        pass


class Metadata(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(time.time() + int(setting("skew")), usegmt=True)

    def do_PUT(self):
        if setting("metadata") == "refused":
            return self.send_error(403)
        self.reply("token" if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else None)

    def do_GET(self):
        mode = setting("metadata")
        known = {"placement/region": "eu-west-1"}
        if mode == "instance":
            known["iam/info"] = '{"Code":"Success","InstanceProfileArn":"arn:aws:iam::123456789012:instance-profile/p"}'
        if mode == "identity":
            known["identity-credentials/ec2/info"] = "{}"
        if self.headers.get("X-aws-ec2-metadata-token") != "token":
            return self.send_error(401)
        self.reply(known.get(self.path.removeprefix("/latest/meta-data/")))

    def reply(self, text):
        if text is None:
            return self.send_error(404)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        if self.headers.get("Proxy-Authorization") != "Basic dTpw":
            return self.send_error(407)
        with socket.create_connection((INTERNET, 443)) as upstream:
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: upstream, upstream: self.connection}
            while True:
                for one in select.select(list(pair), [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    pair[one].sendall(data)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    pause = 0

    def handle_error(self, *_):
        pass  # Clients that do not trust us hang up.


def serve(address, port, handler, certificate=None, pause=0):
    server = Server((address, port), handler)
    server.pause = pause
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DIR / certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


serve(INTERNET, 443, Endpoint, "good.pem")
serve(PRIVATE, 443, Endpoint, "good.pem")
serve(STRANGER, 443, Endpoint, "bad.pem")
serve(OLD, 443, Endpoint, "old.pem")
serve(SLOW, 443, Endpoint, "good.pem", 0.2)
serve("169.254.169.254", 80, Metadata)
serve("127.0.0.1", 3128, Proxy)
silent = socket.create_server((SILENT, 443))
print("ready", flush=True)
threading.Event().wait()
