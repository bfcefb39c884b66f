"""A worker of the goridge protocol for tests: what it does is in the request's rpc method or client.

The body of a request is looked at for one directive, `do:NAME` or `do:NAME:ARGUMENT`; without one the
worker answers the body it was given.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib

CONTROL, ERROR = 0x01, 0x40
MORE, STOP, PING, PONG = 0x01, 0x02, 0x04, 0x08


class Line:
    """The relay that RR_RELAY names."""

    def __init__(self):
        # What one read has brought beyond what was asked for, and how often a frame came in pieces.
        self.buffer, self.pieces = b"", 0
        relay = os.environ.get("RR_RELAY", "pipes")
        if relay == "pipes":
            self.read, self.write = 0, 1
            return
        if relay.startswith("tcp://"):
            host, port = relay[6:].rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(relay[7:])
        self.read = self.write = self.socket.fileno()

    def take(self, count):
        while len(self.buffer) < count:
            if self.buffer or self.within:
                self.pieces += 1
            more = os.read(self.read, 65536)
            if not more:
                raise EOFError
            self.buffer += more
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def put(self, data):
        while data:
            data = data[os.write(self.write, data):]

    def frame(self):
        self.within = False
        head = self.take(12)
        self.within = True
        if zlib.crc32(head[:6]) != struct.unpack("<I", head[6:10])[0]:
            raise ValueError("a bad checksum from the host")
        options = [struct.unpack("<I", self.take(4))[0] for _ in range((head[0] & 15) - 3)]
        payload = self.take(struct.unpack("<I", head[2:6])[0])
        return head[1], head[10], options, payload


def frame(flags, payload, options=(), stream=0, crc=None):
    version = int(os.environ.get("STANDIN_VERSION", "1"))
    head = bytes([version << 4 | (3 + len(options)), flags]) + struct.pack("<I", len(payload))
    crc = zlib.crc32(head) if crc is None else crc
    tail = struct.pack("<IBB", crc, stream, 0)
    return head + tail + b"".join(struct.pack("<I", it) for it in options) + payload


def answer(body, context=b"", stream=0):
    return frame(0, context + body, [len(context)], stream)


def length(head):
    """Bytes of the frame that begins so."""
    return 12 + 4 * ((head[0] & 15) - 3) + struct.unpack("<I", head[2:6])[0]


def call_back(call):
    """What comes back of a frame, in hexadecimal digits, to the server that RR_RPC names."""
    host, port = os.environ["RR_RPC"][6:].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as other:
        other.sendall(bytes.fromhex(call))
        back = b""
        while len(back) < 12 or len(back) < length(back):
            more = other.recv(65536)
            if not more:
                break
            back += more
        return back


def rpc(data):
    """The response of an rpc with this data."""
    return field(1, field(1, data))


def field(number, value):
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def main():
    start = os.environ.get("STANDIN_START", "")
    if start == "silent":
        time.sleep(3600)
    if start.startswith("slow:"):
        time.sleep(float(start[5:]) / 1000)
    if start.startswith("meet:"):
        # Not up before so many have been started beside it: each leaves a file in that folder.
        _, count, folder = start.split(":", 2)
        open(os.path.join(folder, str(os.getpid())), "x").close()
        while len(os.listdir(folder)) < int(count):
            time.sleep(0.005)
    if start == "exit":
        sys.stderr.write("broken from the start\n")
        sys.exit(3)
    if start == "noise":
        os.write(1, b"\nWarning: something in /app/w.php on line 3\n")
    if start.startswith(("file:", "state:")):
        # Broken as long as the file says so, and not up before it says something else than to wait, or
        # that one may come up and this is the first to read it.
        path = start.split(":", 1)[1]
        while True:
            with open(path) as file:
                state = file.read().strip()
            if state == "broken":
                sys.exit(4)
            if state == "hang":
                time.sleep(3600)
            if state == "one":
                try:
                    open(path + ".one", "x").close()
                    break
                except FileExistsError:
                    pass
            elif state != "wait":
                break
            time.sleep(0.005)
    line = Line()
    log = os.environ.get("STANDIN_LOG")

    def note(text):
        if log:
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {text}\n")

    note("up " + json.dumps({k: v for k, v in os.environ.items() if k.startswith(("RR_", "FOO"))}))
    served = 0
    hold = []
    while True:
        try:
            flags, stream, options, payload = line.frame()
        except EOFError:
            if os.environ.get("STANDIN_EOF") == "spin":
                while True:
                    pass
            sys.exit(255)
        if stream & (STOP | PONG):
            continue
        if flags & CONTROL:
            control = json.loads(payload)
            if control.get("stop"):
                if start == "ignore-stop":
                    continue
                note("stop")
                sys.exit(0)
            pid = int(os.environ.get("STANDIN_PID", os.getpid()))
            if start == "no-control":
                line.put(frame(0, json.dumps({"pid": pid}).encode()))
            elif start == "control-json":
                line.put(frame(CONTROL | 0x08, json.dumps({"pid": pid}).encode()))
            elif start == "no-json":
                line.put(frame(CONTROL, b"pid"))
            else:
                line.put(frame(CONTROL, json.dumps({"pid": pid}).encode()))
            continue
        context, body = payload[: options[0]], payload[options[0]:]
        served += 1
        found = re.search(rb"do:([a-z0-9-]+)(?::([0-9A-Za-z_./-]+))?", body)
        name = found.group(1).decode() if found else "echo"
        argument = (found.group(2) or b"").decode() if found else ""
        note(f"got {name} {argument}")
        if name == "echo":
            line.put(answer(body))
        elif name == "hex":
            line.put(answer(bytes.fromhex(argument)))
        elif name == "sleep-hex":
            pause, rest = argument.split(".")
            time.sleep(float(pause) / 1000)
            line.put(answer(bytes.fromhex(rest)))
        elif name == "rpc-context":
            line.put(answer(rpc(context)))
        elif name == "rpc-body":
            line.put(answer(rpc(body)))
        elif name == "rpc-env":
            line.put(answer(rpc(json.dumps(dict(os.environ)).encode())))
        elif name == "rpc-owner":
            owner = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}
            line.put(answer(rpc(json.dumps(owner).encode())))
        elif name == "rpc-call":
            line.put(answer(rpc(call_back(argument))))
        elif name == "rpc-throw":
            # An error answer as an exception, with the SDK's words.
            back = call_back(argument)
            options = struct.unpack("<II", back[12:20])
            text = back[20 + options[1]:].decode()
            thrown = f"Error '{text}' on {os.environ['RR_RPC']}"
            line.put(answer(rpc(thrown.encode() if back[1] & ERROR else b"no error")))
        elif name == "rpc-orphan":
            # Its parent is gone at once; it ends by itself.
            subprocess.run(["sh", "-c", f"sleep {argument} >&2 &"], check=True)
            line.put(answer(rpc(b"left")))
        elif name == "pieces":
            line.put(answer(str(line.pieces).encode()))
        elif name == "frame":
            seen = {"flags": flags, "stream": stream, "options": options, "context": len(context)}
            line.put(answer(json.dumps(seen).encode()))
        elif name == "codec":
            codec = int(argument)
            line.put(frame(codec, b"header" + body, [6]))
        elif name == "spin":
            until = time.process_time() + float(argument) / 1000
            while time.process_time() < until:
                pass
            line.put(answer(body))
        elif name == "rpc-pid":
            line.put(answer(rpc(str(os.getpid()).encode())))
        elif name == "context":
            line.put(answer(context))
        elif name == "pid":
            line.put(answer(str(os.getpid()).encode()))
        elif name == "served":
            line.put(answer(str(served).encode()))
        elif name == "empty":
            line.put(answer(b""))
        elif name == "with-context":
            line.put(answer(b"body", b"header"))
        elif name == "soft":
            line.put(frame(ERROR, b"soft boom"))
        elif name == "drop":
            pass
        elif name == "twice":
            line.put(answer(body) + answer(b"for somebody else"))
        elif name == "sleep":
            time.sleep(float(argument) / 1000)
            line.put(answer(body))
        elif name == "exit":
            sys.stderr.write("leaving\n")
            sys.exit(int(argument or 0))
        elif name == "answer-and-exit":
            line.put(answer(body))
            sys.exit(0)
        elif name == "die":
            os.kill(os.getpid(), 9)
        elif name == "noise":
            os.write(line.write, b"oops, this is no frame at all: " + b"x" * 40 + b"\n")
        elif name == "print":
            os.write(1, b"oops, on stdout\n")
            line.put(answer(body))
        elif name == "noise-and-answer":
            os.write(line.write, b"oops\n")
            line.put(answer(body))
        elif name == "late-noise":
            line.put(answer(body))
            hold.append(subprocess.Popen(["sh", "-c", f"sleep {argument}; echo noise"]))
        elif name == "crc":
            line.put(frame(0, body, [0], crc=1))
        elif name == "no-options":
            line.put(frame(0, body))
        elif name == "two-options":
            line.put(frame(0, body, [0, 0]))
        elif name == "beyond":
            line.put(frame(0, body, [len(body) + 1]))
        elif name == "cut":
            line.put(answer(body)[:20])
            sys.exit(5)
        elif name == "stream":
            for _ in range(int(argument or 2)):
                line.put(answer(b"part", stream=MORE))
            line.put(answer(b"end"))
        elif name in ("ping", "ping-deaf"):
            line.put(answer(b"part", stream=MORE | PING))
            asked = 0
            # A deaf one takes whatever comes for the answer to its ping.
            while not (line_frame := line.frame())[1] & (STOP | PONG) and name == "ping":
                asked += line_frame[0] & CONTROL
            line.put(answer(b"end"))
            if asked:
                line.put(frame(CONTROL, json.dumps({"pid": os.getpid()}).encode()))
        elif name == "endless":
            while True:
                line.put(answer(b"part", stream=MORE))
        elif name == "replace":
            line.put(answer(b"", b'{"stop":true}'))
        elif name == "replace-once":
            if os.path.exists(argument):
                line.put(answer(str(os.getpid()).encode()))
            else:
                open(argument, "w").close()
                line.put(answer(b"", b'{"stop":true}'))
        elif name == "grow-until":
            # At work until there is that file.
            size, path = argument.split(".", 1)
            hold.append(bytearray(os.urandom(1024)) * (1024 * int(size)))
            while not os.path.exists(path):
                time.sleep(0.005)
            line.put(answer(body))
        elif name == "grow":
            hold.append(bytearray(os.urandom(1024)) * (1024 * int(argument)))
            line.put(answer(body))
        elif name == "child":
            child = subprocess.Popen(["sleep", "3600"])
            hold.append(child)
            line.put(answer(str(child.pid).encode()))
        elif name in ("grandchild", "grandchild-and-exit"):
            # It is told by this program's last argument and has all that its parent has open.
            loop = "while :; do sleep 3600; done"
            hold.append(subprocess.Popen(["sh", "-c", loop, sys.argv[-1]]))
            line.put(answer(body))
            if name == "grandchild-and-exit":
                sys.exit(0)
        elif name == "slowly":
            for byte in answer(body):
                line.put(bytes([byte]))
        elif name == "big":
            line.put(answer(b"x" * (int(argument) << 20)))
        elif name == "stderr":
            sys.stderr.write("y" * int(argument) + "\n")
            sys.stderr.flush()
            line.put(answer(body))
        else:
            line.put(frame(ERROR, f"unknown directive {name}".encode()))


main()
