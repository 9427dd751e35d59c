"""Postfix, as Debian has it, with a directory and a port of its own, and inboxes that the test reads."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.process import free_port, until
from tests.notifications.smtp import PASSWORD, USER, Arrived

_POSTFIX, _SASL = Path("/usr/sbin/postfix"), Path("/usr/sbin/saslpasswd2")
_MAILS_UID = 65534
_MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log
maillog_file_prefixes = {root}
myhostname = mx.test.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
alias_maps =
default_database_type = texthash
default_transport = error: this server delivers to nobody else
virtual_mailbox_domains = texthash:{root}/etc/domains
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = texthash:{root}/etc/users
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
smtpd_recipient_restrictions = check_recipient_access texthash:{root}/etc/access, reject_unauth_destination
smtpd_peername_lookup = no
smtputf8_enable = yes
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {root}/etc/cert.pem
smtpd_tls_key_file = {root}/etc/key.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
cyrus_sasl_config_path = {root}/etc/sasl
smtpd_client_restrictions = permit_sasl_authenticated, reject
"""
_SASL_CONF = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {root}/etc/sasldb2
mech_list: PLAIN LOGIN
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running Postfix. Each user has a directory of that name."""

    root: Path
    port: int

    @property
    def ca(self) -> Path:
        return self.root / "etc" / "ca.pem"

    @property
    def log(self) -> str:
        path = self.root / "log"
        return path.read_text("utf-8") if path.exists() else ""

    def mails(self, user: str) -> list[Arrived]:
        """Return what was delivered to a user, with the envelope as Postfix writes it into the mail."""
        arrived = []
        for path in sorted((self.root / "mail" / user / "new").glob("*")):
            content = path.read_bytes().replace(b"\n", b"\r\n")
            mail = Arrived("", "", content).message
            arrived.append(Arrived(mail["Return-Path"].strip("<>"), mail["Delivered-To"], content))
        return arrived


@contextmanager
def postfix(root: Path, users: Mapping[str, str], refused: Mapping[str, str]) -> Iterator[Postfix]:
    """Run Postfix, with users by address, and replies to recipients that it refuses.

    It requires TLS, and the user and password of `tests.notifications.smtp`. The test is skipped where it is
    not installed.
    """
    if not _POSTFIX.exists() or not _SASL.exists() or os.getuid():
        pytest.skip(
            "no Postfix: apt-get install postfix sasl2-bin libsasl2-modules, and run the tests as root"
        )
    server = Postfix(root, free_port())
    _write(server, users, refused)
    command = [str(_POSTFIX), "-c", str(root / "etc")]
    with (root / "out").open("wb") as out:
        process = subprocess.Popen([*command, "start-fg"], stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: "starting the Postfix mail system" in server.log or process.poll() is not None)
        assert process.poll() is None, (root / "out").read_text("utf-8") + server.log
        yield server
    finally:
        subprocess.run([*command, "stop"], check=True, capture_output=True)
        process.wait(30)


def _write(server: Postfix, users: Mapping[str, str], refused: Mapping[str, str]) -> None:
    root, etc = server.root, server.root / "etc"
    for name in ("etc/sasl", "queue", "data", "mail"):
        (root / name).mkdir(parents=True)
    shutil.chown(root / "data", "postfix")
    os.chown(root / "mail", _MAILS_UID, _MAILS_UID)
    authority = Authority()
    server.ca.write_bytes(authority.cert)
    authority.issue().write(etc / "cert.pem", etc / "key.pem")
    files = {
        "main.cf": _MAIN.format(root=root, uid=_MAILS_UID),
        "master.cf": _MASTER.format(port=server.port),
        "sasl/smtpd.conf": _SASL_CONF.format(root=root),
        "users": "".join(f"{address} {user}/\n" for address, user in users.items()),
        "domains": "".join(f"{domain} x\n" for domain in sorted({each.rpartition("@")[2] for each in users})),
        "access": "".join(f"{address} {reply}\n" for address, reply in refused.items()),
    }
    for name, text in files.items():
        (etc / name).write_text(text, "utf-8")
    subprocess.run(
        [_SASL, "-p", "-c", "-f", etc / "sasldb2", "-u", "mx.test.example", USER],
        input=PASSWORD.encode(),
        check=True,
    )
    (etc / "sasldb2").chmod(0o644)
