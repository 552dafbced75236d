"""Ports that hosts of one machine give to apps, each with a registry of its own."""

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from appapi_host.registry.ports import PORTS, PortBook


class Hosts:
    """Registries that hold nothing but what a book looks for, and the book they share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def registry(self, name: str, apps: dict[str, int]) -> Path:
        path = self.folder / f"{name}.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DROP TABLE IF EXISTS apps")
            connection.execute("CREATE TABLE apps (app_id TEXT, port INTEGER)")
            connection.executemany("INSERT INTO apps VALUES (?, ?)", apps.items())
        return path

    def book(self, registry: Path | None) -> PortBook:
        return PortBook(registry, folder=self.folder / "book")

    @contextmanager
    def pages(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / "book" / "ports.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection

    def age(self, seconds: float) -> None:
        with self.pages() as pages:
            pages.execute("UPDATE ports SET given = ?", (time.time() - seconds,))


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def test_the_lowest_port_that_can_be_bound_and_no_app_has_is_chosen(hosts: Hosts) -> None:
    book = hosts.book(None)
    first = book.choose("a", used=())
    assert first in PORTS
    assert book.choose("b", used={first}) > first
    with socket.create_server(("127.0.0.1", first)):
        assert book.choose("c", used=()) > first


def test_another_host_passes_over_a_port_from_the_moment_it_was_given(hosts: Hosts) -> None:
    one, two = hosts.registry("one", {}), hosts.registry("two", {})
    first = hosts.book(one).choose("a", used=())
    second = hosts.book(two).choose("a", used=())
    assert second > first
    assert hosts.book(one).choose("b", used={first}) > second


def test_a_port_that_somebody_chose_is_written_down_but_nobodys_is_taken_away(hosts: Hosts) -> None:
    one, two = hosts.registry("one", {}), hosts.registry("two", {})
    free = hosts.book(None).choose("a", used=())
    hosts.book(one).take("a", free)
    hosts.book(two).take("b", free)
    assert hosts.book(two).choose("b", used=()) > free
    hosts.book(one).give_back("a")
    assert hosts.book(two).choose("b", used=()) == free


def test_a_port_belongs_to_an_app_as_long_as_its_registry_says_so(hosts: Hosts) -> None:
    one, two = hosts.registry("one", {}), hosts.registry("two", {})
    first = hosts.book(one).choose("a", used=())
    hosts.registry("one", {"a": first})
    hosts.age(3600)
    assert hosts.book(two).choose("b", used=()) > first
    hosts.book(two).give_back("b")

    hosts.registry("one", {})  # its host was killed before it struck the port out
    assert hosts.book(two).choose("b", used=()) == first


@pytest.mark.parametrize("seconds", [0, -3600], ids=["just now", "in the future"])
def test_the_ports_of_a_host_whose_registry_is_gone_are_free(hosts: Hosts, seconds: float) -> None:
    one, two = hosts.registry("one", {}), hosts.registry("two", {})
    first = hosts.book(one).choose("a", used=())
    hosts.age(seconds)
    one.unlink()
    assert hosts.book(two).choose("b", used=()) == first


def test_a_registry_that_cannot_be_read_keeps_its_ports(hosts: Hosts) -> None:
    one, two = hosts.registry("one", {}), hosts.registry("two", {})
    first = hosts.book(one).choose("a", used=())
    hosts.age(3600)
    one.write_bytes(b"not a database" * 100)
    assert hosts.book(two).choose("b", used=()) > first


def test_where_other_hosts_have_all_ports_one_that_nobody_listens_on_is_shared(
    hosts: Hosts,
) -> None:
    apps = {f"app_{port}": port for port in PORTS}
    one, two = hosts.registry("one", apps), hosts.registry("two", {})
    for app_id, port in list(apps.items())[:1]:
        hosts.book(one).take(app_id, port)
    with hosts.pages() as pages:
        rows = [(port, str(one), app_id, time.time()) for app_id, port in apps.items()]
        pages.executemany("REPLACE INTO ports VALUES (?, ?, ?, ?)", rows)
    lowest = hosts.book(None).choose("b", used=())
    assert hosts.book(two).choose("b", used=()) == lowest


@pytest.mark.parametrize("book", ["a folder that others write to", "no folder", "no database"])
def test_a_book_that_cannot_be_used_keeps_nobody_from_choosing(hosts: Hosts, book: str) -> None:
    folder = hosts.folder / "book"
    if book == "no folder":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o700)
    if book == "no database":
        (folder / "ports.sqlite3").write_bytes(b"not a database" * 100)
    elif book == "a folder that others write to":
        folder.chmod(0o777)
    shared = hosts.book(hosts.registry("one", {}))
    port = shared.choose("a", used=())
    assert port == hosts.book(None).choose("a", used=())
    shared.take("a", port)
    shared.give_back("a")


def test_the_book_is_readable_by_nobody_else(hosts: Hosts) -> None:
    hosts.book(hosts.registry("one", {})).choose("a", used=())
    assert (hosts.folder / "book").stat().st_mode & 0o777 == 0o700
