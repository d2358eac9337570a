"""A small web application with a large hole.

`GET /` is its page, `POST /upload?name=N` stores a file, `GET /size?file=N` says how long a stored file is. The last
one pastes its parameter into a shell command: deliberately, as a stand-in for the next hole that nobody knows about.
"""

import http.server
import os
import socketserver
import subprocess
import urllib.parse

UPLOADS = "/var/lib/webapp/uploads"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/":
            self.answer(200, "Welcome to the file store.\n")
        elif url.path == "/size":
            command = f"wc -c {UPLOADS}/{query['file'][0]}"
            done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.answer(200, done.stdout.decode(errors="replace"))
        else:
            self.answer(404, "There is no such page.\n")

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        name = os.path.basename(urllib.parse.parse_qs(url.query)["name"][0])
        with open(f"{UPLOADS}/{name}", "wb") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])))
        os.chmod(f"{UPLOADS}/{name}", 0o755)
        self.answer(200, "Stored.\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True


os.makedirs(UPLOADS, exist_ok=True)
Server(("127.0.0.1", 8080), Handler).serve_forever()
