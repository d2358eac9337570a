"""A small service that computes with extension modules, with three holes.

`GET /` fits a line with numpy, keeps the result with sqlite3 and signs it with OpenSSL. `/run` runs a command, `/read`
reads a file and `/call` connects to an address, each named by the request; `/load` loads an extension module.
"""

import ctypes
import hashlib
import hmac
import http.server
import socket
import sqlite3
import ssl
import subprocess
import urllib.parse

import numpy

DATABASE = "/var/lib/forecast/forecast.db"


def forecast(_):
    hours = numpy.arange(2000, dtype=numpy.float64)
    slope, start = numpy.polyfit(hours, 3 * hours + 7, 1)
    inverse = numpy.linalg.inv(numpy.array([[2.0, 1.0], [1.0, 1.0]]))
    with sqlite3.connect(DATABASE) as database:
        database.execute("CREATE TABLE IF NOT EXISTS fits (slope REAL, start REAL)")
        database.execute("INSERT INTO fits VALUES (?, ?)", (slope, start))
        (count,) = database.execute("SELECT count(*) FROM fits WHERE slope > 2.9").fetchone()
    ciphers = len(ssl.create_default_context().get_ciphers())
    signature = hmac.new(b"key", str(count).encode(), hashlib.sha256).hexdigest()
    return f"slope {slope:.2f} start {start:.2f} corner {inverse[0, 0]:.1f} kept {count > 0} {ciphers > 0} {signature}"


def run(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout


def read(file):
    with open(file, encoding="utf-8") as opened:
        return opened.read()


def call(address):
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        return f"connected to {connection.getpeername()[1]}"


def load(file):
    return f"loaded {ctypes.CDLL(file)._handle != 0}"


PAGES = {"/": forecast, "/run": run, "/read": read, "/call": call, "/load": load}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        try:
            answer = PAGES[url.path](urllib.parse.unquote(url.query))
        except OSError as error:
            answer = f"failed: {error}"
        body = answer.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 8082), Handler).serve_forever()
