"""Runs the real server on a folder of a lambda's files, and asks it over HTTP."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from pathlib import Path
from threading import Condition, Thread

RUNTIME = Path(__file__).resolve().parents[2] / "services/packager/runtime"
PATIENCE_SECONDS = 15
SERVING = re.compile(r"serving on http://127\.0\.0\.1:(\d+)")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Serving:
    """A lambda as a process: `files` maps names to contents, `environment` adds to the variables."""

    def __init__(self, files, arguments=(), **environment):
        self.folder = Path(tempfile.mkdtemp(prefix="lambda-test-"))
        shutil.copy(RUNTIME / "run.py", self.folder)
        shutil.copytree(RUNTIME / "luna_lambda_tools", self.folder / "luna_lambda_tools", ignore=skip_bytecode)
        for name, content in files.items():
            write(self.folder / name, content)
        self.lines = []
        self.grown = Condition()
        self.process = subprocess.Popen(
            [sys.executable, "run.py", "--port", "0", *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = Thread(target=self._read_lines)
        self.reader.start()

    def _environment(self, added):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBDA_", "PYTHON"))}
        temporary = self.folder / "tmp"
        temporary.mkdir()
        return {
            **inherited, "LAMBDA_HOST": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(temporary), **added,
        }

    def _read_lines(self):
        for line in self.process.stdout:
            with self.grown:
                self.lines.append(line.rstrip("\n"))
                self.grown.notify_all()
        with self.grown:
            self.grown.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.folder)

    @property
    def log(self):
        with self.grown:
            return "\n".join(self.lines)

    def wait_for_line(self, words, times=1):
        """Waits until that many lines hold the words."""
        with self.grown:
            found = self.grown.wait_for(lambda: self._count(words) >= times, PATIENCE_SECONDS)
        if not found:
            raise AssertionError(f"no {times} lines with {words!r} in:\n{self.log}")

    def _count(self, words):
        return sum(words in line for line in self.lines)

    def ready(self, workers=1):
        """Waits until that many workers serve."""
        self.wait_for_line("serving on", workers)
        self.port = int(SERVING.search(self.log).group(1))
        return self

    def ask(self, method="POST", path="/main", body=None, headers=None):
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, content, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def send_raw(self, content):
        """Sends bytes as they are; returns all bytes that come back until the server closes the connection."""
        with self.connect() as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def all_have_ended(self):
        """Whether, within our patience, no process is left that could print: neither the server nor a worker."""
        self.reader.join(PATIENCE_SECONDS)
        return not self.reader.is_alive()

    def exit_code(self):
        """Waits for the process and all it printed."""
        code = self.process.wait(PATIENCE_SECONDS)
        self.reader.join(PATIENCE_SECONDS)
        return code


def skip_bytecode(folder, names):
    return [name for name in names if name == "__pycache__"]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def lambda_of(code):
    """The files of a lambda that is nothing but its lambda_main.py."""
    return {"lambda_main.py": code}
