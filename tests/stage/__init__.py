"""A stage for tests on a real kernel: two hosts, a stranger, and the link between them, all in namespaces of their own.

    host a (198.18.7.10, fd00:7::10) ──┐
    host b (198.18.7.20, fd00:7::20) ──┼── bridge `br0` in a namespace of its own, on which captures are made
    stranger (198.18.7.30, fd00:7::30) ┘

In every namespace the way out is called `eth0`. Names carry this process's id and a count, so that stages don't clash.
Everything here is synchronous, and works in synchronous and in asynchronous tests. Nothing sleeps for a fixed time:
`eventually(condition, what)` polls for up to 30 s, then fails with what was waited for.

Fixtures (import them into a conftest.py: `from tests.stage.fixtures import …`):

    stage       (function) bare hosts: no agent runs, nothing is enrolled
    pair        (module)   `Stage` with an agent on each host, both enrolled strict and in each other's directory
    permissive  (module)   the same with b permissive, for strangers
    pytest_runtest_makereport   puts nsenter lines and logs of agents and upgraders into the report of a failed test

`Stage`: `a`, `b` (`Host`), `stranger` (`Place`), `link` (the bridge's namespace), `folder`;
    `with stage.capture(filter="tcp") as wire:` a `Capture`;
    `stage.cover(mode_a="strict", mode_b="strict", **settings)` starts what agents do not run, enrols both hosts and
    makes them known to each other; `stage.introduce(host, to)` one line of a directory; `stage.close()`.

`Place` (a namespace with an address): `name`, `path` (of the namespace), `ipv4`, `ipv6`, `address(version)`;
    `run([...], input=None, check=True, seconds=30, env=None, cwd=None)` → CompletedProcess of bytes; on failure the
    error shows the nsenter line and all output;
    `spawn([...], ready=PORT | callable | None, name=None, env=None, cwd=None, user=None)` → `Process`, once it listens
    on the port; `listening(port)`, `socket(family, type)` a socket of this process made inside, `inside(function)`.

`Host(Place)`: `start_agent(*options)`, `stop_agent(signal=SIGTERM)`, `enrol(mode, name=None, identity=None,
    target=None, **settings)` → WorkloadReport, `unenrol(workload)`, `know(place, identity=None, …)` puts a place into
    its directory, `ask(lambda agent: agent.status())` any verb of AgentClient, `connections()` → list of `Connection`
    open now or ended since the agent's start, `told(**wanted)` waits for one that matches (`host.told(reason="mutual",
    direction="inbound")`), `upgrader()` process ids of broker and workers, `agent`, `folder`, `socket`, `identity`.

`Cluster(Stage)` (tests.stage.cluster): `a` and `b` are `Node(Host)`s (tests.stage.node), on which containers run: each
    has an /etc/cni, /opt/cni, /run, /var/lib/cni, /var/lib/containerd of its own, a bridge `cni0` and a network for
    pods, which all places of the stage reach by way of it. `node.file("/etc/cni/net.d")` is the node's file as the test
    sees it, `node.contained(…)` a command of which nothing outlives the node, `node.cgroup` where that is so.

`Process`: `pid`, `alive`, `output()`, `wait(seconds)`, `stop(signal)`, `send(signal)`, `says(text)` waits
    for a text in its output.

`Capture`: `contains(bytes)`, `streams()` {Flow: bytes}, `tls(port)` whether every stream of that port is TLS records
    only, `tshark(filter, *fields, decode_as=())` rows of fields, `path`.

`program("nginx")` is its whole path, `go_program("cnitool")` that of one that dev/go-programs builds; the test fails
where it is missing.

At its end a stage ends what it started, by process id, and fails the test where anything was left behind: a process in
one of its namespaces, a cgroup, or (where the agent was ended in order) a rule, a route or a sysctl that has changed.
"""

from tests.stage.capture import Capture
from tests.stage.deadline import DEADLINE, eventually
from tests.stage.host import Connection, Host
from tests.stage.place import Failed, Place
from tests.stage.process import Process
from tests.stage.programs import go_program, program
from tests.stage.stage import Stage

__all__ = [
    "DEADLINE",
    "Capture",
    "Connection",
    "Failed",
    "Host",
    "Place",
    "Process",
    "Stage",
    "eventually",
    "go_program",
    "program",
]
