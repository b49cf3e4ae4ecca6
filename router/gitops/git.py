"""Runs the `git` program, so that a hostile repository or remote can do nothing but be refused.

Rules:
1. Arguments are a list; what comes from elsewhere stands behind `--` or `--end-of-options`.
2. No hook, no submodule, no pager, no prompt, no editor, no automatic housekeeping, no replaced objects, no file system
   monitor; remotes are reached by the protocols of an allow-list only, and reading reaches none at all.
3. Every call has a deadline, at which git dies with all the processes it started, and a cap on what it may print and
   on the size of any file that it may write.
4. Credentials come from where git users keep them: helpers, an ssh agent, `~/.netrc`. What git complains of is told
   without them.
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from router.clock import SystemClock
from router.config.problems import printable
from router.errors import OperatorError, RouterError, UpstreamError

READ_SECONDS = 20.0
FETCH_SECONDS = 60.0
MOST_OUTPUT = 64 * 1024 * 1024
MOST_WRITTEN = 512 * 1024 * 1024

REMOTES = "https:ssh:file"
NOWHERE = ""

_CLOCK = SystemClock()
_PIECE = 1 << 16
_SAFE = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.askPass=", "gc.auto=0",
    "maintenance.auto=false", "submodule.recurse=false", "fetch.recurseSubmodules=false", "fetch.fsckObjects=true",
    "transfer.fsckObjects=true", "credential.interactive=false", "protocol.ext.allow=never",
    "http.lowSpeedLimit=1", "http.lowSpeedTime=20", "http.followRedirects=initial",
)  # fmt: skip
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
              "XDG_CONFIG_HOME", "GNUPGHOME", "GIT_ASKPASS", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL",
              "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")  # fmt: skip
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class GitMissingError(OperatorError):
    """There is no git program here."""


class GitError(UpstreamError):
    """Git did not do what it was asked for."""


class Git:
    """Git on one repository.

    Args:
        repository: its working folder, or a bare repository's own.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository

    def read(self, *arguments: str, stdin: bytes = b"", timeout: float = READ_SECONDS) -> bytes:
        """What git prints; it reaches no remote. Raises GitError, or OperatorError where there is no git."""
        return _run(self.repository, arguments, stdin=stdin, timeout=timeout, protocols=NOWHERE)

    def fetch(self, *arguments: str, timeout: float = FETCH_SECONDS) -> bytes:
        """As `read`, by a command that may talk to a remote."""
        return _run(self.repository, arguments, stdin=b"", timeout=timeout, protocols=REMOTES)


def check_remote(url: str) -> str:
    """`url`, if it is a remote that may be read: https, ssh, file, or a path that begins with '/'.

    Raises:
        OperatorError: it is none, or holds a password.
    """
    shown = without_credentials(url)
    scheme = url.partition("://")[0] if "://" in url else ""
    scp = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:].*", url)
    if not url.isprintable() or url.startswith("-") or "::" in url.partition("/")[0]:
        raise OperatorError(f"{printable(shown[:80])!r} is no remote of git", hint=_FORMS)
    if scheme not in {"https", "ssh", "file"} and not scp and not url.startswith("/"):
        raise OperatorError(f"{shown[:80]!r} cannot be a source of configs", hint=_FORMS)
    if scheme == "https" and "@" in url[8:].partition("/")[0]:
        raise OperatorError(
            f"{shown[:80]!r} holds a user or password",
            hint="leave it out: git asks its credential helper, or ~/.netrc, for it",
        )
    if scheme == "ssh" and ((":" in url[6:].partition("@")[0] and "@" in url[6:]) or url[6:].startswith("-")):
        raise OperatorError(f"{shown[:80]!r} holds a password", hint="use a key, through ssh-agent or ~/.ssh/config")
    return url


_FORMS = "write https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, file:///PATH or /PATH"


def without_credentials(text: str) -> str:
    """`text` with what stands before '@' in its URLs taken out."""
    return _USERINFO.sub("", text)


def environment(environ: Mapping[str, str], protocols: str) -> dict[str, str]:
    """What git may know of our environment, and what holds it to rule 2."""
    kept = {name: environ[name] for name in _PASSED_ON if name in environ}
    kept.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=15")
    return kept | {
        "LC_ALL": "C.UTF-8",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ADVICE": "0",
        "SSH_ASKPASS_REQUIRE": "never",
    }


def _run(repository: Path, arguments: Sequence[str], *, stdin: bytes, timeout: float, protocols: str) -> bytes:
    command = ["git", "-C", str(repository), *(part for setting in _SAFE for part in ("-c", setting)), *arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(stdin)
        given.seek(0)
        try:
            child = subprocess.Popen(
                command, stdin=given, stdout=subprocess.PIPE, stderr=said,
                env=environment(os.environ, protocols), start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise GitMissingError("there is no git program", hint="install it: apt-get install git") from error
        try:
            with suppress(ProcessLookupError):
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (MOST_WRITTEN, MOST_WRITTEN))
            output = _output_of(child, arguments[0], _CLOCK.monotonic() + timeout, timeout)
        finally:
            _end(child)
        if child.returncode:
            said.seek(0)
            raise _told(arguments[0], child.returncode, said.read(8192))
    return output


def _output_of(child: subprocess.Popen[bytes], what: str, deadline: float, timeout: float) -> bytes:
    """All that it prints, until it ends."""
    pieces: list[bytes] = []
    size = 0
    out = child.stdout
    while out is not None:
        ready, _, _ = select.select([out], [], [], max(0.0, deadline - _CLOCK.monotonic()))
        piece = os.read(out.fileno(), _PIECE) if ready else None
        if piece is None:
            raise _late(what, timeout)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > MOST_OUTPUT:
            raise GitError(f"git {what} prints more than {MOST_OUTPUT >> 20} MiB: this is no repository of configs")
    try:
        child.wait(max(0.0, deadline - _CLOCK.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise _late(what, timeout) from error
    return b"".join(pieces)


def _late(what: str, timeout: float) -> RouterError:
    return GitError(f"git {what} took longer than {timeout:g} s", hint="is the remote reachable from here?")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Rule 3: the whole group, also where git itself has ended and a helper has not."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _told(what: str, code: int, said: bytes) -> RouterError:
    lines = [line.strip() for line in without_credentials(said.decode(errors="replace")).splitlines() if line.strip()]
    chosen = next(
        (line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))), lines[-1] if lines else ""
    )
    if code == -signal.SIGXFSZ:
        chosen = f"a file would have more than {MOST_WRITTEN >> 20} MiB: this is no repository of configs"
    return GitError(f"git {what} failed: {printable(chosen)[:300] or f'exit code {code}'}")
