"""Load on one address from a process of its own: raw sockets, so that it is never the bottleneck.

Prints answers per second. Usage: `python load.py HOST PORT CONNECTIONS SECONDS CPU`, the request
on standard input; CPU is -1 for any.
"""

import os
import select
import socket
import sys
import time


def read_answer(connection: socket.socket) -> int:
    """Read one whole answer; return its size. Ends the process if it is not a 200."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"the server answered {head.splitlines()[0].decode()}")
    length = next(
        int(line.partition(b":")[2])
        for line in head.splitlines()
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return len(head) + 4 + length


def main(host: str, port: int, connections: int, seconds: float, cpu: int) -> None:
    """Keep one request under way on every connection until the time is over."""
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    request = sys.stdin.buffer.read()
    poller = select.epoll()
    open_connections = {}
    expected = 0
    for _ in range(connections):
        connection = socket.create_connection((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        expected = read_answer(connection)
        poller.register(connection.fileno(), select.EPOLLIN)
        open_connections[connection.fileno()] = connection
    missing = dict.fromkeys(open_connections, expected)
    for connection in open_connections.values():
        connection.send(request)
    answers = 0
    began = time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        for number, _ in poller.poll(1.0):
            connection = open_connections[number]
            received = connection.recv(65536)
            if not received:
                sys.exit(f"the server closed a connection after {answers:,} answers on all of them")
            missing[number] -= len(received)
            if missing[number] == 0:  # all answers are alike, so the size tells where one ends
                answers += 1
                missing[number] = expected
                connection.send(request)
            elif missing[number] < 0:
                sys.exit("an answer has another size than the first one")
    print(answers / (time.perf_counter() - began))  # noqa: T201  # its result


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
