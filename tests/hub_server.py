"""A Hub of its own on the loopback: an HTTP server that speaks as much of the Hub's protocol as pushing, loading and
`hf upload` need, keeps its repositories in memory, and misbehaves on demand.

Point a process at it with `HF_ENDPOINT=server.url HF_TOKEN=hf_writer HF_HOME=<empty folder>`. Files are regular ones
unless `server.lfs` is set: then those of 1 kB and more go through the LFS batch protocol (a client with
HF_HUB_DISABLE_XET=1; Xet's own protocol is not spoken here).
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


WRITER, READER = "hf_writer", "hf_reader"  # a token that may write, and one that may only read
NAMESPACES = ("me", "org")  # where WRITER may create


@dataclass
class Repository:
    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, list[str]]] = field(default_factory=list)
    """Message and paths of each commit."""

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()


@dataclass
class Fault:
    """What happens to requests whose "METHOD path" the pattern matches, `times` times, after `after` good ones."""

    pattern: str
    status: int | None = None  # answer with this; or
    action: str = ""  # "hang": say nothing until the server closes; "die": cut the connection in the middle
    times: int = 1_000_000
    after: int = 0
    retry_after: int | None = 0


class HubServer:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}  # LFS objects by sha256
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lfs = False
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def environment(self, home, token: str = WRITER) -> dict[str, str]:
        """What makes a process talk to this server, as `token`, with an empty cache in the folder `home`."""
        return {
            "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def create(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def fails(self, pattern: str, **what) -> None:
        self.faults.append(Fault(pattern, **what))

    def heal(self) -> None:
        self.faults.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *args) -> None:
        pass

    # ---- answering ----

    def answer(self, status: int, content: bytes | dict | list = b"", headers: dict[str, str] | None = None) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer(status, {"error": message}, headers)

    def handle_one(self) -> None:
        path = unquote(urlsplit(self.path).path)
        call = f"{self.command} {path}"
        self.hub.requests.append(call)
        for fault in self.hub.faults:
            if re.search(fault.pattern, call) and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return self.misbehave(fault)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.read_chunked()
        for pattern, method in _ROUTES:
            if found := re.fullmatch(pattern, call):
                return method(self, *found.groups(), body=body)
        self.refuse(404, f"no such page: {call}")

    do_GET = do_POST = do_PUT = do_HEAD = handle_one

    def read_chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def misbehave(self, fault: Fault) -> None:
        if fault.action == "hang":
            self.hub.closing.wait(300)
            self.close_connection = True
        elif fault.action == "die":  # in the middle: half of what is sent is read, nothing is answered
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.connection.close()
            self.close_connection = True
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            message = {401: "Invalid credentials in Authorization header", 409: "a newer commit was pushed meanwhile"}
            self.answer(
                fault.status,
                {"error": message.get(fault.status, "made to fail")},
                {"X-Error-Message": message.get(fault.status, "made to fail"), **headers},
            )

    # ---- who asks, and for what ----

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        if self.token == WRITER:
            return True
        if self.token == READER:
            self.refuse(403, "You don't have the required permissions to perform this operation")
        else:
            self.refuse(401, "Invalid credentials in Authorization header")
        return False

    def repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if self.token not in ("", WRITER, READER):
            self.refuse(401, "Invalid credentials in Authorization header")
        elif found is None or (found.private and not self.token):
            self.refuse(401 if not self.token else 404, "Repository not found", "RepoNotFound")
        else:
            return found
        return None

    # ---- pages ----

    def create(self, body: bytes) -> None:
        asked = {"type": "model", **json.loads(body)}
        if not self.may_write():
            return
        owner = asked["organization"] or NAMESPACES[0]
        if owner not in NAMESPACES:
            return self.refuse(
                403, f"You don't have the rights to create a {asked['type']} under the namespace {owner!r}"
            )
        name = f"{asked['type']}s/{owner}/{asked['name']}"
        reply = {"url": f"{self.hub.url}/{name.removeprefix('models/')}", "name": f"{owner}/{asked['name']}"}
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this repo", **reply})
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.answer(200, reply)

    def auth_check(self, name: str, body: bytes) -> None:
        if self.may_write() and self.repository(name):
            self.answer(200, {})

    def whoami(self, body: bytes) -> None:
        if self.may_write():
            self.answer(200, {"type": "user", "name": NAMESPACES[0], "orgs": [], "auth": {}})

    def validate_yaml(self, body: bytes) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, body: bytes) -> None:
        if not (self.may_write() and (repository := self.repository(name))):
            return
        files = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if self.hub.lfs and file["size"] >= 1000 else "regular"
            known = repository.files.get(file["path"])
            entry = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if known is not None:
                entry["oid"] = _git_oid(known) if mode == "regular" else hashlib.sha256(known).hexdigest()
            files.append(entry)
        self.answer(200, {"files": files})

    def commit(self, name: str, body: bytes) -> None:
        if not (self.may_write() and (repository := self.repository(name))):
            return
        lines = [json.loads(line) for line in body.splitlines()]
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    return self.refuse(400, f"no LFS object {value['oid']}")
                files[value["path"]] = self.hub.blobs[value["oid"]]
        repository.files |= files
        repository.commits.append((lines[0]["value"]["summary"], sorted(files)))
        url = f"{self.hub.url}/{name.removeprefix('models/')}/commit/{repository.sha}"
        self.answer(200, {"commitUrl": url, "commitOid": repository.sha, "success": True})

    def lfs_batch(self, body: bytes) -> None:
        if not self.may_write():
            return
        objects = []
        for item in json.loads(body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
            objects.append(entry)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.refuse(400, "the content does not have this sha256")
        self.hub.blobs[oid] = body
        self.answer(200)

    def info(self, name: str, body: bytes) -> None:
        if repository := self.repository(name):
            kind, ident = name.split("/", 1)
            siblings = [{"rfilename": path} for path in sorted(repository.files)]
            content = {"id": ident, "sha": repository.sha, "private": repository.private, "siblings": siblings}
            content |= {"tags": [], "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}
            self.answer(200, content | ({"modelId": ident} if kind == "models" else {}))

    def tree(self, name: str, folder: str | None, body: bytes) -> None:
        if repository := self.repository(name):
            prefix = f"{folder}/" if folder else ""
            inside = {path: data for path, data in repository.files.items() if path.startswith(prefix)}
            if not inside:
                return self.refuse(404, "no such folder", "EntryNotFound")
            recursive = "recursive=true" in self.path.lower() or "recursive=1" in self.path
            entries = {}
            for path, data in sorted(inside.items()):
                head, slash, _ = path[len(prefix) :].partition("/")
                if slash:
                    entries[prefix + head] = {"type": "directory", "path": prefix + head, "oid": "0" * 40, "size": 0}
                if recursive or not slash:
                    entries[path] = {"type": "file", "path": path, "oid": _git_oid(data), "size": len(data)}
            self.answer(200, list(entries.values()))

    def paths_info(self, name: str, body: bytes) -> None:
        if repository := self.repository(name):
            asked = (
                json.loads(body)["paths"]
                if body.startswith(b"{")
                else re.findall("paths=([^&]*)", unquote(body.decode()))
            )
            found = [path for path in asked if path in repository.files]
            self.answer(
                200,
                [
                    {"type": "file", "path": p, "oid": _git_oid(repository.files[p]), "size": len(repository.files[p])}
                    for p in found
                ],
            )

    def resolve(self, kind: str | None, name: str, path: str, body: bytes) -> None:
        if not (repository := self.repository(f"{kind or 'models'}/{name}")):
            return
        if path not in repository.files:
            return self.refuse(404, "Entry not found", "EntryNotFound")
        data = repository.files[path]
        self.answer(200, data, {"X-Repo-Commit": repository.sha, "ETag": f'"{_git_oid(data)}"'})


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"((?:models|datasets)/[^/]+/[^/]+)"
_ROUTES = [
    (r"POST /api/repos/create", _Handler.create),
    (rf"GET /api/{_NAME}/auth-check/write", _Handler.auth_check),
    (r"GET /api/whoami-v2", _Handler.whoami),
    (r"POST /api/validate-yaml", _Handler.validate_yaml),
    (rf"POST /api/{_NAME}/preupload/main", _Handler.preupload),
    (rf"POST /api/{_NAME}/commit/main", _Handler.commit),
    (r"POST /(?:datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"PUT /lfs/(\w+)", _Handler.lfs_put),
    (rf"GET /api/{_NAME}(?:/revision/[^/]+)?", _Handler.info),
    (rf"GET /api/{_NAME}/tree/[^/]+(?:/(.+))?", _Handler.tree),
    (rf"POST /api/{_NAME}/paths-info/[^/]+", _Handler.paths_info),
    (r"(?:GET|HEAD) /(?:(datasets)/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", _Handler.resolve),
]
