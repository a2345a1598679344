"""The part of Google Cloud Storage's JSON API that a store needs, in memory."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse


class FakeGcs:
    """A server of one process; `url` is where it listens, `objects` what it holds: (bucket, name) → bytes."""

    def __init__(self):
        self.objects = {}
        objects = self.objects

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, body=b"", kind="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def described(self, bucket, name):
                held = objects[bucket, name]
                return {
                    "kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(held)),
                    "generation": "1", "md5Hash": base64.b64encode(hashlib.md5(held).digest()).decode(),
                    "updated": "2026-01-01T00:00:00Z", "timeCreated": "2026-01-01T00:00:00Z",
                }  # fmt: skip

            def do_GET(self):
                url = urlparse(self.path)
                asked = parse_qs(url.query)
                listing = re.fullmatch(r"/storage/v1/b/([^/]+)/o/?", url.path)
                if listing:
                    return self.listed(listing[1], asked)
                found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)", url.path)
                key = (found[1], unquote(found[2])) if found else None
                if key not in objects:
                    return self.answer(404, b'{"error": {"code": 404, "message": "not found"}}')
                if asked.get("alt") != ["media"]:
                    return self.answer(200, json.dumps(self.described(*key)).encode())
                held, kind = objects[key], "application/octet-stream"
                span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
                if not span:
                    return self.answer(200, held, kind, x_goog_generation="1")
                first = int(span[1]) if span[1] else len(held) - int(span[2])
                last = min(int(span[2]), len(held) - 1) if span[1] and span[2] else len(held) - 1
                told = f"bytes {first}-{last}/{len(held)}"
                return self.answer(206, held[first : last + 1], kind, Content_Range=told, x_goog_generation="1")

            def listed(self, bucket, asked):
                prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
                items, prefixes = [], set()
                for held_bucket, name in sorted(objects):
                    if held_bucket == bucket and name.startswith(prefix):
                        rest = name[len(prefix) :]
                        if delimiter and delimiter in rest:
                            prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                        else:
                            items.append(self.described(bucket, name))
                return self.answer(200, json.dumps({"items": items, "prefixes": sorted(prefixes)}).encode())

            def do_POST(self):
                url = urlparse(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if url.path.startswith("/batch"):
                    return self.batched(body)
                bucket = re.match(r"/upload/storage/v1/b/([^/]+)/o", url.path)[1]
                mark = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
                _, about, content, _ = body.split(b"--" + mark)
                name = json.loads(about.split(b"\r\n\r\n" if b"\r\n\r\n" in about else b"\n\n", 1)[1])["name"]
                held = content.split(b"\r\n\r\n" if b"\r\n\r\n" in content else b"\n\n", 1)[1]
                objects[bucket, name] = held.removesuffix(b"\n").removesuffix(b"\r")
                return self.answer(200, json.dumps(self.described(bucket, name)).encode())

            def do_DELETE(self):
                found = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", urlparse(self.path).path)
                gone = objects.pop((found[1], unquote(found[2])), None)
                return self.answer(204 if gone is not None else 404)

            def batched(self, body):
                asked = re.findall(rb"DELETE (\S+)", body)
                parts = []
                for path in asked:
                    found = re.search(r"/b/([^/]+)/o/([^?]+)", path.decode())
                    gone = objects.pop((found[1], unquote(found[2])), None)
                    status = "204 No Content" if gone is not None else "404 Not Found"
                    parts.append(f"--x\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status}\r\n\r\n\r\n")
                return self.answer(200, ("".join(parts) + "--x--").encode(), 'multipart/mixed; boundary="x"')

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
